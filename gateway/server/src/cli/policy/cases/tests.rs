use super::*;
use portcullis_policy::question::{Ask, Hook, Scope};
use portcullis_policy::smoke_question;
use portcullis_policy::verdict::{Denial, Effects, Narrowing, Reply};
use std::fs;

/// Reads cases from a file with this text.
fn cases(text: &str) -> Result<Vec<Case>, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cases.yaml");
    fs::write(&file, text).unwrap();
    read(&[file]).map_err(|failure| failure.to_string())
}

fn refusal(text: &str) -> String {
    cases(text).unwrap_err()
}

fn expectation(text: &str) -> Expectation {
    yaml_serde::from_str(text).unwrap()
}

fn differences(expected: &str, reply: Reply) -> Vec<String> {
    let told = expectation(expected).compare(&Ok(reply.into()));
    told.iter().map(|d| format!("{}: {} / {}", d.what, d.expected, d.found)).collect()
}

#[test]
fn a_case_has_its_own_settings_or_its_file_s() {
    let read = cases(
        "settings: { max: 1 }\ncases:\n- { name: a, hook: pull, expect: { verdict: deny } }\n- { name: b, hook: pull, settings: { max: 2 }, expect: { verdict: deny } }\n",
    );
    let settings: Vec<_> = read.unwrap().iter().map(|case| case.settings.clone().unwrap()).collect();
    assert_eq!(settings, [json!({ "max": 1 }), json!({ "max": 2 })]);
    let none = cases("cases: [{ name: a, hook: pull, expect: { verdict: deny } }]").unwrap();
    assert_eq!(none[0].settings, None);
    assert!(matches!(&none[0].question.ask, Ask::Pull { manifest: None, .. }));
}

#[test]
fn a_file_may_be_json() {
    let read = cases(r#"{ "cases": [{ "name": "a", "hook": "manifest-push", "expect": { "verdict": "abstain" } }] }"#);
    assert!(matches!(&read.unwrap()[0].question.ask, Ask::ManifestPush { .. }));
}

#[test]
fn a_mistake_is_told_with_its_place() {
    assert!(refusal("cases:\n- name: a\n  hok: pull\n  expect: { verdict: deny }\n").contains("unknown field `hok`"));
    assert!(refusal("cases: [{ name: a, expect: { verdict: deny } }]").contains("case `a`: `hook` is missing"));
    assert!(refusal("cases: [{ name: a, hook: pull }]").contains("missing field `expect`"));
    assert!(refusal("cases: [{ name: a, hook: pull, expect: { verdict: no } }]").contains("unknown variant"));
    assert!(refusal("cases: [").contains("cases.yaml"));
}

#[test]
fn a_policy_s_directory_is_told_from_one_of_cases() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.yaml"), "name: a").unwrap();
    let failure = read(&[directory.path().to_owned()]).unwrap_err();
    assert!(failure.to_string().contains("write --directory"), "{failure}");
}

#[test]
fn a_recorded_question_is_a_case() {
    for hook in Hook::ALL {
        let question = smoke_question(hook);
        let said = Said::from(Reply::Deny(Denial { message: "no".to_owned(), ..Denial::default() }));
        let written = recorded("as it was", &question, &said);
        let read = cases(&json!({ "settings": { "max": 1 }, "cases": [written] }).to_string()).unwrap();
        assert_eq!(read[0].question, question, "{hook:?}");
        assert_eq!(read[0].settings, Some(json!({ "max": 1 })));
        assert!(read[0].expect.compare(&Ok(said)).is_empty());
    }
}

#[test]
fn a_recorded_question_is_complete_in_itself() {
    let question = serde_json::to_value(smoke_question(Hook::Pull)).unwrap();
    let case = |more: Value| {
        let mut case = json!({ "name": "a", "question": question, "expect": { "verdict": "deny" } });
        case.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "cases": [case] }).to_string()
    };
    assert!(cases(&case(json!({ "hook": "pull" }))).is_ok());
    assert!(refusal(&case(json!({ "hook": "token" }))).contains("`hook` is token, but `question` is of pull"));
    assert!(refusal(&case(json!({ "target": {} }))).contains("`target` stands beside `question`"));
    assert!(refusal(&case(json!({ "question": { "ask": {} } }))).contains("`question`"));
}

#[test]
fn what_is_left_out_is_not_compared() {
    let denial = || Reply::Deny(Denial { message: "m".into(), code: Some("c".into()), detail_json: None });
    assert!(differences("verdict: deny", denial()).is_empty());
    assert!(differences("{ verdict: deny, message: m, code: c }", denial()).is_empty());
    assert_eq!(differences("{ verdict: deny, message: n }", denial()), ["message: n / m"]);
    assert_eq!(differences("{ verdict: deny, code: d }", denial()), ["code: d / c"]);
    assert_eq!(differences("{ verdict: abstain }", denial()), ["verdict: abstain / deny: m"]);
    assert_eq!(differences("{ verdict: abstain, message: m }", Reply::Abstain), ["message: m / nothing"]);
}

#[test]
fn effects_and_narrowings_are_compared() {
    let effects = Effects { warnings: vec!["w".into()], audit: vec![("k".into(), "v".into())], cache_ttl_s: Some(5) };
    let allow = || Reply::Allow(effects.clone());
    assert!(differences("{ verdict: allow, warnings: [w], audit: { k: v }, cache-ttl-s: 5 }", allow()).is_empty());
    assert_eq!(
        differences("{ verdict: allow, warnings: [], audit: {}, cache-ttl-s: 6 }", allow()),
        ["warnings: [] / [\"w\"]", "audit: [] / [[\"k\",\"v\"]]", "cache-ttl-s: 6 / 5"]
    );
    let scope = Scope { kind: "repository".into(), name: "acme/app".into(), actions: vec!["pull".into()] };
    let narrow = || Reply::Narrow(Narrowing { scopes: vec![scope.clone()], ttl_s: 60, effects: Effects::default() });
    assert!(differences("{ verdict: narrow, scopes: ['repository:acme/app:pull'], ttl-s: 60 }", narrow()).is_empty());
    assert_eq!(
        differences("{ verdict: narrow, scopes: [], ttl-s: 61 }", narrow()),
        ["scopes:  / repository:acme/app:pull", "ttl-s: 61 / 60"]
    );
}

#[test]
fn a_failure_is_no_verdict() {
    let failure = Failure { kind: FailureKind::Timeout, message: "too long".to_owned() };
    let told = expectation("verdict: deny").compare(&Err(failure));
    assert_eq!((told[0].what, told[0].found.as_str()), ("verdict", "failed: timeout: too long"));
}

#[test]
fn a_difference_that_cannot_be_seen_is_written_out() {
    let reply = Reply::Deny(Denial { message: "a\u{200b}".into(), ..Denial::default() });
    let told = expectation("{ verdict: deny, message: \"a\u{202e}\" }").compare(&Ok(reply.into()));
    assert_eq!((told[0].expected.as_str(), told[0].found.as_str()), ("\"a\\u{202e}\"", "\"a\\u{200b}\""));
}

#[test]
fn settings_faults_are_one_message() {
    let said = Said::invalid_settings(&["a: b".to_owned(), "c".to_owned()]);
    assert!(expectation("{ verdict: invalid-settings, message: 'a: b; c' }").compare(&Ok(said)).is_empty());
}

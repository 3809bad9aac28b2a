//! The author's way: new, build, test, check, bench, inspect, as a new author would go it.

use crate::guests;
use portcullis_tests::command::{Output, Run};
use portcullis_tests::gateway;
use portcullis_tests::guest::shipped;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

/// An author's own directory, with no configuration anywhere.
pub struct Desk {
    directory: TempDir,
}

impl Desk {
    pub fn new() -> Desk {
        Desk { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// With a policy in Rust that is as new as can be, and was built. All tests share the first build of what it is made with.
    pub fn with_built(name: &str) -> Desk {
        static BUILT: LazyLock<Desk> = LazyLock::new(|| {
            let desk = Desk::new();
            desk.policy("", &["new", "few-layers"]).succeeds();
            desk.build("few-layers");
            desk
        });
        let desk = Desk::new();
        Run::new("cp").args(["-a", "--"]).arg(BUILT.path("few-layers")).arg(desk.path(name)).succeeds();
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `portcullis policy …` in one of the author's directories.
    pub fn policy(&self, within: &str, args: &[&str]) -> Run {
        let run = Run::new(gateway::binary()).arg("policy").args(args).directory(&self.path(within));
        run.env("PORTCULLIS_POLICIES", guests::components()).limit(Duration::from_secs(120))
    }

    /// Builds a policy in Rust.
    pub fn build(&self, name: &str) -> Output {
        let build = self.policy(name, &["build", "--json"]).limit(Duration::from_secs(900));
        match guests::rustc() {
            Some(rustc) => build.env("RUSTC", rustc).succeeds(),
            None => build.succeeds(),
        }
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("an author's file")
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).expect("an author's file");
    }
}

fn level<'a>(checked: &'a Value, about: &str) -> Vec<&'a str> {
    let findings = checked["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["about"] == about).filter_map(|finding| finding["level"].as_str()).collect()
}

#[test]
fn a_new_policy_in_rust_is_built_tested_checked_measured_and_shown() {
    let desk = Desk::with_built("few-layers");
    let built = desk.build("few-layers").json();
    assert_eq!(built["component"], "few-layers.wasm");
    assert!(desk.path("few-layers/few-layers.wasm").is_file());

    let tested = desk.policy("few-layers", &["test"]).succeeds();
    assert!(tested.stdout.starts_with("3 passed, 0 failed\ncoverage: 3 of 4 verdicts"), "{tested}");
    assert!(tested.stdout.contains("no case reaches manifest-push allow"), "{tested}");

    let checked = desk.policy("few-layers", &["check", "--json"]).succeeds().json();
    assert_eq!(checked["ok"], true, "{checked}");
    for about in ["component", "structure", "world", "imports", "class", "describe", "hooks", "schema", "settings"] {
        assert_eq!(level(&checked, about), ["ok"], "{about}: {checked}");
    }
    assert_eq!(level(&checked, "first call").len(), 1, "{checked}");

    let measured = desk.policy("few-layers", &["bench", "--calls", "50", "--json"]).succeeds().json();
    let row = &measured["measured"][0];
    assert_eq!((row["hook"].as_str(), row["case"].as_str()), (Some("manifest-push"), Some("few layers pass")));
    assert!(row["fuel"].as_u64() > Some(0) && row["fresh"]["p99_us"].as_f64() >= row["fresh"]["p50_us"].as_f64());
    let named = ["bench", "--calls", "20", "--case", "many layers are refused"];
    assert!(desk.policy("few-layers", &named).succeeds().stdout.contains("many layers are refused"));

    for what in ["few-layers.wasm", "."] {
        let shown = desk.policy("few-layers", &["inspect", what, "--json"]).succeeds().json();
        assert_eq!((&shown["name"], &shown["digest"]), (&json!("few-layers"), &built["digest"]));
        assert_eq!(shown["hooks"], json!(["manifest-push"]));
        assert_eq!(shown["settings_schema"]["required"], json!(["max-layers"]));
    }
    let shown = desk.policy("few-layers", &["inspect"]).succeeds();
    assert!(shown.stdout.contains("max-layers  integer  yes"), "{shown}");
    what_differs_is_told(&desk);
}

/// Goes on with the policy that was built, since building takes long.
fn what_differs_is_told(desk: &Desk) {
    desk.write(
        "few-layers/cases/more.yaml",
        "cases:\n- name: two are too many\n  hook: manifest-push\n  settings: { max-layers: 1 }\n  manifest: { layers: [{}, {}] }\n  expect: { verdict: deny, message: \"too many\" }\n- name: it is asked at pull\n  hook: pull\n  expect: { verdict: abstain }\n- name: none may be\n  hook: manifest-push\n  expect: { verdict: invalid-settings }\n",
    );
    let tested = desk.policy("few-layers", &["test"]).fails();
    assert_eq!(tested.code, Some(1));
    for line in [
        "failed  cases/more.yaml: two are too many",
        "    - expected  too many",
        "    + found     image has 2 layers, limit 1",
        "    - expected  invalid-settings",
        "    + found     abstain",
        "3 passed, 3 failed",
    ] {
        assert!(tested.stdout.lines().any(|found| found == line), "{line:?} is missing\n{tested}");
    }
    let machine = desk.policy("few-layers", &["test", "--json", "cases/more.yaml"]).fails().json();
    assert_eq!((&machine["ok"], &machine["failed"]), (&json!(false), &json!(3)));
    assert_eq!(machine["cases"][1]["differences"][0]["what"], "hook");

    desk.write("few-layers/settings.yaml", "max-layers: many\nmin-layers: 1\n");
    let checked = desk.policy("few-layers", &["check", "--json"]).fails().json();
    assert_eq!((level(&checked, "settings"), level(&checked, "world")), (vec!["error"], vec!["ok"]), "{checked}");
}

#[test]
fn rules_for_shipped_policies_need_no_build() {
    let desk = Desk::new();
    for lang in ["rego", "cel"] {
        desk.policy("", &["new", lang, "--lang", lang]).succeeds();
        assert!(desk.policy(lang, &["build"]).succeeds().stdout.contains("nothing to build"));
        let tested = desk.policy(lang, &["test"]).succeeds();
        assert!(tested.stdout.starts_with("2 passed, 0 failed\ncoverage: 2 of 4 verdicts"), "{tested}");
    }
    let missing = desk.policy("rego", &["test"]).env("PORTCULLIS_POLICIES", desk.path("nowhere")).fails();
    assert!(missing.stderr.contains("nowhere/rego.wasm") && missing.stderr.contains("make policies"), "{missing}");
    let component = format!("name: rego\nlang: rego\ncomponent: {}\n", shipped("rego").display());
    desk.write("rego/policy.yaml", &component);
    desk.policy("rego", &["test"]).env("PORTCULLIS_POLICIES", desk.path("nowhere")).succeeds();
}

/// The SDK runs the same cases natively: the two readers of case files agree.
#[test]
fn the_cases_of_every_shipped_policy_hold_on_its_component() {
    let desk = Desk::new();
    let policies = fs::read_dir(guests::home().join("policies")).expect("the shipped policies");
    let mut seen = 0;
    for directory in policies.map(|entry| entry.expect("a policy").path()) {
        let name = directory.file_name().and_then(|name| name.to_str()).expect("a policy's name");
        let (component, directory) = (shipped(name), directory.display().to_string());
        let component = component.display().to_string();
        let tested = desk.policy("", &["test", "--directory", &directory, "--component", &component]).succeeds();
        assert!(tested.stdout.contains(" passed, 0 failed\n"), "{name}: {tested}");
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} policies are there");
}

#[test]
fn a_recorded_question_is_run_as_a_case() {
    let desk = Desk::new();
    desk.policy("", &["new", "mine", "--lang", "cel"]).succeeds();
    let layer = json!({ "digest": "sha256:00", "size": 1 });
    let layers: Vec<&Value> = std::iter::repeat_n(&layer, 21).collect();
    let ask = json!({ "manifest-push": { "target": { "repository": "acme/app" }, "manifest": { "layers": layers } } });
    let case = json!({
        "name": "as it was",
        "question": { "ask": ask },
        "expect": { "verdict": "deny", "message": "image has more than 20 layers" },
    });
    desk.write("mine/recorded.json", &json!({ "cases": [case] }).to_string());
    let tested = desk.policy("mine", &["test", "recorded.json"]).succeeds();
    assert!(tested.stdout.starts_with("1 passed, 0 failed"), "{tested}");
}

#[test]
fn wrong_usage_is_told_apart_from_what_is_refused() {
    let desk = Desk::new();
    for name in ["Few", "few_layers", "../few", ""] {
        assert_eq!(desk.policy("", &["new", name]).fails().code, Some(2), "{name}");
    }
    assert_eq!(desk.policy("", &["new", "a", "--lang", "cobol"]).fails().code, Some(2));
    desk.policy("", &["new", "a", "--lang", "cel"]).succeeds();
    assert_eq!(desk.policy("", &["new", "a"]).fails().code, Some(1));
    let nowhere = desk.policy("", &["test", "--json"]).fails();
    assert_eq!(nowhere.code, Some(1));
    let error: Value = serde_json::from_str(&nowhere.stderr).expect("an error in JSON");
    assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{nowhere}");
}

#[test]
fn what_is_no_policy_is_refused_with_what_to_do() {
    let desk = Desk::new();
    desk.write("empty.wasm", "\0asm\x01\0\0\0");
    desk.write("text.wasm", "no component");
    for file in ["empty.wasm", "text.wasm"] {
        let checked = desk.policy("", &["check", "--component", file]).fails();
        assert_eq!(checked.code, Some(1));
        assert!(checked.stdout.contains("error    ") && checked.stdout.contains("         → "), "{checked}");
        assert_eq!(desk.policy("", &["inspect", file]).fails().code, Some(1));
    }
}

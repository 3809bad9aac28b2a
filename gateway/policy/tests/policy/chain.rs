//! The chain: who is asked, in which order, and what of the answers counts; and generations under change.

use crate::guests::{engine, hostile, request, text, token, wrap};
use portcullis_oci::Digest;
use portcullis_policy::question::{Ask, Fact, Facts, Hook, Outcome, Question};
use portcullis_policy::{
    Answer, Attachment, Catalog, Failure, FailureKind, LoadError, Mode, OnError, Owner, Refusal, Reuse, Verdict,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A catalog with the bytes that its attachments name.
struct House {
    catalog: Catalog,
    bytes: HashMap<Digest, Arc<[u8]>>,
}

impl House {
    fn new() -> Self {
        Self { catalog: Catalog::new(engine()), bytes: HashMap::new() }
    }

    fn attachment(&mut self, name: &str, module: Vec<u8>) -> Attachment {
        let digest = Digest::sha256(&module);
        self.bytes.insert(digest.clone(), module.into());
        Attachment {
            name: name.to_owned(),
            order: 0,
            digest,
            settings: "{}".to_owned(),
            mode: Mode::Enforce,
            on_error: OnError::Deny,
            reuse: None,
            limits: None,
        }
    }

    fn attach(&self, owner: &Owner, attachments: &[Attachment]) -> Vec<(String, bool)> {
        let fetch = |digest: &Digest| self.bytes.get(digest).cloned().ok_or_else(|| "no such bytes".to_owned());
        let problems = self.catalog.replace(owner, attachments.to_vec(), &fetch);
        problems.into_iter().map(|problem| (problem.name, problem.last_good)).collect()
    }

    fn verdict(&self, question: &Question) -> Verdict {
        self.catalog.current().ask("acme", question, Instant::now()).verdict
    }
}

fn acme() -> Owner {
    Owner::Project("acme".into())
}

fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Deny(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// Refuses with a message.
fn denier(message: &str) -> Vec<u8> {
    let length = message.len();
    wrap(&format!(
        r#";; hooks: request
        (data (i32.const 4096) "{message}")
        (func $on-request (param $args i32) (result i32)
          (i32.store8 (i32.const 640) (i32.const 2))
          (i32.store (i32.const 644) (i32.const 4096))
          (i32.store (i32.const 648) (i32.const {length}))
          (i32.const 640))"#
    ))
}

/// Allows with one warning and, where it is not 0, a life.
fn warner(message: &str, life_s: u32) -> Vec<u8> {
    let (length, has_life) = (message.len(), u32::from(life_s > 0));
    wrap(&format!(
        r#";; hooks: request
        (data (i32.const 4096) "{message}")
        (func $on-request (param $args i32) (result i32)
          (i32.store (i32.const 700) (i32.const 4096))
          (i32.store (i32.const 704) (i32.const {length}))
          (i32.store8 (i32.const 640) (i32.const 1))
          (i32.store (i32.const 644) (i32.const 700))
          (i32.store (i32.const 648) (i32.const 1))
          (i32.store8 (i32.const 660) (i32.const {has_life}))
          (i32.store (i32.const 664) (i32.const {life_s}))
          (i32.const 640))"#
    ))
}

#[test]
fn a_hook_that_nobody_names_is_asked_of_nobody() {
    let mut house = House::new();
    let quiet = house.attachment("quiet", hostile("describes-another"));
    let wants = house.attachment("wants", wrap(";; hooks: pull\n;; wants: usage tag-digest"));
    house.attach(&acme(), &[quiet, wants]);
    let now = house.catalog.current();
    assert!(!now.asks("acme", Hook::Request) && now.asks("acme", Hook::Response) && now.asks("acme", Hook::Pull));
    assert!(!now.asks("globex", Hook::Response));
    assert!(now.wants("acme", Hook::Pull).contains(Fact::Usage) && now.wants("acme", Hook::Response).is_empty());
    assert_eq!(house.verdict(&request()), Verdict::Pass, "a guest that refuses where it is not asked is not heard");
    let Ask::Request(asked) = request().ask else { panic!("a request") };
    let ended = crate::guests::question(Ask::Response { request: asked, outcome: Outcome::default() });
    assert_eq!(house.verdict(&ended), Verdict::Pass);
}

#[test]
fn the_platform_is_asked_first_then_the_project_in_order_and_the_first_refusal_ends_it() {
    let mut house = House::new();
    let mut late = house.attachment("late", denier("late"));
    late.order = 2;
    let early = house.attachment("early", warner("early", 0));
    house.attach(&acme(), &[late.clone(), early.clone()]);
    let answer = house.catalog.current().ask("acme", &request(), Instant::now());
    assert_eq!(answer.warnings, ["early"]);
    let names: Vec<_> = answer.heard.iter().map(|heard| heard.policy.as_str()).collect();
    assert_eq!(names, ["early", "late"]);
    let refused = refusal(answer.verdict);
    assert_eq!((refused.policy.as_str(), refused.message.as_str()), ("late", "late"));
    assert_eq!((refused.owner, refused.digest, refused.failure), (acme(), late.digest, None));

    let first = house.attachment("first", denier("of the platform"));
    house.attach(&Owner::Platform, &[first]);
    let answer = house.catalog.current().ask("acme", &request(), Instant::now());
    assert_eq!(answer.heard.len(), 1);
    assert_eq!(refusal(answer.verdict).message, "of the platform");
    assert_eq!(
        refusal(house.catalog.current().ask("globex", &request(), Instant::now()).verdict).owner,
        Owner::Platform
    );
}

#[test]
fn monitor_mode_tells_and_counts_and_lets_pass() {
    let mut house = House::new();
    let mut watched = house.attachment("watched", denier("no"));
    watched.mode = Mode::Monitor;
    house.attach(&acme(), &[watched.clone()]);
    assert_eq!(house.verdict(&request()), Verdict::Pass);
    watched.mode = Mode::Enforce;
    assert!(house.attach(&acme(), &[watched]).is_empty());
    assert_eq!(refusal(house.verdict(&request())).message, "no");
    let status = house.catalog.current().status();
    assert_eq!((status[0].counts.would_deny, status[0].counts.denied), (1, 1), "counters outlive the change");
    assert!(status[0].counts.p99 > Duration::ZERO);
}

#[test]
fn a_failure_is_answered_by_on_error_and_counted_by_its_kind() {
    for (guest, kind) in [
        ("trap", FailureKind::Trap),
        ("memory-bomb", FailureKind::Memory),
        ("huge-string", FailureKind::Output),
        ("huge-list", FailureKind::Output),
        ("endless-loop", FailureKind::Timeout),
    ] {
        let mut house = House::new();
        let mut attached = house.attachment("bad", hostile(guest));
        house.attach(&acme(), &[attached.clone()]);
        let refused = refusal(house.verdict(&request()));
        assert_eq!(refused.failure, Some(kind), "{guest}");
        assert_eq!(refused.message, format!("the policy failed ({})", kind.name()));
        attached.on_error = OnError::Allow;
        house.attach(&acme(), &[attached]);
        assert_eq!(house.verdict(&request()), Verdict::Pass, "{guest}");
        let counts = &house.catalog.current().status()[0].counts;
        assert_eq!(counts.failures[kind.name()], 2, "{guest}");
        assert_eq!(counts.last_failure.as_ref().unwrap().kind, kind);
    }
}

/// Where nobody can be asked, and where one of them wants what could not be had.
#[test]
fn who_is_not_asked_has_failed_and_only_what_is_enforced_refuses() {
    let unread = Failure::new(FailureKind::Unreadable, "two keys");
    for (failure, mode, on_error, refuses) in [
        (Failure::new(FailureKind::Busy, "later"), Mode::Enforce, OnError::Deny, true),
        (Failure::new(FailureKind::Busy, "later"), Mode::Enforce, OnError::Allow, false),
        (Failure::new(FailureKind::Lookup, "gone"), Mode::Monitor, OnError::Deny, false),
        (unread.clone(), Mode::Enforce, OnError::Allow, true),
        (unread, Mode::Monitor, OnError::Deny, false),
    ] {
        let mut house = House::new();
        let curious = house.attachment("curious", wrap(";; hooks: request\n;; wants: usage"));
        let plain = house.attachment("plain", warner("asked", 0));
        let asked = Attachment { mode, on_error, ..curious };
        house.attach(&acme(), &[asked, Attachment { mode, on_error, ..plain }]);
        let mut question = request();
        let facts = Facts { failed: vec![(Fact::Usage, failure.clone())], ..Facts::default() };
        question.facts = facts.into();
        let current = house.catalog.current();
        let kind = |answer: &Answer| match &answer.verdict {
            Verdict::Deny(refusal) => refusal.failure,
            _ => None,
        };
        let expected = refuses.then_some(failure.kind);
        let all = current.fail("acme", Hook::Request, &failure);
        assert_eq!((kind(&all), all.heard.len()), (expected, if refuses { 1 } else { 2 }), "{failure}");
        let one = current.ask("acme", &question, Instant::now());
        assert_eq!(kind(&one), expected, "{failure}");
        assert!(one.heard[0].said.is_err(), "{failure}");
        assert_eq!(
            one.heard.get(1).map(|heard| heard.said.is_ok()),
            (!refuses).then_some(true),
            "who does not want it"
        );
        assert_eq!(current.status()[0].counts.failures[failure.kind.name()], 2);
        assert!(current.fail("acme", Hook::Token, &failure).heard.is_empty(), "who is not asked there has not failed");
    }
}

#[test]
fn scopes_wider_than_asked_are_a_failure_and_never_a_token() {
    let mut house = House::new();
    let mut wider = house.attachment("wider", hostile("wider-scopes"));
    house.attach(&acme(), &[wider.clone()]);
    assert_eq!(refusal(house.verdict(&token())).failure, Some(FailureKind::Output));
    wider.on_error = OnError::Allow;
    house.attach(&acme(), &[wider]);
    assert_eq!(house.verdict(&token()), Verdict::Pass, "what was granted is issued, no more");
}

#[test]
fn a_narrowing_within_what_is_granted_holds() {
    let mut house = House::new();
    let narrower = text("wider-scopes").replace("acme/**", "acme/app").replace("\"*\"", "\"pull\"");
    let narrower = narrower.replace(
        "(i32.const 728) (i32.const 4112))\n  (i32.store (i32.const 732) (i32.const 7))",
        "(i32.const 728) (i32.const 4112))\n  (i32.store (i32.const 732) (i32.const 8))",
    );
    let narrower = narrower.replace("(i32.const 704) (i32.const 1)", "(i32.const 704) (i32.const 4)");
    let narrower = house.attachment("narrower", wrap(&narrower));
    house.attach(&acme(), &[narrower]);
    let Verdict::Narrow { scopes, ttl_s } = house.verdict(&token()) else { panic!("not narrowed") };
    assert_eq!(
        (scopes[0].name.as_str(), scopes[0].actions.as_slice(), ttl_s),
        ("acme/app", &["pull".to_owned()][..], 300)
    );
}

#[test]
fn after_three_timeouts_a_policy_rests_and_a_rest_costs_nothing() {
    let mut house = House::new();
    let looping = house.attachment("looping", hostile("endless-loop"));
    house.attach(&acme(), &[looping]);
    let now = Instant::now();
    let kind = |now| refusal(house.catalog.current().ask("acme", &request(), now).verdict).failure.unwrap();
    for _ in 0..3 {
        assert_eq!(kind(now), FailureKind::Timeout);
    }
    for _ in 0..1_000 {
        assert_eq!(kind(now + Duration::from_millis(500)), FailureKind::Breaker);
    }
    let counts = &house.catalog.current().status()[0].counts;
    assert_eq!((counts.failures["timeout"], counts.failures["breaker"]), (3, 1_000));
    assert_eq!(kind(now + Duration::from_secs(2)), FailureKind::Timeout, "one call tries it");
    assert_eq!(kind(now + Duration::from_secs(3)), FailureKind::Breaker, "and it rests for twice as long");
}

#[test]
fn a_project_over_its_budget_is_sent_to_a_thread_and_its_neighbour_is_not() {
    let mut house = House::new();
    let mut looping = house.attachment("looping", hostile("endless-loop"));
    looping.limits = Some(portcullis_policy::CallLimits {
        cpu: Duration::from_millis(120),
        // However busy the machine is, it is the CPU time that ends this call.
        hard_stop: Duration::from_secs(60),
        ..portcullis_policy::CallLimits::default()
    });
    house.attach(&acme(), &[looping.clone()]);
    looping.name = "other".to_owned();
    house.attach(&Owner::Project("globex".into()), &[looping]);
    let (current, now) = (house.catalog.current(), Instant::now());
    assert!(!current.needs_thread("acme", Hook::Request, now));
    current.ask("acme", &request(), now);
    assert!(current.needs_thread("acme", Hook::Request, now));
    assert!(!current.needs_thread("acme", Hook::Token, now), "where it is not asked it costs nothing");
    assert!(!current.needs_thread("globex", Hook::Request, now));
    assert!(!current.needs_thread("acme", Hook::Request, now + Duration::from_secs(5)));
}

#[test]
fn a_broken_load_keeps_the_last_good_one_and_says_why() {
    let mut house = House::new();
    let good = house.attachment("gate", denier("good"));
    house.attach(&acme(), std::slice::from_ref(&good));
    let before = house.catalog.current();
    let broken = house.attachment("gate", hostile("trap-at-once"));
    assert_eq!(house.attach(&acme(), std::slice::from_ref(&broken)), [("gate".to_owned(), true)]);
    assert_eq!(refusal(house.verdict(&request())).message, "good");
    let status = &house.catalog.current().status()[0];
    assert_eq!((&status.digest, status.running.as_ref()), (&broken.digest, Some(&good.digest)));
    assert!(status.problem.as_ref().unwrap().contains("a first call failed: trap"), "{status:?}");
    assert!(before.number() < house.catalog.current().number());
    assert!(house.attach(&acme(), &[good]).is_empty());
    assert!(house.catalog.current().status()[0].problem.is_none());
    assert!(house.attach(&acme(), &[]).is_empty());
    assert_eq!(house.verdict(&request()), Verdict::Pass);
    assert_eq!(
        refusal(before.ask("acme", &request(), Instant::now()).verdict).message,
        "good",
        "a request keeps its own"
    );
}

#[test]
fn what_was_never_good_is_missing_and_refuses() {
    let mut house = House::new();
    let mut gone = house.attachment("gone", denier("never"));
    house.bytes.clear();
    assert_eq!(house.attach(&acme(), &[gone.clone()]), [("gone".to_owned(), false)]);
    assert_eq!(refusal(house.verdict(&request())).failure, Some(FailureKind::Missing));
    assert_eq!(refusal(house.verdict(&token())).failure, Some(FailureKind::Missing));
    gone.on_error = OnError::Allow;
    house.attach(&acme(), &[gone]);
    assert_eq!(house.verdict(&request()), Verdict::Pass);
}

#[test]
fn bytes_of_another_digest_are_not_loaded() {
    let mut house = House::new();
    let attached = house.attachment("swapped", denier("a"));
    house.bytes.insert(attached.digest.clone(), denier("b").into());
    assert_eq!(house.attach(&acme(), &[attached]), [("swapped".to_owned(), false)]);
}

#[test]
fn of_more_policies_than_allowed_the_rest_is_answered_by_its_on_error() {
    let mut house = House::new();
    let one = house.attachment("one", denier("a"));
    let many = (0..33).map(|number| Attachment { name: format!("p{number:02}"), ..one.clone() }).collect();
    let fetch = |_: &Digest| Err("not there".to_owned());
    let problems = house.catalog.replace(&acme(), many, &fetch);
    assert!(matches!(&*problems.last().unwrap().error, LoadError::TooMany(32)));
    let status = house.catalog.current().status();
    assert_eq!((status.len(), status[32].running.clone()), (33, None));
}

#[test]
fn a_verdict_with_a_life_is_remembered_for_the_same_question_alone() {
    let mut house = House::new();
    let warner = house.attachment("warner", warner("old", 30));
    house.attach(&acme(), &[warner]);
    let now = Instant::now();
    let ask = |question: &Question, now| {
        let answer = house.catalog.current().ask("acme", question, now);
        assert_eq!(answer.warnings, ["old"]);
        answer.heard[0].remembered
    };
    assert!(!ask(&request(), now));
    let mut same = request();
    (same.context.request_id, same.context.now_ms) = ("another".to_owned(), 99);
    assert!(ask(&same, now));
    let mut other = request();
    other.context.client_ip = "192.0.2.9".to_owned();
    assert!(!ask(&other, now));
    let mut push = request();
    if let Ask::Request(request) = &mut push.ask {
        request.operation = portcullis_policy::question::Operation::ManifestPush;
    }
    assert!(!ask(&push, now), "a remembered pull answers no push");
    assert!(!ask(&same, now + Duration::from_secs(30)), "its life is over");
    assert!(ask(&same, now + Duration::from_secs(31)));
    house.attach(&Owner::Project("globex".into()), &[]);
    assert!(!ask(&same, now + Duration::from_secs(31)), "another generation remembers nothing");
}

#[test]
fn a_refusal_is_told_on_one_plain_line() {
    let mut house = House::new();
    let loud = house.attachment("loud", denier("a\\0ab\\1b[31mc\\e2\\80\\ae"));
    house.attach(&acme(), &[loud]);
    let told = refusal(house.verdict(&request())).message;
    assert!(told.starts_with("a\u{fffd}b\u{fffd}[31mc"), "{told:?}");
    assert!(!told.chars().any(char::is_control));
}

#[test]
fn what_is_attached_a_thousand_times_is_loaded_once() {
    let mut house = House::new();
    let one = house.attachment("one", denier("a"));
    let reuse = Some(Reuse { calls: 10, life: Duration::from_secs(1) });
    let first = house.catalog.program(&one.digest, || Ok(denier("a").into())).unwrap();
    for project in 0..100 {
        let attached = Attachment { reuse, ..one.clone() };
        house.attach(&Owner::Project(format!("p{project}").into()), &[attached]);
    }
    assert_eq!(Arc::strong_count(&first), 101);
}

#[test]
fn a_question_survives_its_way_through_a_file() {
    for hook in [request(), token()] {
        let text = serde_json::to_string(&hook).unwrap();
        assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), hook);
    }
    let short = r#"{"ask": {"manifest-push": {"target": {"repository": "acme/app", "tags": ["1.0"]}, "manifest":
        {"annotations": {"org.example.team": "a"}, "layers": [{"size": 5, "stored-size": 6}]}}}, "facts": {"tag-digest": {}}}"#;
    let question: Question = serde_json::from_str(short).unwrap();
    assert_eq!(question.hook(), Hook::ManifestPush);
    let Ask::ManifestPush { manifest, .. } = question.ask else { panic!("a push") };
    assert_eq!(manifest.annotations, [("org.example.team".to_owned(), "a".to_owned())]);
    assert_eq!(manifest.layers[0].stored_size, Some(6));
    assert!(serde_json::from_str::<Question>(r#"{"ask": {"token": {"offlin": true}}}"#).is_err(), "typing errors show");
}

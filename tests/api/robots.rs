//! The command line for projects, robots and grants: what it does, what it refuses, how it says so, and what it never shows.

use portcullis_tests::command::Output;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::Manifest;
use portcullis_tests::persona::Robot;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const REFUSED: i32 = 1;
const WRONG_USAGE: i32 = 2;

/// Runs a command that has to end with this exit code, and says on standard error why.
#[track_caller]
fn ends_with(gateway: &Gateway, code: i32, args: &[&str]) -> Output {
    let output = gateway.command(args).run();
    assert_eq!(output.code, Some(code), "{output}");
    assert!(!output.stderr.trim().is_empty() && output.stdout.is_empty(), "{output}");
    output
}

fn may_log_in(gateway: &Gateway, who: &Credentials) -> bool {
    gateway.http().get("/v2/").with(who).send().status == 200
}

/// The robot in a list.
fn listed(gateway: &Gateway, username: &str) -> Value {
    let list = gateway.cli(&["robot", "list", "--json"]).json();
    let found = list.as_array().and_then(|robots| robots.iter().find(|robot| robot["username"] == username).cloned());
    found.unwrap_or_else(|| panic!("{username} is not in {list}"))
}

#[test]
fn projects_come_and_go_and_their_names_stay_reserved() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url()).set("store.stale_max_s", 5).start();
    let created = gateway.cli(&["project", "create", "acme", "--json"]).json();
    assert_eq!(
        (&created["name"], &created["public"], &created["upstream_prefix"]),
        (&"acme".into(), &false.into(), &"acme".into())
    );
    gateway.cli(&["--json", "project", "create", "commons", "--public", "--upstream-prefix", "tenants/commons"]);
    let names = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|p| p["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&gateway.cli(&["project", "list", "--json"]).json()), ["acme", "commons"]);
    let robot = gateway.robot("acme", "ci", &["--role", "admin"]);
    let image = Manifest::image(1, 100);
    gateway.repository("acme/app", &robot.credentials()).push("1", &image);
    let shown = gateway.cli(&["project", "show", "acme", "--json"]).json();
    assert_eq!(shown["robots"][0]["username"], "acme+ci");
    assert_eq!(shown["repositories"], serde_json::json!(["acme/app"]));

    for bad in ["", "Acme", "a/b", "../x", "acme*", "x-", "a b", &"x".repeat(65)] {
        ends_with(&gateway, REFUSED, &["project", "create", bad]);
    }
    ends_with(&gateway, REFUSED, &["project", "create", "acme"]).says(&["taken"]);
    ends_with(&gateway, REFUSED, &["project", "show", "nobody"]).says(&["no project"]);
    ends_with(&gateway, REFUSED, &["project", "delete", "nobody", "--yes"]);
    // Nobody is asked where nobody is there.
    ends_with(&gateway, WRONG_USAGE, &["project", "delete", "acme"]).says(&["--yes"]);
    assert!(may_log_in(&gateway, &robot.credentials()));

    gateway.cli(&["project", "delete", "acme", "--yes"]);
    within(EFFECT, || (!may_log_in(&gateway, &robot.credentials())).then_some(()));
    assert_eq!(names(&gateway.cli(&["project", "list", "--json"]).json()), ["acme", "commons"]);
    ends_with(&gateway, REFUSED, &["project", "create", "acme"]).says(&["reserved"]);
    ends_with(&gateway, REFUSED, &["project", "create", "other", "--upstream-prefix", "acme", "--adopt"])
        .says(&["reserved"]);
    ends_with(&gateway, REFUSED, &["robot", "create", "acme", "ci", "--role", "pull"]);
    let kept = registry.repositories().join("acme/app/_manifests/tags/1");
    assert!(kept.exists(), "a deletion alone leaves the upstream as it is");
    let links = || -> Vec<_> {
        let layers = registry.repositories().join("acme/app/_layers/sha256");
        let digests = std::fs::read_dir(layers).into_iter().flatten().flatten();
        digests.map(|digest| digest.path().join("link")).collect()
    };
    assert!(links().iter().any(|link| link.is_file()), "a deletion alone leaves the blobs too");

    gateway.cli(&["project", "delete", "acme", "--purge", "--yes"]);
    assert_eq!(names(&gateway.cli(&["project", "list", "--json"]).json()), ["commons"]);
    assert!(!kept.exists(), "a purge deletes what was recorded");
    assert!(!links().iter().any(|link| link.is_file()), "a purge deletes the blobs too: {:?}", links());
    gateway.cli(&["project", "create", "acme", "--adopt"]);
    assert!(!may_log_in(&gateway, &robot.credentials()), "a robot of the old project logs in to the new one");
}

#[test]
fn prefixes_that_overlap_by_components_are_refused_and_others_are_not() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url()).start();
    let create =
        |name: &str, prefix: &str| gateway.command(&["project", "create", name, "--upstream-prefix", prefix]).run();
    assert_eq!(create("acme", "tenants/acme").code, Some(0));
    for (name, prefix) in
        [("a1", "tenants/acme"), ("a2", "tenants"), ("a3", "tenants/acme/deep"), ("a4", "tenants/acme/x/y")]
    {
        let output = create(name, prefix);
        assert_eq!(output.code, Some(REFUSED), "{output}");
        output.says(&["taken"]);
    }
    // The name is the prefix where none is given.
    ends_with(&gateway, REFUSED, &["project", "create", "tenants"]);
    for (name, prefix) in [("b1", "tenants/acme-corp"), ("b2", "tenants/acm"), ("b3", "tenant"), ("b4", "acme")] {
        let output = create(name, prefix);
        assert_eq!(output.code, Some(0), "{output}");
    }
    for bad in ["/tenants", "tenants/", "a//b", "../x", "A", "a/../b", "a%2fb"] {
        let output = create("bad", bad);
        assert_eq!(output.code, Some(REFUSED), "{output}");
    }
}

#[test]
fn what_the_upstream_holds_already_is_taken_over_only_on_request() {
    let registry = Registry::start();
    let upstream = registry.http();
    let image = Manifest::image(1, 100);
    for name in ["legacy/app", "shop-x/app"] {
        portcullis_tests::repository::Repository::new(&upstream, name, &Credentials::None).push("1", &image);
    }
    let gateway = Gateway::before(&registry.url()).set("upstream.isolation", "repository").start();
    ends_with(&gateway, REFUSED, &["project", "create", "legacy"]).says(&["--adopt"]);
    ends_with(&gateway, REFUSED, &["project", "create", "new", "--upstream-prefix", "legacy"]).says(&["--adopt"]);
    gateway.cli(&["project", "create", "shop"]);
    gateway.cli(&["project", "create", "legacy", "--adopt"]);
    let robot = gateway.robot("legacy", "ci", &["--role", "pull"]);
    gateway.repository("legacy/app", &robot.credentials()).pull("1", &image);
}

#[test]
fn a_robot_is_made_listed_stopped_and_deleted() {
    let scene = Scene::shared();
    let gateway = &scene.gateway;
    let robot = gateway.robot("acme", "worker", &["--role", "push", "--expires", "90d", "--from", "127.0.0.0/8,::1"]);
    assert_eq!(robot.username, "acme+worker");
    assert_eq!((robot.project.as_str(), robot.registry.as_str()), ("acme", gateway.authority()));
    assert!(robot.token.starts_with("pcr_") && robot.token.len() == 53, "no scanner would recognise {}", robot.token);
    assert!(may_log_in(gateway, &robot.credentials()));
    let shown = listed(gateway, "acme+worker");
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["role"], "push");
    assert_eq!(shown["source_networks"], serde_json::json!(["127.0.0.0/8", "::1/128"]));
    assert!(shown["expires_at"].is_string(), "{shown}");

    ends_with(gateway, REFUSED, &["robot", "create", "acme", "worker", "--role", "pull"]).says(&["already"]);
    ends_with(gateway, REFUSED, &["robot", "create", "nobody", "worker", "--role", "pull"]);
    for bad in ["Worker", "a+b", "a/b", ".a", "robot$x"] {
        ends_with(gateway, REFUSED, &["robot", "create", "acme", bad, "--role", "pull"]);
    }
    ends_with(gateway, WRONG_USAGE, &["robot", "create", "acme", "other"]);
    ends_with(gateway, WRONG_USAGE, &["robot", "create", "acme", "other", "--role", "operator"]);
    ends_with(gateway, WRONG_USAGE, &["robot", "create", "acme", "other", "--role", "pull", "--grant", "acme/x=pull"]);
    ends_with(gateway, WRONG_USAGE, &["robot", "create", "acme", "other", "--role", "pull", "--expires", "soon"]);
    ends_with(gateway, WRONG_USAGE, &["robot", "create", "acme", "other", "--role", "pull", "--from", "10.1.2.3/8"]);
    for grant in ["acme*/app=pull", "**=pull", "acme=pull", "acme/app=fly", "acme/app", "acme/app="] {
        ends_with(gateway, WRONG_USAGE, &["robot", "create", "acme", "other", "--grant", grant]);
    }
    ends_with(gateway, REFUSED, &["robot", "create", "acme", "other", "--grant", "nobody/app=pull"]);

    let who = robot.credentials();
    gateway.cli(&["robot", "disable", "acme", "worker"]);
    within(EFFECT, || (!may_log_in(gateway, &who)).then_some(()));
    assert_eq!(listed(gateway, "acme+worker")["state"], "disabled");
    gateway.cli(&["robot", "enable", "acme", "worker"]);
    within(EFFECT, || may_log_in(gateway, &who).then_some(()));
    gateway.cli(&["robot", "delete", "acme", "worker"]);
    within(EFFECT, || (!may_log_in(gateway, &who)).then_some(()));
    for command in ["delete", "disable", "enable", "rotate"] {
        ends_with(gateway, REFUSED, &["robot", command, "acme", "worker"]).says(&["no robot"]);
    }
    let harbor = gateway.robot("acme", "harbor", &["--role", "pull", "--harbor"]);
    assert_eq!(harbor.username, "robot$acme+harbor");
    assert!(may_log_in(gateway, &harbor.credentials()));
}

#[test]
fn two_secrets_are_good_at_a_time_and_each_shows_its_last_use() {
    let scene = Scene::shared();
    let gateway = &scene.gateway;
    let rotate = |grace: &str| -> Robot {
        let output = gateway.cli(&["robot", "rotate", "acme", "turning", "--grace", grace, "--json"]).json();
        let field = |name: &str| output[name].as_str().unwrap_or_else(|| panic!("{name}: {output}")).to_owned();
        Robot {
            username: field("username"),
            token: field("token"),
            registry: field("registry"),
            project: field("project"),
        }
    };
    let secrets = || {
        let robot = listed(gateway, "acme+turning");
        robot["secrets"].as_array().cloned().unwrap_or_else(|| panic!("no secrets: {robot}"))
    };
    let used = |place: usize| secrets().get(place).is_some_and(|secret| secret["last_used_at"].is_string());
    let first = gateway.robot("acme", "turning", &["--role", "pull"]);
    assert!(!used(0), "it was not used yet");
    assert!(may_log_in(gateway, &first.credentials()));
    // Uses are written down every few seconds.
    let soon = Duration::from_secs(15);
    within(soon, || used(0).then_some(()));

    let second = rotate("1h");
    assert_ne!(first.token, second.token);
    within(EFFECT, || may_log_in(gateway, &second.credentials()).then_some(()));
    assert!(may_log_in(gateway, &first.credentials()), "the first secret ended before its grace");
    within(soon, || (used(0) && used(1)).then_some(()));
    assert!(secrets()[1]["expires_at"].is_string() && secrets()[0]["expires_at"].is_null());

    // A third one ends the first at once.
    let third = rotate("1h");
    assert_eq!(secrets().len(), 2);
    within(EFFECT, || (!may_log_in(gateway, &first.credentials())).then_some(()));
    assert!(may_log_in(gateway, &second.credentials()) && may_log_in(gateway, &third.credentials()));
    let fourth = rotate("0s");
    within(EFFECT, || (!may_log_in(gateway, &third.credentials())).then_some(()));
    assert!(!may_log_in(gateway, &second.credentials()) && may_log_in(gateway, &fourth.credentials()));
}

#[test]
fn a_foreign_grant_waits_for_consent_which_can_be_taken_back() {
    let scene = Scene::open();
    let gateway = &scene.gateway;
    gateway.repository("globex/base", &scene.globex.push.credentials()).push("1", &Manifest::image(1, 50));
    let grants = ["--grant", "acme/**=pull,push", "--grant", "globex/base=pull"];
    let who = gateway.robot("acme", "builder", &grants).credentials();
    let pulls = || gateway.repository("globex/base", &who).manifest("1").status == 200;
    assert!(!pulls());
    let list = gateway.cli(&["grant", "list", "globex", "--json"]).json();
    let [grant] = list.as_array().expect("a list").as_slice() else { panic!("one grant: {list}") };
    assert_eq!((&grant["robot"], &grant["consent"]), (&"acme+builder".into(), &"pending".into()));
    assert_eq!(gateway.cli(&["grant", "list", "acme", "--json"]).json(), serde_json::json!([]));
    let id = &gateway.foreign_grant("globex");
    assert_eq!(grant["id"], **id);

    gateway.cli(&["grant", "refuse", id]);
    assert!(!pulls());
    gateway.cli(&["grant", "accept", id]);
    within(EFFECT, || pulls().then_some(()));
    // The consent is for what was asked.
    gateway.repository("globex/app", &who).manifest("1").refused(401, "UNAUTHORIZED");
    gateway.repository("globex/base", &who).delete("1").refused(401, "UNAUTHORIZED");
    gateway.cli(&["grant", "refuse", id]);
    within(EFFECT, || (!pulls()).then_some(()));

    ends_with(gateway, REFUSED, &["grant", "accept", "nothing"]);
    ends_with(gateway, WRONG_USAGE, &["grant", "accept"]);
    let own = listed(gateway, "acme+owner")["grants"][0]["id"].as_str().expect("a text").to_owned();
    ends_with(gateway, REFUSED, &["grant", "refuse", &own]);
    assert!(may_log_in(gateway, &scene.acme.admin.credentials()));
}

#[test]
fn json_is_asked_for_before_or_after_the_command_and_failures_have_it_too() {
    let scene = Scene::shared();
    let gateway = &scene.gateway;
    let before = gateway.cli(&["--json", "project", "show", "acme"]);
    let after = gateway.cli(&["project", "show", "acme", "--json"]);
    assert_eq!(before.json()["id"], after.json()["id"]);
    assert_eq!(gateway.cli(&["project", "--json", "show", "acme"]).json()["id"], after.json()["id"]);
    for output in [
        ends_with(gateway, REFUSED, &["--json", "project", "show", "nobody"]),
        ends_with(gateway, REFUSED, &["project", "show", "nobody", "--json"]),
        ends_with(gateway, WRONG_USAGE, &["project", "shown", "--json"]),
        ends_with(gateway, WRONG_USAGE, &["robot", "create", "acme", "x", "--json"]),
    ] {
        let error: Value = serde_json::from_str(&output.stderr).unwrap_or_else(|e| panic!("{e}\n{output}"));
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{output}");
    }
    for wrong in
        [&["fly"][..], &["project"], &["project", "create"], &["robot", "rotate", "acme"], &["serve", "--fast"]]
    {
        ends_with(gateway, WRONG_USAGE, wrong);
    }
    let text = gateway.cli(&["project", "list"]).stdout;
    assert!(text.contains("acme") && serde_json::from_str::<Value>(&text).is_err(), "{text}");
}

#[test]
fn a_wrong_configuration_is_exit_code_2_for_every_command() {
    let registry = Registry::start();
    let mut gateway = Gateway::before(&registry.url()).stopped();
    gateway.set("tokens.life_s", 1);
    for command in [&["check-config"][..], &["project", "list"], &["robot", "list"], &["serve"], &["key", "rotate"]] {
        ends_with(&gateway, WRONG_USAGE, command).says(&["tokens.life_s"]);
    }
    gateway.set("tokens.life_s", 300);
    gateway.cli(&["check-config"]);
    let missing = gateway.command(&["project", "list", "--config", "/nonexistent/portcullis.toml"]).run();
    assert_eq!(missing.code, Some(WRONG_USAGE), "{missing}");
}

#[test]
fn a_secret_is_shown_once_and_kept_nowhere() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url()).start();
    gateway.cli(&["project", "create", "acme"]);
    let first = gateway.robot("acme", "ci", &["--role", "push"]);
    let text = gateway.cli(&["robot", "rotate", "acme", "ci"]).stdout;
    let start = text.find("pcr_").unwrap_or_else(|| panic!("the new secret is not shown: {text}"));
    let second = text[start..start + first.token.len()].to_owned();
    let answer =
        gateway.http().get("/token?offline_token=true&scope=repository:acme/app:pull").with(&first.credentials());
    let answer = answer.send().expect(200).json();
    gateway.repository("acme/app", &first.credentials()).push("1", &Manifest::image(1, 50));
    let wrong = Credentials::Basic("acme+ci".to_owned(), second.replace("pcr_", "pcr_x"));
    gateway.http().get("/v2/").with(&wrong).send().expect(401);
    gateway.http().get("/v2/").with(&Credentials::Bearer("not-a-token-but-remembered".to_owned())).send().expect(401);

    let mut secrets = vec![first.token.clone(), second, "not-a-token-but-remembered".to_owned()];
    secrets.extend(["token", "refresh_token"].map(|name| answer[name].as_str().expect("a token").to_owned()));
    for command in [
        &["robot", "list"][..],
        &["robot", "list", "acme", "--json"],
        &["project", "show", "acme"],
        &["project", "show", "acme", "--json"],
        &["robot", "disable", "acme", "ci"],
        &["robot", "enable", "acme", "ci", "--json"],
    ] {
        let output = gateway.cli(command);
        assert!(secrets.iter().all(|secret| !output.text().contains(secret.as_str())), "{output}");
    }
    let log = gateway.log();
    let metrics = gateway.management().get("/metrics").send().expect(200);
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
        assert!(!String::from_utf8_lossy(&metrics.body).contains(secret.as_str()), "a secret is in the metrics");
    }
    let mut files = 0;
    every_file(&gateway.data_dir(), &mut |path, bytes| {
        files += 1;
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret lies in clear in {}", path.display());
        }
    });
    assert!(files >= 2, "no store and no key in {}", gateway.data_dir().display());
}

fn every_file(directory: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(directory).expect("the gateway's own directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            every_file(&path, look);
        } else {
            look(&path, &std::fs::read(&path).unwrap_or_default());
        }
    }
}

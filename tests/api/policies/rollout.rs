//! From a command to its effect: within two seconds, on every node, without a restart; and what cannot be loaded changes nothing.

use super::{attach, denied, scene};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::guest::shipped;
use portcullis_tests::image::Manifest;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, House, Scene, within};
use serde_json::{Value, json};

/// Pushes an image of two layers under a new tag; the answer to its manifest.
fn push_two(repository: &Repository, tag: &str) -> u16 {
    let image = Manifest::image(2, 200);
    image.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
    repository.put_manifest(tag, &image).status
}

fn takes_effect(repository: &Repository, status: u16) {
    within(EFFECT, || (push_two(repository, "probe") == status).then_some(()));
}

#[test]
fn attach_change_and_detach_take_effect_on_every_node() {
    let registry = Registry::start();
    let one = House::open(Gateway::before(&registry.url()));
    let mut other = one.gateway.second_node();
    other.serve();
    let nodes = [one.acme("app"), other.repository("acme/app", &one.acme.admin.credentials())];
    let all = |status| nodes.iter().for_each(|node| takes_effect(node, status));
    all(201);
    attach(&one.gateway, "acme", "image-limits", &json!({"max-layers": 1}), &[]);
    all(403);
    attach(&one.gateway, "acme", "image-limits", &json!({"max-layers": 2}), &[]);
    all(201);
    attach(&other, "--platform", "image-limits", &json!({"max-layers": 1}), &[]);
    all(403);
    one.gateway.cli(&["policy", "detach", "--platform", "image-limits"]);
    all(201);
    one.gateway.cli(&["policy", "detach", "acme", "image-limits"]);
    one.gateway.command(&["policy", "detach", "acme", "image-limits"]).fails().says(&["no policy image-limits"]);
}

#[test]
fn monitor_mode_refuses_nothing_and_counts_what_it_would() {
    let scene = Scene::open();
    let repository = scene.acme("app");
    attach(&scene.gateway, "acme", "image-limits", &json!({"max-layers": 1}), &["--mode", "monitor"]);
    let would = || {
        let status = scene.gateway.cli(&["policy", "status", "acme", "--json"]).json();
        status["policies"][0]["running"]["verdicts"]["would_deny"].as_u64().unwrap_or_default()
    };
    within(EFFECT, || {
        assert_eq!(push_two(&repository, "1"), 201);
        (would() > 0).then_some(())
    });
    assert!(scene.gateway.log().contains("a policy in monitor mode would refuse"));
    let metrics = scene.gateway.management().get("/metrics").send().expect(200);
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("policy=\"image-limits\",verdict=\"would-deny\"} "), "{text}");
    // What is not said again stays as it was: here, the settings.
    let enforced = attaching_again(&scene.gateway, &["--mode", "enforce"]);
    assert_eq!((&enforced["mode"], &enforced["settings"]), (&"enforce".into(), &json!({"max-layers": 1})));
    takes_effect(&repository, 403);
    let shown = scene.gateway.cli(&["policy", "status"]);
    shown.says(&["image-limits"]).says(&["enforce"]);
}

fn attaching_again(gateway: &Gateway, options: &[&str]) -> Value {
    let attach = gateway.command(&["policy", "attach", "acme"]).arg(shipped("image-limits"));
    attach.args(options).arg("--json").succeeds().json()
}

#[test]
fn what_is_attached_is_in_force_from_the_first_request_after_a_start() {
    let mut scene = scene(|gateway| {
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &[]);
    });
    assert_eq!(push_two(&scene.acme("app"), "1"), 403);
    scene.house.gateway.stop();
    scene.house.gateway.serve();
    assert_eq!(push_two(&scene.acme("app"), "2"), 403);
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_reason_and_changes_nothing() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &[]);
    });
    let gateway = &scene.gateway;
    let no_policy = gateway.data_dir().join("none.wasm");
    std::fs::write(&no_policy, b"\0asm\x01\0\0\0").expect("our own directory");
    for (component, settings, name, says) in [
        (shipped("image-limits"), json!({"max-layers": "many"}), None, "max-layers"),
        (shipped("image-limits"), json!({"max-layer": 1}), None, "max-layer"),
        (shipped("image-limits"), json!({}), None, "has to be set"),
        (shipped("image-limits"), json!({"max-layers": 1}), Some("Image Limits"), "lower-case"),
        (no_policy, json!({}), None, "cannot be attached"),
        (gateway.config().to_owned(), json!({}), None, "cannot be attached"),
        (gateway.data_dir().join("missing.wasm"), json!({}), None, "no such file"),
    ] {
        let mut options = Vec::new();
        options.extend(name.iter().flat_map(|name| ["--name", name]));
        let output = gateway.attaching("acme", &component, settings, &options).fails();
        assert_eq!(output.code, Some(1), "{output}");
        output.says(&[says]);
    }
    let wrong = gateway.command(&["policy", "attach", "acme", "--platform"]).arg(shipped("naming")).fails();
    assert_eq!(wrong.code, Some(2), "{wrong}");
    gateway.command(&["policy", "attach", "nobody"]).arg(shipped("naming")).fails().says(&["nobody"]);
    let attached = gateway.cli(&["policy", "status", "--json"]).json();
    assert_eq!(attached["policies"].as_array().map(Vec::len), Some(1), "{attached}");
    assert_eq!(push_two(&scene.acme("app"), "1"), 403);
}

/// The command line may know of wider limits than a gateway that has not been restarted since.
#[test]
fn a_gateway_that_cannot_load_the_new_one_goes_on_with_the_last_good_one_and_says_so() {
    let mut scene = scene(|gateway| {
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &["--name", "limits"]);
    });
    let gateway = &mut scene.house.gateway;
    gateway.stop();
    gateway.set("policies.component_bytes", 400_000);
    gateway.serve();
    gateway.set("policies.component_bytes", 4_000_000);
    let settings = json!({"source": "package x\ndeny contains \"rego\" if { true }"});
    attach(gateway, "acme", "rego", &settings, &["--name", "limits"]);
    attach(gateway, "globex", "rego", &settings, &[]);
    attach(gateway, "globex", "rego", &settings, &["--name", "lenient", "--on-error", "allow"]);
    let status = |name: &str| {
        let status = scene.gateway.cli(&["policy", "status", "--json"]).json();
        let all = status["policies"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == name && one["running"]["problem"].is_string())
    };
    let limits = within(EFFECT, || status("limits"));
    assert!(limits["running"]["problem"].to_string().contains("more than the limit of 400000"), "{limits}");
    assert_ne!(limits["running"]["running"], limits["digest"], "the last good one runs");
    assert_eq!(push_two(&scene.acme("app"), "1"), 403);
    let image = Manifest::image(2, 200);
    image.blobs.iter().for_each(|blob| drop(scene.acme("app").put_blob(blob).expect(201)));
    let message = "policy limits of acme: image has 2 layers, limit 1";
    denied(scene.acme("app").put_manifest("2", &image), message);
    assert!(scene.gateway.log().contains("a policy cannot be loaded"));
    // Where there never was a good one, `on_error` answers.
    within(EFFECT, || status("rego").and(status("lenient")));
    let answer = scene.globex("app").request(http::Method::POST, "blobs/uploads/").send();
    denied(answer, "policy rego of globex: the policy failed (missing)");
    // What never loaded goes like any other.
    scene.gateway.cli(&["policy", "detach", "globex", "lenient"]);
    scene.gateway.cli(&["policy", "detach", "globex", "rego"]);
    within(EFFECT, || (push_two_if(&scene.globex("app")) == Some(201)).then_some(()));
}

/// The same as [`push_two`] where uploads may be refused too.
fn push_two_if(repository: &Repository) -> Option<u16> {
    let image = Manifest::image(2, 200);
    let taken = image.blobs.iter().all(|blob| repository.put_blob(blob).status == 201);
    taken.then(|| repository.put_manifest("probe", &image).status)
}

#[test]
fn policies_end_with_their_project() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &[]);
    });
    scene.gateway.cli(&["project", "delete", "acme", "--yes"]);
    let status = scene.gateway.cli(&["policy", "status", "--json"]).json();
    assert_eq!(status["policies"], json!([]), "{status}");
}

//! What these tests attach is what a gateway takes; and what it says of it.

use crate::traffic::among_others;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::guest;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a change may take to be in force on a machine that has much else to do.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

#[test]
fn guests_made_of_text_and_shipped_ones_are_attached_and_asked() {
    let _others = among_others();
    let scene = Scene::open();
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
    scene.gateway.attach("acme", &guest::hostile("trap"), json!({}), &["--name", "trap"]);
    let refused = within(EFFECT, || Some(repository.manifest("1.0")).filter(|answer| answer.status == 403));
    refused.refused(403, "DENIED");
    scene.gateway.cli(&["policy", "detach", "acme", "trap"]);
    scene.gateway.attach("--platform", &guest::shipped("naming"), json!({"forbidden-tags": ["latest"]}), &[]);
    within(EFFECT, || Some(repository.manifest("1.0")).filter(|answer| answer.status == 404));
    repository.push("1.0", &image);
    let refused = within(EFFECT, || Some(repository.put_manifest("latest", &image)).filter(|a| a.status == 403));
    assert!(refused.to_string().contains("policy naming of the platform"), "{refused}");
}

/// Counts to the number of its loops at every request, then lets it pass.
pub(crate) fn spinner(loops: u32) -> std::path::PathBuf {
    let body = format!(
        ";; hooks: request
        (func $on-request (param $args i32) (result i32)
          (local $left i32)
          (local.set $left (i32.const {loops}))
          (loop $again
            (i32.store (i32.const 600) (local.get $left))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
          (i32.const 512))"
    );
    guest::made("spinner", &body)
}

/// What the gateway says of a project's policy.
#[track_caller]
pub(crate) fn told(gateway: &Gateway, project: &str, name: &str) -> Option<Value> {
    let all = gateway.management().get("/policies").send().expect(200).json();
    let policies = all["policies"].as_array().expect("a list of policies").clone();
    policies.into_iter().find(|one| one["project"] == project && one["name"] == name)
}

/// Waits until a policy is in force as it was attached last.
#[track_caller]
pub(crate) fn in_force(gateway: &Gateway, project: &str, name: &str) {
    let runs = |one: &Value| one["problem"].is_null() && one["running"] == one["digest"];
    within(LONGEST, || told(gateway, project, name).filter(runs));
}

/// How often a policy has failed in this way.
#[track_caller]
pub(crate) fn failures(gateway: &Gateway, project: &str, name: &str, kind: &str) -> u64 {
    let told = told(gateway, project, name).expect("it is attached");
    told["failures"][kind].as_u64().unwrap_or(0)
}

/// How often it has failed, in whatever way.
#[track_caller]
pub(crate) fn all_failures(gateway: &Gateway, project: &str, name: &str) -> u64 {
    let told = told(gateway, project, name).expect("it is attached");
    told["failures"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

//! What leaves a record, and what stands in it.

use super::{SOON, found, only, whole};
use http::Method;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::guest;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::postgres::Postgres;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{House, Scene, within};
use serde_json::{Value, json};

/// A scene whose upstream keeps repositories apart, as the real registry does.
fn scene() -> Scene {
    Scene::with(|builder| builder.set("upstream.isolation", "repository"))
}

#[track_caller]
fn says(record: &Value, expected: Value) {
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&record[field], value, "{field} in {record:#}");
    }
    assert_eq!(record["node"].as_str().map(str::len), Some(12), "{record:#}");
}

#[test]
fn a_push_and_its_deletion_leave_a_record_each() {
    let scene = scene();
    let image = Manifest::image(1, 300);
    scene.acme("app").push("1.0", &image);
    says(
        &only(&scene.gateway, "push"),
        json!({
            "actor": "acme+owner", "address": "127.0.0.1", "project": "acme", "repository": "acme/app", "reference": "1.0",
            "digest": image.digest(), "outcome": "done", "times": 1,
        }),
    );
    let blobs = found(&scene.gateway, &["--kind", "blob-push", "--project", "acme", "--robot", "acme+owner"]);
    let mut digests: Vec<&str> = blobs.iter().filter_map(|record| record["digest"].as_str()).collect();
    let mut expected: Vec<&str> = image.blobs.iter().map(|blob| blob.digest.as_str()).collect();
    digests.sort_unstable();
    expected.sort_unstable();
    assert_eq!(digests, expected);

    scene.acme("app").put_manifest("2.0", &image).expect(201);
    scene.acme("app").delete("2.0").expect(202);
    says(
        &only(&scene.gateway, "tag-delete"),
        json!({"actor": "acme+owner", "reference": "2.0", "repository": "acme/app"}),
    );
    scene.acme("app").delete("2.0").expect(404);
    scene.acme("app").delete(image.digest()).expect(202);
    says(&only(&scene.gateway, "delete"), json!({"actor": "acme+owner", "reference": "1.0", "digest": image.digest()}));
    scene.acme("app").delete(image.digest()).expect(404);
    let blob = Blob::random(100);
    scene.acme("app").put_blob(&blob).expect(201);
    scene.acme("app").request(Method::DELETE, &format!("blobs/{}", blob.digest)).send().expect(202);
    says(&only(&scene.gateway, "blob-delete"), json!({"digest": blob.digest, "outcome": "done"}));
    assert_eq!(found(&scene.gateway, &["--kind", "tag-delete"]).len(), 1, "what was not there was not deleted");
    whole(&scene.gateway, &[]);
}

#[test]
fn deletions_of_what_only_the_upstream_knows_leave_a_record_each() {
    let scene = scene();
    let blob = Blob::random(100);
    let upstream = Repository::new(&scene.registry.http(), "acme/app", &Credentials::None);
    upstream.push("1.0", &Manifest::image(1, 300));
    upstream.put_blob(&blob).expect(201);
    let manifest = Manifest::image(1, 400);
    upstream.push("2.0", &manifest);
    let app = scene.acme("app");
    app.delete(manifest.digest()).expect(202);
    says(
        &only(&scene.gateway, "delete"),
        json!({"actor": "acme+owner", "repository": "acme/app", "digest": manifest.digest(), "outcome": "done"}),
    );
    app.delete("1.0").expect(202);
    says(
        &only(&scene.gateway, "tag-delete"),
        json!({"actor": "acme+owner", "repository": "acme/app", "reference": "1.0"}),
    );
    app.request(Method::DELETE, &format!("blobs/{}", blob.digest)).send().expect(202);
    says(
        &only(&scene.gateway, "blob-delete"),
        json!({"actor": "acme+owner", "repository": "acme/app", "digest": blob.digest, "outcome": "done"}),
    );
    whole(&scene.gateway, &[]);
}

#[test]
fn every_change_of_a_rule_leaves_a_record() {
    let gateway = Gateway::before("http://127.0.0.1:1").stopped();
    gateway.cli(&["project", "create", "acme", "--adopt", "--public"]);
    gateway.cli(&["project", "create", "globex", "--adopt"]);
    gateway.robot("acme", "ci", &["--grant", "acme/**=pull", "--grant", "globex/base=pull"]);
    gateway.cli(&["grant", "accept", &gateway.foreign_grant("globex")]);
    gateway.cli(&["grant", "refuse", &gateway.foreign_grant("globex")]);
    gateway.cli(&["robot", "rotate", "acme", "ci"]);
    gateway.cli(&["robot", "disable", "acme", "ci"]);
    gateway.cli(&["robot", "enable", "acme", "ci"]);
    gateway.cli(&["robot", "delete", "acme", "ci"]);
    gateway.cli(&["key", "rotate"]);
    gateway.cli(&["quota", "set", "acme", "20GiB", "--soft", "80%"]);
    gateway.cli(&["quota", "total", "2TiB"]);
    let request = |size: &str| {
        let asked = gateway.cli(&["quota", "request", "acme", size, "--reason", "games grow", "--json"]).json();
        asked["id"].as_str().expect("an id").to_owned()
    };
    gateway.cli(&["quota", "approve", &request("30GiB")]);
    gateway.cli(&["quota", "decline", &request("40GiB"), "--reason", "no"]);
    gateway.cli(&["maintenance", "on"]);
    gateway.cli(&["maintenance", "off"]);
    gateway.attach("acme", &guest::shipped("naming"), json!({"repositories": ["acme/*"]}), &["--name", "names"]);
    gateway.cli(&["policy", "detach", "acme", "names"]);
    gateway.cli(&["project", "delete", "globex", "--yes"]);

    // What was refused, or changed nothing, leaves none.
    gateway.command(&["project", "create", "acme", "--adopt"]).fails();
    gateway.command(&["robot", "delete", "acme", "nobody"]).fails();
    gateway.command(&["policy", "detach", "acme", "names"]).fails();
    gateway.cli(&["maintenance", "off"]);

    let mut records = found(&gateway, &[]);
    records.reverse();
    let kinds: Vec<&str> = records.iter().filter_map(|record| record["kind"].as_str()).collect();
    let expected = [
        "project-create",
        "project-create",
        "robot-create",
        "grant-accept",
        "grant-refuse",
        "robot-rotate",
        "robot-disable",
        "robot-enable",
        "robot-delete",
        "key-rotate",
        "quota-set",
        "quota-total",
        "quota-request",
        "quota-approve",
        "quota-request",
        "quota-decline",
        "maintenance-on",
        "maintenance-off",
        "policy-attach",
        "policy-detach",
        "project-delete",
    ];
    assert_eq!(kinds, expected);
    for record in &records {
        let actor = record["actor"].as_str().unwrap_or_default();
        assert!(actor.starts_with("operator ") && actor.contains("(uid "), "{record:#}");
        assert_eq!((&record["outcome"], &record["address"]), (&json!("done"), &Value::Null), "{record:#}");
    }
    let of = |kind: &str| records.iter().find(|record| record["kind"] == kind).expect("it is there");
    says(of("robot-create"), json!({"project": "acme", "reference": "acme+ci acme/**=pull globex/base=pull"}));
    says(of("grant-accept"), json!({"project": "globex", "reference": "acme+ci globex/base=pull"}));
    says(of("quota-set"), json!({"project": "acme", "reference": "20.0 GiB, soft 80 %"}));
    says(of("quota-decline"), json!({"project": "acme", "reason": "no"}));
    says(of("policy-attach"), json!({"project": "acme", "reference": "names enforce from naming.wasm"}));
    let verified = whole(&gateway, &[]);
    assert_eq!(verified["chains"][0]["verified"], expected.len(), "{verified:#}");
}

#[test]
fn denials_and_failed_logins_leave_records_and_first_challenges_do_not() {
    let scene = Scene::with(|builder| builder.set("upstream.isolation", "repository"));
    scene.gateway.http().get("/v2/").send().expect(401);
    scene.gateway.repository("acme/app", &Credentials::None).manifest("1.0").expect(401);
    let wrong = Credentials::Basic(scene.acme.push.username.clone(), scene.acme.pull.token.clone());
    scene.gateway.ask_token(&wrong, &["repository:acme/app:pull"]).expect(401);
    let failed = only(&scene.gateway, "login-failure");
    says(&failed, json!({"actor": "acme+pusher", "address": "127.0.0.1", "outcome": "refused", "times": 1}));
    assert!(failed["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{failed:#}");

    // A secret in the place of the name is not written down.
    let mixed_up = Credentials::Basic(scene.acme.push.token.clone(), scene.acme.push.username.clone());
    scene.gateway.ask_token(&mixed_up, &[]).expect(401);
    within(SOON, || (found(&scene.gateway, &["--kind", "login-failure"]).len() == 2).then_some(()));
    let all = scene.gateway.cli(&["audit", "search", "--json"]).stdout;
    assert!(all.contains("(a secret)") && !all.contains(&scene.acme.push.token), "{all}");

    // A token that covers less than its robot may have is no denial; the client asks for another.
    let token = scene.gateway.token(&scene.acme.push.credentials(), &["repository:acme/app:pull"]);
    scene.gateway.repository("acme/app", &token).request(Method::POST, "blobs/uploads/").send().expect(401);
    scene.gateway.repository("globex/app", &scene.acme.push.credentials()).manifest("1.0").expect(401);
    says(
        &only(&scene.gateway, "access-denial"),
        json!({"actor": "acme+pusher", "repository": "globex/app", "project": "globex", "reference": "1.0"}),
    );

    scene.gateway.attach("acme", &guest::shipped("image-limits"), json!({"max-layers": 1}), &[]);
    let image = Manifest::image(2, 300);
    image.blobs.iter().for_each(|blob| drop(scene.acme("app").put_blob(blob).expect(201)));
    within(SOON, || (scene.acme("app").put_manifest("1.0", &image).status == 403).then_some(()));
    let denied = within(SOON, || found(&scene.gateway, &["--kind", "policy-denial"]).pop());
    says(&denied, json!({"actor": "acme+owner", "repository": "acme/app", "project": "acme", "reference": "1.0"}));
    assert!(
        denied["reason"].as_str().is_some_and(|why| why.starts_with("policy image-limits of the project (sha256:")),
        "{denied:#}"
    );

    scene.gateway.set_quota("globex", 10);
    scene.globex("app").put_blob(&Blob::random(100)).refused(403, "DENIED");
    let denied = only(&scene.gateway, "quota-denial");
    says(&denied, json!({"actor": "globex+owner", "repository": "globex/app", "outcome": "refused"}));
    whole(&scene.gateway, &[]);
}

#[test]
fn a_push_past_the_soft_limit_is_written_down_once() {
    let scene = scene();
    scene.gateway.cli(&["quota", "set", "acme", "100KiB", "--soft", "10%"]);
    scene.acme("app").put_blob(&Blob::random(20_000)).expect(201);
    scene.acme("app").put_blob(&Blob::random(20_000)).expect(201);
    says(&only(&scene.gateway, "soft-limit"), json!({"project": "acme", "actor": "acme+owner", "outcome": "done"}));
}

#[test]
fn a_flood_of_failed_logins_is_a_few_records_whose_counts_are_its_size() {
    let scene = Scene::open();
    let wrong = Credentials::Basic(scene.acme.push.username.clone(), scene.acme.pull.token.clone());
    for _ in 0..200 {
        scene.gateway.ask_token(&wrong, &[]).expect(401);
    }
    let counts = within(SOON, || {
        let records = found(&scene.gateway, &["--kind", "login-failure", "--address", "127.0.0.1"]);
        let counts: Vec<u64> = records.iter().filter_map(|record| record["times"].as_u64()).collect();
        (counts.iter().sum::<u64>() >= 200).then_some(counts)
    });
    assert_eq!(counts.iter().sum::<u64>(), 200, "{counts:?}");
    assert!(counts.len() <= 12, "{counts:?}");
}

#[test]
fn records_outlive_their_project() {
    let scene = Scene::with(|builder| builder.set("store.stale_max_s", 2));
    scene.acme("app").push("1.0", &Manifest::image(1, 100));
    scene.gateway.cli(&["project", "delete", "acme", "--purge", "--yes"]);
    says(&only(&scene.gateway, "push"), json!({"project": "acme", "repository": "acme/app"}));
    says(&only(&scene.gateway, "project-purge"), json!({"project": "acme"}));
    whole(&scene.gateway, &[]);
}

#[test]
fn a_push_that_was_answered_is_on_record_though_the_gateway_was_killed() {
    let mut scene = Scene::open();
    let image = Manifest::image(1, 100);
    scene.acme("app").push("1.0", &image);
    scene.house.gateway.kill();
    says(&only(&scene.gateway, "push"), json!({"digest": image.digest()}));
    whole(&scene.gateway, &[]);
    scene.house.gateway.serve();
    scene.acme("app").push("2.0", &Manifest::image(1, 100));
    assert_eq!(found(&scene.gateway, &["--kind", "push"]).len(), 2);
    let verified = whole(&scene.gateway, &[]);
    assert_eq!(verified["chains"].as_array().map(Vec::len), Some(1), "the node is the same: {verified:#}");
}

#[test]
fn two_nodes_keep_a_chain_each_on_one_store() {
    let registry = Registry::start();
    let one = House::open(Gateway::before(&registry.url()).postgres(&Postgres::shared()));
    let mut other = one.gateway.second_node();
    other.serve();
    one.acme("app").push("1.0", &Manifest::image(1, 100));
    other.repository("acme/app", &one.acme.push.credentials()).push("2.0", &Manifest::image(1, 100));
    within(SOON, || {
        let verified = whole(&one.gateway, &[]);
        let counts: Vec<u64> =
            verified["chains"].as_array().into_iter().flatten().filter_map(|one| one["count"].as_u64()).collect();
        (counts.len() == 2 && counts.iter().all(|count| *count >= 3)).then_some(())
    });
    let pushes = found(&other, &["--kind", "push"]);
    assert_ne!(pushes[0]["node"], pushes[1]["node"], "{pushes:#?}");
}

#[test]
fn people_see_a_table_and_what_they_ask_for() {
    let gateway = Gateway::before("http://127.0.0.1:1").stopped();
    gateway.cli(&["audit", "tail"]).says(&["no record yet"]);
    gateway.persona_unasked("acme");
    let tail = gateway.cli(&["audit", "tail", "--lines", "2"]);
    let lines: Vec<&str> = tail.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{tail}");
    assert!(lines[0].starts_with("TIME") && lines[2].contains("acme+owner role admin"), "{tail}");
    assert_eq!(found(&gateway, &["--since", "1h"]).len(), 4);
    assert_eq!(found(&gateway, &["--until", "1h"]).len(), 0);
    assert_eq!(found(&gateway, &["--project", "globex"]).len(), 0);
    gateway.command(&["audit", "search", "--kind", "pusch"]).fails().says(&["login-failure"]);
    gateway.command(&["audit", "search", "--since", "yesterday"]).fails().says(&["2026-11-27"]);
}

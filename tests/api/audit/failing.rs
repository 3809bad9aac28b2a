//! Where the trail cannot be written: pulls go on, what must not happen unwritten does not, and nobody is left in the dark.

use super::{SOON, broken, found, only, whole};
use portcullis_tests::gateway::{Gateway, metric};
use portcullis_tests::http::Credentials;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::scene::{Scene, within};
use serde_json::{Value, json};

const AWAY: &str = "ALTER TABLE audit RENAME TO audit_away;";
const BACK: &str = "ALTER TABLE audit_away RENAME TO audit;";

/// What readiness says, once the upstream has been looked at.
#[track_caller]
fn ready(gateway: &Gateway) -> Value {
    within(SOON, || {
        let answer = gateway.management().get("/readyz").send();
        (answer.status == 200).then(|| answer.json())
    })
}

#[test]
fn pulls_go_on_readiness_turns_amber_and_what_waits_is_written_later() {
    let scene = Scene::open();
    let image = Manifest::image(1, 300);
    scene.acme("app").push("1.0", &image);
    within(SOON, || (ready(&scene.gateway)["audit"] == true).then_some(()));
    whole(&scene.gateway, &[]);
    scene.gateway.sql(AWAY);
    let wrong = Credentials::Basic(scene.acme.push.username.clone(), scene.acme.pull.token.clone());
    scene.gateway.ask_token(&wrong, &[]).expect(401);
    let amber = within(SOON, || Some(ready(&scene.gateway)).filter(|ready| ready["audit"] == false));
    assert_eq!((&amber["ready"], &amber["degraded"]), (&json!(true), &json!(["audit"])), "{amber}");
    within(SOON, || (metric(&scene.gateway.metrics(), "portcullis_audit_waiting", "") >= 1.0).then_some(()));
    scene.acme("app").pull("1.0", &image);
    // What cannot be written down is not done.
    scene.acme("app").put_blob(&Blob::random(100)).expect(503);
    scene.gateway.command(&["robot", "disable", "acme", "puller"]).fails();
    scene.acme("app").pull("1.0", &image);

    scene.gateway.sql(BACK);
    within(SOON, || (ready(&scene.gateway)["audit"] == true).then_some(()));
    only(&scene.gateway, "login-failure");
    assert_eq!(metric(&scene.gateway.metrics(), "portcullis_audit_lost_total", ""), 0.0);
    assert_eq!(metric(&scene.gateway.metrics(), "portcullis_audit_records_total", "kind=\"login-failure\""), 1.0);
    whole(&scene.gateway, &[]);
    what_nobody_can_read_is_told_and_stops_nothing(&scene);
}

fn what_nobody_can_read_is_told_and_stops_nothing(scene: &Scene) {
    assert_eq!(metric(&scene.gateway.metrics(), "portcullis_audit_whole", ""), 1.0);
    scene.gateway.sql(
        "INSERT INTO audit (id, node, at, kind, actor, outcome, times, mac) \
         SELECT 'put-in', node, 9223372036854775807, 'push', 'nobody', 'done', 1, 'none' FROM audit_chain;",
    );
    within(SOON, || (ready(&scene.gateway)["audit"] == false).then_some(()));
    let metrics = scene.gateway.metrics();
    assert_eq!(metric(&metrics, "portcullis_audit_changed_total", ""), 1.0);
    assert_eq!(metric(&metrics, "portcullis_audit_whole", ""), 0.0);
    broken(&scene.gateway, &[], "of node").says(&["push by nobody"]);
    scene.acme("app").push("2.0", &Manifest::image(1, 300));
    let pushes = within(SOON, || {
        let pushes = found(&scene.gateway, &["--kind", "push", "--robot", "acme+owner"]);
        pushes.iter().all(|push| push["sequence"].is_u64()).then_some(pushes)
    });
    assert_eq!(pushes.len(), 2, "{pushes:#?}");
}

#[test]
fn what_there_is_no_room_for_is_counted_and_told() {
    let scene = Scene::with(|builder| builder.set("audit.queue_records", 1));
    within(SOON, || (ready(&scene.gateway)["audit"] == true).then_some(()));
    scene.gateway.sql(AWAY);
    let wrong = Credentials::Basic(scene.acme.push.username.clone(), scene.acme.pull.token.clone());
    for _ in 0..3 {
        scene.gateway.ask_token(&wrong, &[]).expect(401);
    }
    assert_eq!(metric(&scene.gateway.metrics(), "portcullis_audit_lost_total", ""), 2.0);
    scene.gateway.sql(BACK);
    only(&scene.gateway, "login-failure");
    let amber = ready(&scene.gateway);
    assert_eq!(
        (&amber["audit"], &amber["degraded"]),
        (&json!(false), &json!(["audit"])),
        "a loss is remembered: {amber}"
    );
    assert!(scene.gateway.log().contains("audit records are lost"));
}

#[test]
fn what_waits_is_written_before_the_gateway_ends() {
    let mut scene = Scene::open();
    let wrong = Credentials::Basic(scene.acme.push.username.clone(), scene.acme.pull.token.clone());
    for _ in 0..20 {
        scene.gateway.ask_token(&wrong, &[]).expect(401);
    }
    scene.house.gateway.stop();
    let records = found(&scene.gateway, &["--kind", "login-failure"]);
    let times: u64 = records.iter().filter_map(|record| record["times"].as_u64()).sum();
    assert_eq!(times, 20, "{records:#?}");
}

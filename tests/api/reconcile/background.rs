//! The comparison in the background tells, and mends nothing.

use portcullis_tests::gateway::metric;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::{Scene, within};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn drift_is_told_in_metrics_and_log_and_is_left_as_it_is() {
    let scene = Scene::with(|builder| builder.set("quota.reconcile_every_s", 1));
    let drift = |kind: &str| metric(&scene.gateway.metrics(), "portcullis_reconcile_drift", kind);
    let image = Manifest::image(1, 1000);
    scene.registry.repository("acme/app").push("1.0", &image);
    within(SOON, || (drift("missing-in-ledger") == 3.0 && drift("wrong-tag") == 1.0).then_some(()));
    let warned = || scene.gateway.log().contains("the record differs from the upstream; `portcullis reconcile acme`");
    within(SOON, || warned().then_some(()));
    scene.acme("app").blob(&image.blobs[0].digest).expect(404);
    scene.gateway.cli(&["reconcile", "--repair"]);
    within(SOON, || (drift("kind=") == 0.0).then_some(()));
    let metrics = scene.gateway.metrics();
    assert!(metric(&metrics, "portcullis_reconcile_last_run_timestamp_seconds", "") > 1e9, "{metrics}");
    for kind in ["missing-in-ledger", "missing-upstream", "wrong-size", "wrong-tag", "wrong-counter"] {
        assert!(metrics.contains(&format!("portcullis_reconcile_drift{{kind=\"{kind}\"}} 0")), "{metrics}");
    }
    scene.acme("app").pull("1.0", &image);
}

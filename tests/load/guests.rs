//! What these tests attach is what a gateway takes.

use portcullis_tests::guest;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::json;

#[test]
fn guests_made_of_text_and_shipped_ones_are_attached_and_asked() {
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

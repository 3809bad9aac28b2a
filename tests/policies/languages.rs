//! Policies in JavaScript and Python: their cases on what was really built, and a gateway that asks them.

use crate::authoring::Desk;
use crate::guests;
use portcullis_tests::guest::shipped;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::{EFFECT, Scene, within};

#[test]
#[ignore = "needs what `cargo xtask languages` builds with npm and pip: make test-languages"]
fn policies_in_other_languages_hold_their_cases_and_are_asked_by_a_gateway() {
    let desk = Desk::new();
    for (name, language, settings) in [
        ("javascript-licences", "javascript", "allow: [MIT]\n"),
        ("python-base-images", "python", "allow: [registry.example/*]\n"),
    ] {
        let component = shipped(name).display().to_string();
        let directory = guests::home().join("languages").join(language).display().to_string();
        let tested = desk.policy("", &["test", "--directory", &directory, "--component", &component]).succeeds();
        tested.says(&[" 0 failed"]);
        let scene = Scene::open();
        desk.write("settings.yaml", settings);
        let attach = scene.gateway.command(&["policy", "attach", "acme", &component]).arg("--settings");
        attach.arg(desk.path("settings.yaml")).succeeds();
        let image = Manifest::image(1, 500);
        image.blobs.iter().for_each(|blob| drop(scene.acme("app").put_blob(blob).expect(201)));
        let refused = within(EFFECT, || {
            let answer = scene.acme("app").put_manifest("1", &image);
            (answer.status == 403).then(|| answer.json()["errors"][0]["message"].to_string())
        });
        assert!(refused.contains("of acme: ") && !refused.contains("failed"), "{name}: {refused}");
    }
}

//! Policies kept in the very registry that they guard.

use super::{attach, denied};
use http::Method;
use portcullis_tests::command::Run;
use portcullis_tests::guest::shipped;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::persona::Robot;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A login as `docker login` keeps it.
fn login(scene: &Scene, robot: &Robot) -> TempDir {
    let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
    let auth = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{}:{}", robot.username, robot.token),
    );
    let config = json!({"auths": {scene.gateway.authority(): {"auth": auth}}});
    std::fs::write(directory.path().join("config.json"), config.to_string()).expect("our own directory");
    directory
}

fn push(scene: &Scene, login: &TempDir, reference: &str, component: &str) -> Run {
    let reference = format!("{}/{reference}", scene.gateway.authority());
    scene
        .gateway
        .command(&["policy", "push", &reference])
        .arg(shipped(component))
        .arg("--ca")
        .arg(scene.gateway.ca())
        .arg("--json")
        .env("DOCKER_CONFIG", login.path())
}

#[test]
fn a_policy_is_pushed_attached_by_tag_and_outlives_its_artifact() {
    let mut scene = Scene::open();
    let login = login(&scene, &scene.acme.push);
    let pushed = push(&scene, &login, "acme/policies/limits:1", "image-limits").succeeds().json();
    let manifest = scene.acme("policies/limits").manifest("1").expect(200);
    assert_eq!(manifest.header("docker-content-digest"), pushed["digest"].as_str().unwrap_or_default());
    let manifest: Value = manifest.json();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json", "{manifest}");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm", "{manifest}");
    let config = scene.acme("policies/limits").blob(manifest["config"]["digest"].as_str().unwrap_or_default());
    let config: Value = config.expect(200).json();
    assert_eq!((&config["architecture"], &config["layerDigests"]), (&"wasm".into(), &json!([pushed["component"]])));

    let settings = tempfile::NamedTempFile::new().expect("the directory for temporary files is writable");
    std::fs::write(settings.path(), "max-layers: 1\n").expect("our own file");
    let attach = |reference: &str| {
        let attach = scene.gateway.command(&["policy", "attach", "acme", reference]);
        attach.arg("--settings").arg(settings.path()).arg("--json").succeeds().json()
    };
    let attached = attach("acme/policies/limits:1");
    assert_eq!(attached["digest"], pushed["component"], "{attached}");
    let source =
        format!("{}/acme/policies/limits@{}", scene.gateway.authority(), pushed["digest"].as_str().unwrap_or_default());
    assert_eq!(attached["source"], source.as_str(), "{attached}");
    let with_host =
        format!("{}/acme/policies/limits@{}", scene.gateway.authority(), pushed["digest"].as_str().unwrap_or_default());
    assert_eq!(attach(&with_host)["digest"], pushed["component"]);

    // The bytes are the store's: a deleted artifact bricks nobody.
    scene.acme("policies/limits").delete(pushed["digest"].as_str().unwrap_or_default()).expect(202);
    scene.house.gateway.stop();
    std::fs::remove_dir_all(scene.gateway.data_dir().join("policy-cache")).expect("it is a cache");
    scene.house.gateway.serve();
    let image = Manifest::image(2, 200);
    image.blobs.iter().for_each(|blob| drop(scene.acme("app").put_blob(blob).expect(201)));
    let message = "policy image-limits of acme: image has 2 layers, limit 1";
    denied(scene.acme("app").put_manifest("1", &image), message);
}

#[test]
fn who_may_not_push_pushes_no_policy_and_is_told() {
    let scene = Scene::open();
    let reader = login(&scene, &scene.acme.pull);
    push(&scene, &reader, "acme/policies/limits:1", "image-limits").fails().says(&["refuses", "denied", "credentials"]);
    let stranger = login(&scene, &scene.globex.push);
    push(&scene, &stranger, "acme/policies/limits:1", "image-limits").fails();
    let nobody = tempfile::tempdir().expect("the directory for temporary files is writable");
    let output =
        push(&scene, &nobody, "acme/policies/limits:1", "image-limits").env("REGISTRY_AUTH_FILE", "/none").fails();
    output.says(&["docker login"]);
    assert!(scene.acme("policies/limits").manifest("1").status == 404);
    // A policy on pushes speaks to whoever pushes a policy, too.
    attach(&scene.gateway, "acme", "naming", &json!({"repositories": ["acme/app"]}), &[]);
    let writer = login(&scene, &scene.acme.push);
    within(EFFECT, || {
        let output = push(&scene, &writer, "acme/policies/limits:1", "image-limits").run();
        output
            .text()
            .contains("policy naming of acme: repository acme/policies/limits matches none of acme/app")
            .then_some(())
    });
}

#[test]
fn a_refresh_token_that_docker_keeps_is_a_login() {
    let scene = Scene::open();
    let robot = &scene.acme.push;
    let form = [
        ("grant_type", "password"),
        ("access_type", "offline"),
        ("username", robot.username.as_str()),
        ("password", robot.token.as_str()),
    ];
    let refresh = scene.gateway.http().post("/token").form(&form).send().expect(200).json()["refresh_token"].clone();
    let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
    let config = json!({"auths": {scene.gateway.authority(): {"auth": "AA==", "identitytoken": refresh}}});
    std::fs::write(directory.path().join("config.json"), config.to_string()).expect("our own directory");
    push(&scene, &directory, "acme/policies/limits:1", "image-limits").succeeds();
}

#[test]
fn policies_come_from_the_projects_own_repositories_and_from_this_registry() {
    let scene = Scene::open();
    let theirs = login(&scene, &scene.globex.push);
    push(&scene, &theirs, "globex/policies/limits:1", "image-limits").succeeds();
    let image = Manifest::image(1, 200);
    scene.acme("app").push("1", &image);
    let rotten = Manifest::artifact("application/vnd.example", Blob::new("application/wasm", "no wasm at all"), None);
    scene.acme("policies/rotten").push("1", &rotten);
    let registry = scene.gateway.authority();
    for (reference, says) in [
        ("globex/policies/limits:1", "its own repositories"),
        ("acme/policies/none:1", "has no 1"),
        ("acme/app:1", "no policy"),
        ("acme/policies/rotten:1", "cannot be attached"),
        ("other.example/acme/policies/limits:1", "another registry"),
        ("nobody/policies/limits:1", "nobody"),
        (&format!("{registry}/globex/policies/limits:1"), "its own repositories"),
    ] {
        scene.gateway.command(&["policy", "attach", "acme", reference]).fails().says(&[says]);
    }
    let settings = tempfile::NamedTempFile::new().expect("the directory for temporary files is writable");
    std::fs::write(settings.path(), "max-layers: 1").expect("our own file");
    let platform = scene.gateway.command(&["policy", "attach", "--platform", "globex/policies/limits:1"]);
    platform.arg("--settings").arg(settings.path()).succeeds();
    // The gateway's own fetches are not screened by what it has attached.
    assert_eq!(scene.acme("app").request(Method::GET, "tags/list").send().status, 200);
}

#[test]
fn a_project_whose_policies_refuse_everything_attaches_and_detaches_all_the_same() {
    let scene = Scene::open();
    let login = login(&scene, &scene.acme.push);
    push(&scene, &login, "acme/policies/limits:1", "image-limits").succeeds();
    let nothing = json!({
        "hooks": ["token", "request", "manifest-push", "pull"],
        "expression": "false",
        "message": "nothing passes",
    });
    attach(&scene.gateway, "acme", "expression", &nothing, &[]);
    let pull = || scene.acme("policies/limits").manifest("1");
    let answer = within(EFFECT, || Some(pull()).filter(|answer| answer.status != 200));
    denied(answer, "policy expression of acme: nothing passes");

    // The gateway fetches what is attached itself, and asks nobody.
    let settings = tempfile::NamedTempFile::new().expect("the directory for temporary files is writable");
    std::fs::write(settings.path(), "max-layers: 9").expect("our own file");
    let another = scene.gateway.command(&["policy", "attach", "acme", "acme/policies/limits:1"]);
    another.arg("--settings").arg(settings.path()).succeeds();
    scene.gateway.cli(&["policy", "detach", "acme", "expression"]);
    within(EFFECT, || Some(pull()).filter(|answer| answer.status == 200));
}

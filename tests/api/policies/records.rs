//! What policies did and would do: recorded, replayed, scanned.

use super::{attach, scene};
use portcullis_tests::guest::shipped;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::within;
use serde_json::json;
use std::thread;
use std::time::Duration;

#[test]
fn real_questions_are_recorded_without_whose_they_were_and_replayed() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &["--mode", "monitor"]);
    });
    let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
    let file = directory.path().join("recorded.yaml");
    thread::scope(|scope| {
        let recording = scope.spawn(|| {
            let record = scene.gateway.command(&["policy", "record", "acme", "image-limits", "--count", "3"]);
            record.arg("--output").arg(&file).arg("--json").succeeds().json()
        });
        let (small, large) = (Manifest::image(1, 200), Manifest::image(2, 200));
        within(Duration::from_secs(50), || {
            scene.acme("app").push("small", &small);
            scene.acme("app").push("large", &large);
            scene.globex("app").push("foreign", &small);
            recording.is_finished().then_some(())
        });
        assert_eq!(recording.join().expect("it ends")["cases"], 3);
    });
    let text = std::fs::read_to_string(&file).expect("it was written");
    for secret in ["127.0.0.1", "Basic", "globex"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(text.contains("127.0.0.0") && text.contains("image has 2 layers, limit 1"), "{text}");
    let replay = |settings: &str| {
        let settings_file = directory.path().join("settings.yaml");
        std::fs::write(&settings_file, settings).expect("our own directory");
        let replay = scene.gateway.command(&["policy", "replay"]).arg(&file).arg("--component");
        replay.arg(shipped("image-limits")).arg("--settings").arg(settings_file)
    };
    replay("max-layers: 1").succeeds().says(&["3 passed, 0 failed"]);
    let changed = std::fs::read_to_string(&file).expect("it was written").replace("max-layers: 1", "max-layers: 2");
    std::fs::write(&file, changed).expect("our own directory");
    replay("max-layers: 1").fails().says(&["limit 1"]);
    let nothing = scene.gateway.command(&["policy", "record", "acme", "image-limits", "--wait", "1s"]);
    nothing.arg("--output").arg(&file).fails().says(&["was asked nothing"]);
    scene.gateway.command(&["policy", "record", "acme", "naming"]).fails().says(&["no policy naming is attached"]);
}

#[test]
fn a_scan_says_what_would_be_refused_of_all_that_is_stored() {
    let scene = scene(|gateway| {
        attach(gateway, "acme", "image-limits", &json!({"max-layers": 1}), &["--mode", "monitor"]);
    });
    let (small, large) = (Manifest::image(1, 200), Manifest::image(2, 200));
    scene.acme("app").push("small", &small);
    scene.acme("app").push("large", &large);
    scene.acme("deep/er").push("2.0", &large);
    scene.globex("app").push("large", &large);
    // What came before the gateway is found too: by the upstream's own door.
    let upstream = portcullis_tests::http::Http::new(&scene.registry.url(), None);
    let before = portcullis_tests::repository::Repository::new(
        &upstream,
        "acme/before",
        &portcullis_tests::http::Credentials::None,
    );
    before.push("old", &large);
    let found = scene.gateway.cli(&["policy", "scan", "acme", "--json"]).json();
    assert_eq!(
        (&found["manifests"], &found["repositories"], &found["refused"]),
        (&4.into(), &3.into(), &3.into()),
        "{found}"
    );
    let mut refused: Vec<String> = found["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{}:{} {}", one["repository"], one["what"], one["message"]).replace('"', ""))
        .collect();
    refused.sort();
    let line = |what: &str| format!("{what} image has 2 layers, limit 1");
    assert_eq!(refused, [line("acme/app:large"), line("acme/before:old"), line("acme/deep/er:2.0")]);
    let text = scene.gateway.cli(&["policy", "scan", "acme"]);
    text.says(&["4 manifests in 3 repositories of acme: 3 would be refused"]);

    let settings = tempfile::NamedTempFile::new().expect("the directory for temporary files is writable");
    std::fs::write(settings.path(), "max-layers: 5").expect("our own file");
    let trying = scene.gateway.command(&["policy", "scan", "acme"]).arg(shipped("image-limits")).arg("--settings");
    trying.arg(settings.path()).succeeds().says(&["0 would be refused"]);
    scene.gateway.command(&["policy", "scan", "globex"]).fails().says(&["no policy of globex"]);

    // What no policy can be shown is not passed over.
    let unread = Manifest::image(1, 200).changed(|manifest| manifest["LAYERS"] = json!([]));
    before.push("unread", &unread);
    let found = scene.gateway.cli(&["policy", "scan", "acme", "--json"]).json();
    assert_eq!((&found["refused"], &found["unreadable"]), (&3.into(), &1.into()), "{found}");
    let text = scene.gateway.cli(&["policy", "scan", "acme"]);
    text.says(&["it cannot be read", "3 would be refused, 1 cannot be read"]);
}

//! The commands around quota: what they say, and that what is said is in force.

use super::{denied, size};
use portcullis_tests::command::{Output, Run};
use portcullis_tests::gateway::binary;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::postgres::Postgres;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::{Value, json};
use std::time::Duration;

/// A command that has to end with this code.
#[track_caller]
fn fails(scene: &Scene, args: &[&str], code: i32) -> Output {
    let output = scene.gateway.command(args).fails();
    assert_eq!(output.code, Some(code), "{output}");
    output
}

#[test]
fn show_tells_what_counts_most() {
    let scene = Scene::open();
    let (large, small) = (Manifest::image(1, 300_000), Manifest::image(1, 1000));
    scene.acme("large").push("1.0", &large);
    scene.acme("small").push("1.0", &small);
    scene.gateway.cli(&["quota", "set", "acme", "1MiB", "--soft", "50%"]);
    let shown = scene.gateway.quota("acme");
    assert_eq!(shown["used_bytes"], size(&large) + size(&small));
    assert_eq!((&shown["limit_bytes"], &shown["soft_percent"]), (&json!(1_048_576), &json!(50)));
    assert_eq!(shown["repositories"][0], json!({ "repository": "acme/large", "bytes": size(&large) }));
    assert_eq!(shown["largest_blobs"][0]["digest"], large.blobs[1].digest.as_str());
    let text = scene.gateway.cli(&["quota", "show", "acme"]).stdout;
    for line in ["limit        1.0 MiB", "soft limit   512.0 KiB (50 %)", "reserved     0 B", "acme/large"] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    fails(&scene, &["quota", "show", "nobody"], 1);
    fails(&scene, &["quota", "set", "acme", "20 cows"], 2);
    fails(&scene, &["quota", "set", "acme", "none", "--soft", "80%"], 2);
    fails(&scene, &["quota", "set", "acme", "1GiB", "--soft", "101%"], 2);
}

#[test]
fn a_request_is_asked_decided_and_in_force() {
    let scene = Scene::open();
    scene.gateway.set_quota("acme", 1000);
    let (repository, blob) = (scene.acme("more"), Blob::random(5000));
    denied(repository.put_blob(&blob), "this upload needs 4.8 KiB more");
    let asked =
        scene.gateway.cli(&["quota", "request", "acme", "10KiB", "--reason", "nightly images", "--json"]).json();
    let id = asked["id"].as_str().expect("an id").to_owned();
    let pending = || scene.gateway.cli(&["quota", "requests", "--pending", "--json"]).json();
    assert_eq!(pending()[0]["reason"], "nightly images");
    assert_eq!(pending()[0]["project"], "acme");
    let approved =
        scene.gateway.cli(&["quota", "approve", &id, "--size", "8KiB", "--reason", "for now", "--json"]).json();
    assert_eq!((&approved["state"], &approved["granted_bytes"]), (&json!("approved"), &json!(8192)));
    assert!(approved["decided_by"].is_string() && approved["decided_at"].is_string());
    assert_eq!(pending(), json!([]));
    repository.put_blob(&blob).expect(201);
    fails(&scene, &["quota", "approve", &id], 1);
    let second = scene.gateway.cli(&["quota", "request", "acme", "1TiB", "--reason", "all of it", "--json"]).json();
    let second = second["id"].as_str().expect("an id").to_owned();
    let declined = scene.gateway.cli(&["quota", "decline", &second, "--reason", "too much", "--json"]).json();
    assert_eq!((&declined["state"], &declined["granted_bytes"]), (&json!("declined"), &Value::Null));
    let all = scene.gateway.cli(&["quota", "requests", "acme", "--json"]).json();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert!(scene.gateway.cli(&["quota", "requests", "acme"]).stdout.contains("too much"));
    fails(&scene, &["quota", "request", "acme", "1GiB", "--reason", " "], 1);
}

#[test]
fn under_maintenance_pulls_go_on_and_pushes_wait() {
    let scene = Scene::open();
    let (repository, image) = (scene.acme("kept"), Manifest::image(1, 1000));
    repository.push("1.0", &image);
    scene.gateway.cli(&["maintenance", "on"]);
    within(EFFECT, || {
        let answer = repository.put_manifest("2.0", &image);
        (answer.status == 503).then(|| {
            assert_eq!(answer.error_code(), "UNAVAILABLE");
            assert!(!answer.header("retry-after").is_empty());
        })
    });
    repository.put_blob(&Blob::random(10)).refused(503, "UNAVAILABLE");
    repository.delete(image.digest()).refused(503, "UNAVAILABLE");
    repository.delete("1.0").refused(503, "UNAVAILABLE");
    repository.pull("1.0", &image);
    assert_eq!(repository.tags().first().map(String::as_str), Some("1.0"));
    assert_eq!(scene.gateway.cli(&["maintenance", "status", "--json"]).json()["maintenance"], true);
    scene.gateway.cli(&["maintenance", "off"]);
    within(EFFECT, || (repository.put_manifest("2.0", &image).status == 201).then_some(()));
}

/// Pushes while something else is done.
fn beside_a_push_load(scene: &Scene, act: impl FnOnce()) {
    let repository = scene.acme("load");
    let pushing = std::thread::spawn(move || {
        (0..5).for_each(|number| drop(repository.push(&number.to_string(), &Manifest::image(1, 500))));
    });
    act();
    pushing.join().expect("no panic");
}

#[test]
fn a_copy_of_the_store_brings_back_what_was_there() {
    let mut scene = Scene::with(|builder| builder.set("quota.reservation_s", 10));
    if scene.gateway.store_url().starts_with("postgres") {
        let told = fails(&scene, &["backup", "/nowhere/copy"], 1);
        assert!(told.stderr.contains("pg_dump"), "{told}");
        return;
    }
    let (image, later) = (Manifest::image(1, 1000), Manifest::image(1, 2000));
    scene.acme("kept").push("1.0", &image);
    let copy = scene.gateway.data_dir().join("copy.db");
    let copy = copy.to_str().expect("UTF-8").to_owned();
    beside_a_push_load(&scene, || drop(scene.gateway.cli(&["backup", &copy])));
    fails(&scene, &["backup", &copy], 1);
    scene.acme("kept").push("2.0", &later);
    let told = fails(&scene, &["restore", &copy, "--yes"], 1);
    assert!(told.stderr.contains("is in use"), "{told}");
    scene.gateway.stop();
    on_a_full_disk_there_is_no_copy(&scene);
    a_newer_versions_copy_is_refused(&scene, &copy);
    let config = scene.gateway.config().to_str().expect("UTF-8").to_owned();
    fails(&scene, &["restore", &config, "--yes"], 1);
    scene.gateway.cli(&["restore", &copy, "--yes"]);
    scene.gateway.serve();
    its_state_is_that_of_the_copy(&scene, &image);
}

/// No file may be longer than 64 KiB: what is longer fails as it does on a full disk.
fn on_a_full_disk_there_is_no_copy(scene: &Scene) {
    let copies = scene.gateway.data_dir().join("copies");
    std::fs::create_dir(&copies).expect("the test's own directory");
    let limited = Run::new("bash").args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "bash"]).arg(binary());
    let limited = limited.arg("backup").arg(copies.join("copy.db")).arg("--config").arg(scene.gateway.config());
    let told = limited.fails();
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.stderr.contains("could not be written, and nothing is left of it"), "{told}");
    let left: Vec<_> = std::fs::read_dir(&copies).expect("it is there").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn a_newer_versions_copy_is_refused(scene: &Scene, copy: &str) {
    let newer = scene.gateway.data_dir().join("newer.db");
    std::fs::copy(copy, &newer).expect("the test's own directory");
    let from_tomorrow = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        SELECT 9999, 'tomorrow', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1;";
    Run::new("sqlite3").args(["-bail"]).arg(&newer).stdin(from_tomorrow).succeeds();
    let told = fails(scene, &["restore", newer.to_str().expect("UTF-8"), "--yes"], 1);
    assert!(told.stderr.contains("newer version's store") && told.stderr.contains("9999"), "{told}");
    let left = std::fs::read_dir(scene.gateway.data_dir()).expect("it is there").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("restoring")), "{left:?}");
}

#[test]
fn a_dump_of_the_database_brings_back_what_was_there() {
    let server = Postgres::shared();
    let mut scene = Scene::with(|builder| builder.postgres(&server).set("quota.reservation_s", 10));
    let (image, later) = (Manifest::image(1, 1000), Manifest::image(1, 2000));
    scene.acme("kept").push("1.0", &image);
    let (url, dump) = (scene.gateway.store_url(), server.directory().join("dump"));
    beside_a_push_load(&scene, || {
        server.tool("pg_dump").args(["-Fc", "-f"]).arg(&dump).arg(&url).succeeds();
    });
    scene.acme("kept").push("2.0", &later);
    scene.gateway.stop();
    server.tool("pg_restore").args(["--clean", "--if-exists", "-d", &url]).arg(&dump).succeeds();
    scene.gateway.serve();
    its_state_is_that_of_the_copy(&scene, &image);
}

/// What came after the copy is upstream, and unknown until it is reconciled; what was under way is found out.
fn its_state_is_that_of_the_copy(scene: &Scene, image: &Manifest) {
    let repository = scene.acme("kept");
    repository.pull("1.0", image);
    repository.push("3.0", image);
    within(Duration::from_secs(90), || (scene.gateway.quota("acme")["reserved_bytes"] == 0).then_some(()));
}

#[test]
fn metrics_tell_what_is_used_and_refused() {
    let scene = Scene::open();
    scene.gateway.set_quota("acme", 1000);
    scene.acme("metrics").put_blob(&Blob::random(600)).expect(201);
    denied(scene.acme("metrics").put_blob(&Blob::random(600)), "this upload needs");
    let read = || String::from_utf8_lossy(&scene.gateway.management().get("/metrics").send().body).into_owned();
    let metrics = within(EFFECT * 3, || {
        Some(read()).filter(|text| text.contains("portcullis_quota_used_bytes{project=\"acme\"} 600"))
    });
    for line in [
        "portcullis_quota_limit_bytes{project=\"acme\"} 1000",
        "portcullis_quota_refusals_total{project=\"acme\",reason=\"project\"} 1",
        "portcullis_ledger_duration_seconds_count{operation=\"commit\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

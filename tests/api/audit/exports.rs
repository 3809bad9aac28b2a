//! What goes out of the store: lines of JSON that are verified without it, and checkpoints that outlive it.

use super::{SOON, broken, only, whole};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::{Scene, within};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn lines(file: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may still be being written.
    let text = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// A scene that exports, with a checkpoint a second.
fn scene() -> (Scene, PathBuf) {
    let scene = Scene::with(|builder| builder.exporting().set("audit.checkpoint_every_s", 1));
    let file = scene.gateway.export_file();
    (scene, file)
}

/// Waits until a push of this tag is in the file, and signed.
fn exported(file: &Path, tag: &str) {
    within(SOON, || {
        let lines = lines(file);
        let place = lines.iter().position(|line| line["kind"] == "push" && line["reference"] == tag)?;
        lines[place..].iter().any(|line| line["type"] == "checkpoint").then_some(())
    });
}

#[test]
fn an_export_is_verified_by_itself_and_by_whoever_has_the_public_key() {
    let (scene, file) = scene();
    scene.acme("app").push("1.0", &Manifest::image(1, 100));
    exported(&file, "1.0");
    let verified = whole(&scene.gateway, &["--file", text(&file)]);
    assert!(verified["chains"][0]["checkpoints"].as_u64().is_some_and(|count| count >= 1), "{verified:#}");
    let key = lines(&file).iter().find_map(|line| line["key"].as_str().map(str::to_owned)).expect("a checkpoint");
    let offline = |file: &Path| {
        let run = portcullis_tests::command::Run::new(portcullis_tests::gateway::binary());
        run.args(["audit", "verify", "--public-key", &key, "--file"]).arg(file).args(["--config", "/nowhere"])
    };
    offline(&file).succeeds().says(&["are what was written down"]);

    let changed = file.with_extension("changed");
    let whole_text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&changed, whole_text.replace("acme+owner", "acme+other")).expect("the test's own directory");
    broken(&scene.gateway, &["--file", text(&changed)], "of node");
    assert_eq!(offline(&changed).fails().code, Some(1));
}

#[test]
fn an_export_that_is_moved_away_goes_on_in_a_new_file() {
    let (mut scene, file) = scene();
    scene.acme("app").push("1.0", &Manifest::image(1, 100));
    exported(&file, "1.0");
    let older = file.with_extension("1");
    std::fs::rename(&file, &older).expect("the test's own directory");
    scene.house.gateway.stop();
    scene.house.gateway.serve();
    scene.acme("app").push("2.0", &Manifest::image(1, 100));
    exported(&file, "2.0");
    let pushes = |file: &Path| lines(file).iter().filter(|line| line["kind"] == "push").count();
    assert_eq!((pushes(&older), pushes(&file)), (1, 1), "each record is exported once");
    whole(&scene.gateway, &["--file", text(&older), "--file", text(&file)]);
}

/// How large files of a running gateway may become.
fn limit_files(gateway: &Gateway, most: Option<u64>) {
    let process = i32::try_from(gateway.id()).ok().and_then(Pid::from_raw);
    prlimit(process, Resource::Fsize, Rlimit { current: most, ..getrlimit(Resource::Fsize) }).expect("its owner may");
}

#[test]
fn an_export_at_the_limit_of_files_ends_no_gateway_and_goes_on_whole() {
    let (scene, file) = scene();
    scene.acme("app").push("1.0", &Manifest::image(1, 100));
    exported(&file, "1.0");
    // Far longer than the store, which is not to meet the limit.
    let long = 64 * 1024 * 1024;
    std::fs::rename(&file, file.with_extension("1")).expect("the test's own directory");
    let mut export = std::fs::File::options().append(true).create(true).open(&file).expect("the test's own directory");
    export.set_len(long).expect("a hole takes no room");
    export.write_all(b"\n").expect("the test's own directory");
    let most = long + 100;
    limit_files(&scene.gateway, Some(most));
    scene.acme("app").push("2.0", &Manifest::image(1, 100));
    let audit = |state: bool| {
        within(SOON, || {
            let ready = scene.gateway.management().get("/readyz").send();
            (ready.status == 200 && ready.json()["audit"] == state).then_some(())
        });
    };
    audit(false);
    limit_files(&scene.gateway, None);
    audit(true);
    let text = std::fs::read(&file).expect("it is there").split_off(usize::try_from(long).expect("it fits") + 1);
    let after = file.with_extension("after");
    std::fs::write(&after, text).expect("the test's own directory");
    assert!(
        lines(&after).iter().any(|line| line["kind"] == "push" && line["reference"] == "2.0"),
        "each line is whole"
    );
}

#[test]
fn what_a_gateway_keeps_beside_the_store_shows_that_the_store_was_turned_back() {
    let mut scene = Scene::with(|builder| builder.set("audit.checkpoint_every_s", 1));
    scene.acme("app").push("1.0", &Manifest::image(1, 100));
    scene.house.gateway.stop();
    whole(&scene.gateway, &[]);
    scene.gateway.sql("DELETE FROM audit; DELETE FROM audit_chain;");
    broken(&scene.gateway, &[], "records 1 to").says(&["audit.checkpoint"]);
    // The gateway does not go on over it as if nothing had been.
    scene.house.gateway.serve();
    within(SOON, || {
        let ready = scene.gateway.management().get("/readyz").send();
        (ready.status == 200 && ready.json()["audit"] == false).then_some(())
    });
    broken(&scene.gateway, &[], "of node");
}

#[test]
fn a_command_exports_all_chains() {
    let gateway = Gateway::before("http://127.0.0.1:1").stopped();
    gateway.persona_unasked("acme");
    let file = gateway.data_dir().join("export");
    std::fs::write(&file, gateway.cli(&["audit", "export"]).stdout).expect("the test's own directory");
    assert_eq!(lines(&file).len(), 5, "four records and a checkpoint");
    whole(&gateway, &["--file", text(&file)]);
    let none = gateway.cli(&["audit", "export", "--since", "2100-01-01"]).stdout;
    assert_eq!(none.lines().count(), 1, "{none}");
}

#[test]
fn a_store_that_was_put_back_begins_a_chain_of_its_own() {
    let mut scene = Scene::open();
    if scene.gateway.store_url().starts_with("postgres") {
        // There pg_restore does it.
        return;
    }
    scene.acme("app").push("1.0", &Manifest::image(1, 100));
    only(&scene.gateway, "push");
    let copy = scene.gateway.data_dir().join("copy.db");
    scene.gateway.cli(&["backup", text(&copy)]);
    scene.acme("app").push("2.0", &Manifest::image(1, 100));
    scene.house.gateway.stop();
    scene.gateway.cli(&["restore", text(&copy), "--yes"]);
    let restored = only(&scene.gateway, "restore");
    assert_ne!(restored["node"], only(&scene.gateway, "push")["node"], "{restored:#}");
    scene.house.gateway.serve();
    scene.acme("app").push("3.0", &Manifest::image(1, 100));
    let verified = whole(&scene.gateway, &[]);
    assert_eq!(verified["chains"].as_array().map(Vec::len), Some(2), "{verified:#}");
}

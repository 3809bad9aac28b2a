//! What the upstream held before the gateway came.

use super::{account, id, of, size, stored};
use http::Method;
use portcullis_tenancy::Store as _;
use portcullis_tenancy::ledger::Walk;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::process::Process;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{EFFECT, House, Scene, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn what_was_there_before_is_counted_at_its_true_size_and_served() {
    let scene = Scene::open();
    let registry = |name: &str| scene.registry.repository(name);
    // It claims another size than its layer has.
    let image = Manifest::image(2, 10_000).changed(|manifest| manifest["layers"][0]["size"] = 1.into());
    let index = Manifest::index(vec![("amd64", Manifest::image(1, 3000)), ("arm64", Manifest::image(1, 3000))]);
    let about = Manifest::artifact("application/vnd.example.sbom", Blob::random(500), Some(&image));
    registry("acme/app").push("1.0", &image);
    registry("acme/app").push("latest", &image);
    registry("acme/app").push("sbom", &about);
    registry("acme/deep/er/multi").push("1.0", &index);
    registry("acme/copy").push("1.0", &image);
    registry("globex/app").push("1.0", &image);
    scene.acme("app").blob(&image.blobs[1].digest).expect(404);

    let imported = scene.gateway.cli(&["import", "--json"]);
    let acme = of(&imported, "acme");
    let truth = scene.registry.bytes_under("acme");
    assert_eq!(acme["bytes"], truth, "{imported}");
    assert_eq!(acme["committed_bytes"], truth, "{imported}");
    assert_eq!(account(&scene.gateway, "acme").committed, truth);
    assert_eq!((&acme["repositories"], &acme["manifests"], &acme["tags"]), (&3.into(), &6.into(), &5.into()));
    assert_eq!(acme["blobs"], 3 + 2 + 4 + 3, "{imported}");
    assert_eq!(acme["over_quota"], false);
    assert_eq!(account(&scene.gateway, "globex").committed, scene.registry.bytes_under("globex"));

    scene.acme("app").pull("1.0", &image);
    scene.acme("copy").pull("1.0", &image);
    scene.acme("deep/er/multi").pull("1.0", &index);
    assert_eq!(scene.acme("app").tags(), ["1.0", "latest", "sbom"]);
    assert_eq!(scene.acme("app").referrers(image.digest()), [about.digest()]);
    scene.globex("app").pull("1.0", &image);

    let again = of(&scene.gateway.cli(&["import", "acme", "--json"]), "acme");
    for nothing in ["manifests", "blobs", "tags", "bytes"] {
        assert_eq!(again[nothing], 0, "{again}");
    }
    let text = scene.gateway.cli(&["reconcile"]);
    text.says(&["acme, 3 repositories: no drift"]).says(&["globex, 1 repositories: no drift"]);
}

#[test]
fn over_its_quota_a_project_pulls_and_deletes_and_does_not_push() {
    let scene = Scene::open();
    let (image, other) = (Manifest::image(1, 10_000), Manifest::image(1, 10_000));
    scene.registry.repository("acme/app").push("1.0", &image);
    scene.registry.repository("acme/app").push("2.0", &other);
    stored(&scene.gateway, async |store| store.set_quota(&id(store, "acme").await?, Some(15_000), None).await);

    let imported = scene.gateway.cli(&["import", "acme"]);
    imported.says(&["acme is over its quota"]).says(&["pulls and deletions go on, pushes are refused"]);
    assert_eq!(account(&scene.gateway, "acme").committed, scene.registry.bytes_under("acme"));
    assert_eq!(of(&scene.gateway.cli(&["import", "acme", "--json"]), "acme")["over_quota"], true);

    let app = scene.acme("app");
    app.pull("1.0", &image);
    app.put_blob(&Blob::random(100)).refused(403, "DENIED");
    app.delete(image.digest()).expect(202);
    let left: u64 = other.blobs.iter().chain([&other.blob]).map(size).sum();
    assert_eq!(account(&scene.gateway, "acme").committed, left);
    app.put_blob(&Blob::random(100)).expect(201);
}

/// A registry without a catalog, whose answers on one repository can be held back.
fn without_a_catalog(registry: &Registry, held_back: &Arc<AtomicBool>) -> Faults {
    let held_back = Arc::clone(held_back);
    Faults::before(&registry.url(), move |seen| match seen.path() {
        "/v2/_catalog" => Some(Answer::status(404)),
        path if path.starts_with("/v2/acme/b/") && held_back.load(Ordering::SeqCst) => Some(Answer::silence()),
        _ => None,
    })
}

#[test]
fn an_interrupted_import_goes_on_where_it_was() {
    let (registry, held_back) = (Registry::start(), Arc::new(AtomicBool::new(true)));
    let images = ["a", "b", "c"].map(|name| (name, Manifest::image(1, 2000)));
    for (name, image) in &images {
        registry.repository(&format!("acme/{name}")).push("1.0", image);
    }
    let faults = without_a_catalog(&registry, &held_back);
    let house = House::open(Gateway::before(&faults.url()));
    let position =
        || stored(&house.gateway, async |store| store.walk_position(&id(store, "acme").await?, Walk::Import).await);
    let file = house.gateway.data_dir().join("repositories");
    std::fs::write(&file, "# public, or the upstream's\nacme/c\n\nacme/a\nacme/b\n").expect("our own directory");
    let args = ["import", "acme", "--repositories", &file.to_string_lossy()];

    let mut walk: Process = house.gateway.launch(&args);
    within(EFFECT, || position().filter(|after| &**after == "acme/a"));
    walk.kill();
    held_back.store(false, Ordering::SeqCst);

    let before = faults.seen().len();
    house.gateway.cli(&args).says(&["goes on after acme/a"]).says(&["2 repositories are left"]);
    assert!(!faults.seen()[before..].iter().any(|seen| seen.path().starts_with("/v2/acme/a/")), "a is done");
    assert_eq!(position(), None);
    // The one that was killed may have had a tag's lock: until that has run out, the tag is somebody's, and left for the next run.
    within(Duration::from_secs(60), || {
        let is_whole = account(&house.gateway, "acme").committed == registry.bytes_under("acme");
        if !is_whole {
            house.gateway.cli(&args);
        }
        is_whole.then_some(())
    });
    for (name, image) in &images {
        house.acme(name).pull("1.0", image);
    }
}

#[test]
fn without_a_catalog_repositories_come_from_a_file_and_from_the_record() {
    let registry = Registry::start();
    let faults = without_a_catalog(&registry, &Arc::default());
    let house = House::open(Gateway::before(&faults.url()));
    let (known, before, unnamed) = (Manifest::image(1, 2000), Manifest::image(1, 2000), Manifest::image(1, 2000));
    house.acme("known").push("1.0", &known);
    registry.repository("acme/known").push("2.0", &before);
    registry.repository("acme/unnamed").push("1.0", &unnamed);

    house.gateway.cli(&["import", "acme"]).says(&["The upstream has no catalog"]).says(&["--repositories FILE"]);
    house.acme("known").pull("2.0", &before);
    house.acme("unnamed").blob(&unnamed.blobs[0].digest).expect(404);

    let file = house.gateway.data_dir().join("repositories");
    let named = ["--repositories", &file.to_string_lossy()];
    std::fs::write(&file, "acme/unnamed\nacme/Unnamed\n").expect("our own directory");
    let refused = house.gateway.command(&["import", "acme"]).args(named).fails();
    refused.says(&["repositories:2: `acme/Unnamed` is no repository of a project"]);
    assert_eq!(refused.code, Some(2));
    std::fs::write(&file, "acme/unnamed\nglobex/none\n").expect("our own directory");
    house.gateway.command(&["import", "acme"]).args(named).succeeds();
    house.acme("unnamed").pull("1.0", &unnamed);
    assert_eq!(account(&house.gateway, "acme").committed, registry.bytes_under("acme"));
}

#[test]
fn what_the_upstream_cannot_answer_cuts_a_walk_off_and_what_is_no_manifest_does_not() {
    let registry = Registry::start();
    let broken = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&broken);
    let faults = Faults::before(&registry.url(), move |seen| {
        let is_list = seen.path() == "/v2/acme/app/tags/list";
        (is_list && fails.load(Ordering::SeqCst)).then(|| Answer::status(500))
    });
    let house = House::open(Gateway::before(&faults.url()));
    let image = Manifest::image(1, 2000);
    // Another reader might see other layers in it than the gateway does.
    let odd = image.clone().with_bytes(String::from_utf8_lossy(&image.blob.bytes).replacen('{', "{\"Layers\":[],", 1));
    registry.repository("acme/app").push("1.0", &image);
    registry.repository("acme/app").put_manifest("odd", &odd).expect(201);

    broken.store(true, Ordering::SeqCst);
    let refused = house.gateway.command(&["import", "acme"]).fails();
    refused.says(&["the walk over acme was cut off"]).says(&["answered 500"]).says(&["run the same command again"]);
    broken.store(false, Ordering::SeqCst);
    house.gateway.cli(&["import", "acme"]).says(&["cannot be recorded and is not charged"]);
    let charged: u64 = image.blobs.iter().chain([&image.blob]).map(size).sum();
    assert_eq!(account(&house.gateway, "acme").committed, charged);
    house.gateway.cli(&["reconcile", "acme"]).says(&["no drift"]).says(&["cannot be recorded"]);
}

#[test]
fn a_purge_says_what_it_will_delete_before_it_asks() {
    let scene = Scene::open();
    let image = Manifest::image(1, 30_000);
    scene.acme("app").push("1.0", &image);
    let asked = scene.gateway.command(&["project", "delete", "acme", "--purge"]).fails();
    assert_eq!(asked.code, Some(2));
    asked.says(&["Project acme holds 1 manifests and 2 blobs, 3"]).says(&["acme/app 3"]).says(&["add --yes"]);
    scene.acme("app").request(Method::GET, "tags/list").send().expect(200);
}

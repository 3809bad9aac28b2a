//! What somebody is at work at is neither reported nor mended.

use super::{account, digest, findings, id, of, repository_name, stored};
use portcullis_oci::Tag;
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use portcullis_tenancy::{Store as _, Timestamp};
use portcullis_tests::image::Manifest;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn what_is_journalled_is_left_to_whoever_is_at_it() {
    let mut scene = Scene::open();
    let (coming, going) = (Manifest::image(1, 2000), Manifest::image(1, 2000));
    scene.acme("app").push("going", &going);
    // Cut off between the upstream and the record, and no gateway runs that would finish it.
    scene.gateway.stop();
    scene.registry.repository("acme/app").push("coming", &coming);
    scene.registry.repository("acme/app").delete(going.digest()).expect(202);
    stored(&scene.gateway, async |store| {
        let project = id(store, "acme").await?;
        let tags = vec![Tag::parse("coming").expect("a tag")];
        for (id, step) in [
            ("coming", JournalStep::PutManifest { digest: digest(coming.digest()), tags }),
            ("going", JournalStep::DeleteManifest { digest: digest(going.digest()) }),
        ] {
            let (repository, actor) = (repository_name("acme/app"), "acme+owner".into());
            let started_at = Timestamp::now();
            let entry = JournalEntry { id: id.into(), project: project.clone(), repository, step, actor, started_at };
            store.begin(&entry).await?;
        }
        Ok(())
    });
    let before = account(&scene.gateway, "acme");
    for args in [["reconcile", "acme", "--json"].as_slice(), &["reconcile", "acme", "--json", "--repair"]] {
        let compared = scene.gateway.cli(args);
        assert!(findings(&compared, "acme").is_empty(), "{compared}");
        // The manifests, their tags, and two blobs of the one that comes.
        assert_eq!(of(&compared, "acme")["under_way"], 6, "{compared}");
    }
    assert_eq!(account(&scene.gateway, "acme"), before);

    stored(&scene.gateway, async |store| {
        store.finish("coming").await?;
        store.finish("going").await
    });
    let compared = scene.gateway.command(&["reconcile", "acme", "--json"]).fails();
    assert_eq!(findings(&compared, "acme").len(), 6, "{compared}");
}

/// The registry fails now and then where the same repository is pushed to: then it is asked again, as a client would.
fn delete(app: &Repository, reference: &str) {
    within(EFFECT, || Some(app.delete(reference)).filter(|answer| matches!(answer.status, 202 | 404)));
}

#[test]
fn walks_amid_pushes_and_deletions_find_nothing_and_spoil_nothing() {
    let scene = Scene::open();
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for turn in 0..2 {
            let (app, over) = (scene.acme("busy"), &over);
            threads.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let image = Manifest::image(1, 500);
                    app.push(&format!("moves-{turn}"), &image);
                    app.push(&format!("goes-{turn}"), &image);
                    delete(&app, &format!("goes-{turn}"));
                    delete(&app, image.digest());
                }
            });
        }
        for repair in [false, true, false, true] {
            let mut args = vec!["reconcile", "acme", "--json"];
            args.extend(repair.then_some("--repair"));
            let output = scene.gateway.command(&args).limit(Duration::from_secs(120)).run();
            if output.code != Some(0) {
                over.store(true, Ordering::SeqCst);
                panic!("{output}");
            }
            scene.gateway.cli(&["import", "acme"]);
            assert!(findings(&output, "acme").is_empty(), "{output}");
        }
        over.store(true, Ordering::SeqCst);
    });
    let compared = scene.gateway.cli(&["reconcile", "acme", "--json"]);
    assert!(findings(&compared, "acme").is_empty(), "{compared}");
}

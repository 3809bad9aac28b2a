//! Where the record and the upstream differ: each way of it is found, named, and mended.

use super::{account, digest, findings, id, of, pushed, repository_name, size, stored};
use http::Method;
use portcullis_tenancy::ledger::{Charge, StoredBlob};
use portcullis_tenancy::{Store as _, Timestamp};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::scene::Scene;

#[test]
fn what_went_through_the_gateway_is_no_drift() {
    let scene = Scene::open();
    let app = scene.acme("app");
    let (image, kept) = (Manifest::image(2, 3000), Manifest::image(1, 3000));
    app.push("1.0", &image);
    app.push("2.0", &kept);
    app.push("multi", &Manifest::index(vec![("amd64", Manifest::image(1, 1000))]));
    let about = Manifest::artifact("application/vnd.example.sbom", Blob::random(500), Some(&kept));
    app.push(about.digest(), &about);
    app.put_blob(&Blob::random(700)).expect(201);
    // Its blobs are not charged any more, and wait to be taken away upstream; the tag goes by a throw-away.
    app.delete(image.digest()).expect(202);
    app.push("other", &kept);
    app.delete("other").expect(202);
    let compared = scene.gateway.cli(&["reconcile", "--json"]);
    assert!(findings(&compared, "acme").is_empty(), "{compared}");
    assert_eq!(of(&compared, "acme")["under_way"], 0);
}

#[test]
fn every_kind_of_drift_is_found_and_mended() {
    let scene = Scene::open();
    let (app, behind) = (scene.acme("app"), scene.registry.repository("acme/app"));
    let [gone, holey, grown, moved, claims, counted] = [(); 6].map(|()| Manifest::image(1, 5000));
    for (tag, image) in [("gone", &gone), ("holey", &holey), ("grown", &grown), ("moved", &moved), ("claims", &claims)]
    {
        app.push(tag, image);
    }
    let new = Manifest::image(1, 4000);
    behind.delete(gone.digest()).expect(202);
    behind.request(Method::DELETE, &format!("blobs/{}", holey.blobs[1].digest)).send().expect(202);
    behind.push("new", &new);
    behind.put_manifest("moved", &claims).expect(201);
    behind.push("counted", &counted);
    stored(&scene.gateway, async |store| {
        let acme = id(store, "acme").await?;
        let layer = &grown.blobs[1];
        let blob = StoredBlob {
            project: acme.clone(),
            repository: repository_name("acme/app"),
            digest: digest(&layer.digest),
            size: size(layer) + 7,
            at: Timestamp::now(),
        };
        store.add_blob(&blob, Charge::Anyway).await?;
        let mut wrong = pushed(&acme, "acme/app", &claims, &[]);
        wrong.manifest.size += 11;
        store.add_manifest(&wrong, &[], Charge::Anyway).await?;
        let sizes: Vec<_> = counted.blobs.iter().map(|blob| (digest(&blob.digest), size(blob))).collect();
        store.add_manifest(&pushed(&acme, "acme/app", &counted, &["counted"]), &sizes, Charge::Anyway).await
    });
    scene.gateway.sql("UPDATE project SET committed_bytes = committed_bytes + 5 WHERE name = 'acme';");

    let expected = {
        let finding = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        let mut expected = vec![
            finding("missing-upstream", gone.digest()),
            finding("wrong-tag", "gone"),
            finding("missing-upstream", &holey.blobs[1].digest),
            finding("missing-in-ledger", new.digest()),
            finding("missing-in-ledger", &new.blobs[0].digest),
            finding("missing-in-ledger", &new.blobs[1].digest),
            finding("wrong-tag", "new"),
            finding("wrong-tag", "moved"),
            finding("wrong-size", &grown.blobs[1].digest),
            finding("wrong-size", claims.digest()),
            finding("wrong-counter", ""),
        ];
        expected.sort();
        expected
    };
    let compared = scene.gateway.command(&["reconcile", "--json"]).fails();
    assert_eq!(compared.code, Some(1));
    assert_eq!(findings(&compared, "acme"), expected, "{compared}");
    assert!(findings(&compared, "globex").is_empty(), "{compared}");
    let drift = compared.json()["drift"].clone();
    let counts = serde_json::json!({"missing-in-ledger": 3, "missing-upstream": 2, "wrong-size": 2, "wrong-tag": 3, "wrong-counter": 1});
    assert_eq!(drift, counts);
    assert_eq!(compared.json()["mended"], 0);

    let table = scene.gateway.command(&["reconcile", "acme"]).fails();
    assert_eq!(table.code, Some(1));
    for told in ["missing-in-ledger", "wrong-counter", "acme, 1 repositories: 11 differences; --repair makes"] {
        table.says(&[told]);
    }

    let mended = scene.gateway.cli(&["reconcile", "--repair", "--json"]);
    assert_eq!(findings(&mended, "acme"), expected, "{mended}");
    assert_eq!(mended.json()["mended"], 11, "{mended}");
    let compared = scene.gateway.cli(&["reconcile", "--json"]);
    assert!(findings(&compared, "acme").is_empty(), "{compared}");

    // What the deleted manifest named alone is not charged any more, and still lies upstream.
    let uncharged: u64 = gone.blobs.iter().map(size).sum();
    assert_eq!(account(&scene.gateway, "acme").committed, scene.registry.bytes_under("acme") - uncharged);
    app.pull("new", &new);
    app.pull("moved", &claims);
    assert_eq!(app.tags(), ["claims", "counted", "grown", "holey", "moved", "new"]);
}

#[test]
fn a_tag_that_went_upstream_goes_from_the_record() {
    let scene = Scene::open();
    let (app, image) = (scene.acme("app"), Manifest::image(1, 1000));
    app.push("1.0", &image);
    stored(&scene.gateway, async |store| {
        let acme = id(store, "acme").await?;
        store.add_manifest(&pushed(&acme, "acme/app", &image, &["ghost"]), &[], Charge::Anyway).await
    });
    let compared = scene.gateway.command(&["reconcile", "acme", "--json"]).fails();
    assert_eq!(findings(&compared, "acme"), [("wrong-tag".to_owned(), "ghost".to_owned())], "{compared}");
    scene.gateway.cli(&["reconcile", "acme", "--repair"]).says(&["1 differences, all mended"]);
    let tags =
        stored(&scene.gateway, async |store| store.tags(&id(store, "acme").await?, &repository_name("acme/app")).await);
    assert_eq!(tags.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>(), ["1.0"]);
    scene.gateway.cli(&["reconcile", "acme"]).says(&["no drift"]);
}

#[test]
fn a_manifest_under_the_wrong_roof_is_recorded_with_what_it_names() {
    let scene = Scene::open();
    let image = Manifest::image(1, 2000);
    scene.acme("app").push("1.0", &image);
    // The project is charged with these blobs already; the other repository does not hold them yet.
    scene.registry.repository("acme/copy").push("1.0", &image);
    let before = account(&scene.gateway, "acme").committed;
    let compared = scene.gateway.command(&["reconcile", "acme", "--json"]).fails();
    assert_eq!(findings(&compared, "acme").len(), 4, "{compared}");
    scene.gateway.cli(&["reconcile", "acme", "--repair"]);
    assert_eq!(account(&scene.gateway, "acme").committed, before);
    scene.acme("copy").pull("1.0", &image);
    scene.gateway.cli(&["reconcile", "acme"]).says(&["no drift"]);
}

//! Deletion gives back what nothing else refers to, and takes it out of reach at once.

use super::{apart, denied, size, stream_blob};
use http::Method;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::ledger::Account;
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::time::Duration;

/// Two images with a layer in common.
fn siblings() -> (Manifest, Manifest, Blob) {
    let shared = Blob::layer(4000);
    let image = |own: usize| Manifest::image_for("amd64", vec![shared.clone(), Blob::layer(own)]);
    (image(2000), image(3000), shared)
}

#[test]
fn what_another_image_needs_stays_and_the_rest_comes_back() {
    let scene = Scene::open();
    let repository = scene.acme("siblings");
    let (one, other, shared) = siblings();
    repository.push("one", &one);
    repository.push("other", &other);
    let used = scene.gateway.account("acme").used;
    let of = |blob: &Blob| blob.bytes.len() as u64;
    // The shared layer, and the config where both have the same, stay.
    let mine: u64 = one.blobs.iter().filter(|blob| other.blobs.iter().all(|of| of.digest != blob.digest)).map(of).sum();
    let deleted = repository.delete(one.digest()).expect(202);
    let back: u64 = deleted.header("portcullis-reclaimed-bytes").parse().expect("a number of bytes");
    assert_eq!(back, mine + of(&one.blob));
    assert_eq!(scene.gateway.account("acme").used, used - back);
    repository.pull("other", &other);
    for blob in &one.blobs {
        let is_shared = other.blobs.iter().any(|of| of.digest == blob.digest);
        let answer = repository.blob(&blob.digest);
        assert_eq!(answer.status, if is_shared { 200 } else { 404 }, "{}", answer.asked);
    }
    assert_eq!(repository.blob(&shared.digest).status, 200);
    // Pushed again, it is charged again.
    repository.push("one", &one);
    assert_eq!(scene.gateway.account("acme").used, used);
    repository.pull("one", &one);
}

#[test]
fn what_is_not_charged_cannot_be_read_by_any_door() {
    let scene = apart();
    let (repository, image) = (scene.acme("free"), Manifest::image(1, 5000));
    repository.push("1.0", &image);
    repository.delete(image.digest()).expect(202);
    assert_eq!(scene.gateway.account("acme").used, 0);
    let layer = &image.blobs[1];
    // The upstream would serve it still.
    let direct = portcullis_tests::repository::Repository::new(
        &scene.registry.http(),
        "acme/free",
        &scene.registry.credentials(),
    );
    assert_eq!(direct.blob(&layer.digest).status, 200);
    repository.blob(&layer.digest).refused(404, "BLOB_UNKNOWN");
    repository.request(Method::HEAD, &format!("blobs/{}", layer.digest)).send().expect(404);
    let ranged = repository.request(Method::GET, &format!("blobs/{}", layer.digest)).header("range", "bytes=0-9");
    ranged.send().refused(404, "BLOB_UNKNOWN");
    repository.delete(image.digest()).expect(404);
    // It is not there to be mounted: what asks for that uploads it.
    let mount = format!("blobs/uploads/?mount={}&from=acme/free", layer.digest);
    scene.acme("other").request(Method::POST, &mount).send().expect(202);
    // A manifest that names it charges it again, where there is room.
    scene.gateway.set_quota("acme", size(&image) - 1);
    denied(repository.put_manifest("2.0", &image), "this manifest needs");
    scene.gateway.set_quota("acme", size(&image));
    repository.put_manifest("2.0", &image).expect(201);
    assert_eq!(scene.gateway.account("acme").used, size(&image));
    repository.pull("2.0", &image);
}

#[test]
fn a_tag_gives_nothing_back_and_an_index_keeps_its_children() {
    let scene = Scene::open();
    let repository = scene.acme("index");
    let index = Manifest::index(vec![("amd64", Manifest::image(1, 1000)), ("arm64", Manifest::image(1, 2000))]);
    repository.push("multi", &index);
    let used = scene.gateway.account("acme").used;
    repository.delete("multi").expect(202);
    assert_eq!(scene.gateway.account("acme").used, used, "a manifest counts until it is deleted, tagged or not");
    let own = index.blob.bytes.len().to_string();
    assert_eq!(repository.delete(index.digest()).expect(202).header("portcullis-reclaimed-bytes"), own);
    for child in &index.manifests {
        repository.pull(child.digest(), child);
    }
}

#[test]
fn what_nobody_is_charged_with_is_taken_away_upstream() {
    let scene = Scene::with(|builder| builder.set("upstream.isolation", "repository").set("quota.unlink_grace_s", 1));
    let (repository, image) = (scene.acme("unlinked"), Manifest::image(2, 4000));
    repository.push("1.0", &image);
    assert_eq!(scene.registry.holds("acme"), size(&image));
    repository.delete(image.digest()).expect(202);
    within(Duration::from_secs(60), || (scene.registry.holds("acme") == 0).then_some(()));
    // The last one is counted once its answer is there.
    within(EFFECT, || {
        let metrics = scene.gateway.management().get("/metrics").send();
        String::from_utf8_lossy(&metrics.body).contains("portcullis_ledger_blobs_unlinked_total 3").then_some(())
    });
    // It comes back whole.
    repository.push("1.0", &image);
    repository.pull("1.0", &image);
    assert_eq!(scene.gateway.account("acme").used, size(&image));
}

#[test]
fn who_pushes_and_deletes_again_and_again_waits_for_what_is_taken_away() {
    let mut scene = apart();
    let repository = scene.acme("again");
    let image = || Manifest::image_for("amd64", vec![Blob::layer(50_000)]);
    scene.gateway.set_quota("acme", 60_000);
    // As much again as the limit may wait: what was there once may go and come.
    for _ in 0..2 {
        let image = image();
        repository.push("1.0", &image);
        repository.delete(image.digest()).expect(202);
    }
    let waiting = scene.gateway.quota("acme")["waiting_bytes"].as_u64().expect("a number");
    assert!(waiting >= 100_000, "{waiting}");
    let next = Blob::random(50_000);
    denied(repository.put_blob(&next), "that were deleted still take up the registry's storage");
    denied(stream_blob(&repository, &next), "that were deleted still take up the registry's storage");
    scene.globex("again").put_blob(&next).expect(201);
    scene.gateway.set("quota.unlink_grace_s", 1);
    scene.gateway.reload();
    within(Duration::from_secs(60), || (scene.gateway.quota("acme")["waiting_bytes"] == 0).then_some(()));
    repository.put_blob(&next).expect(201);
}

#[test]
fn around_the_upstreams_garbage_collection_ledger_and_upstream_agree() {
    let mut scene = apart();
    let (repository, kept, gone) = (scene.acme("garbage"), Manifest::image(2, 3000), Manifest::image(2, 5000));
    repository.push("kept", &kept);
    repository.push("gone", &gone);
    repository.delete(gone.digest()).expect(202);
    scene.gateway.cli(&["maintenance", "on"]);
    within(EFFECT, || (repository.put_manifest("late", &kept).status == 503).then_some(()));
    scene.registry.collect_garbage();
    repository.pull("kept", &kept);
    scene.gateway.cli(&["maintenance", "off"]);
    within(EFFECT, || (repository.put_manifest("late", &kept).status == 201).then_some(()));
    assert_eq!(scene.gateway.account("acme"), Account { used: size(&kept), reserved: 0 });
    repository.blob(&gone.blobs[1].digest).refused(404, "BLOB_UNKNOWN");
    // What was collected can be pushed again, and is charged again.
    repository.push("gone", &gone);
    repository.pull("gone", &gone);
    let both = scene.gateway.account("acme").used;
    assert_eq!(both, scene.registry.holds("acme"));
}

//! Blobs that no manifest names: charged for a while, then neither charged nor served.

use super::size;
use http::Method;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::time::{Duration, Instant};

#[test]
fn an_orphan_is_charged_for_its_grace_and_then_not_served() {
    let scene = Scene::with(|builder| builder.set("quota.orphan_grace_s", 8));
    let repository = scene.acme("orphans");
    let (orphan, watched, image) = (Blob::random(3000), Blob::random(2000), Manifest::image(1, 1000));
    repository.push("named", &image);
    for blob in [&orphan, &watched] {
        repository.put_blob(blob).expect(201);
    }
    let shown = scene.gateway.quota("acme");
    assert_eq!(shown["reclaimable_bytes"], 5000);
    assert_eq!(shown["used_bytes"], 5000 + size(&image));
    // Who looks at it means to name it soon.
    let begun = Instant::now();
    let gone = within(Duration::from_secs(60), || {
        let head = repository.request(Method::HEAD, &format!("blobs/{}", watched.digest)).send();
        assert_eq!(head.status, 200, "what is looked at stays ({:?})", begun.elapsed());
        let left = scene.gateway.account("acme").used;
        (left == 2000 + size(&image)).then_some(left)
    });
    assert_eq!(gone, 2000 + size(&image));
    repository.blob(&orphan.digest).refused(404, "BLOB_UNKNOWN");
    repository.pull("named", &image);
    // The same bytes again are an upload like any other.
    repository.put_blob(&orphan).expect(201);
    assert_eq!(repository.blob(&orphan.digest).status, 200);
}

#[test]
fn an_upload_that_is_given_up_gives_its_room_back() {
    let scene = Scene::with(|builder| builder.set("quota.reservation_s", 10));
    scene.gateway.set_quota("acme", 100_000);
    let repository = scene.acme("given-up");
    let begun = |repository: &Repository| {
        let patch = repository.at(Method::PATCH, &repository.open_upload()).body(vec![1; 60_000]);
        patch.send().expect(202).header("location")
    };
    let cancelled = begun(&repository);
    assert_eq!(scene.gateway.account("acme").reserved, 60_000);
    repository.at(Method::DELETE, &cancelled).send().expect(204);
    assert_eq!(scene.gateway.account("acme").reserved, 0);
    // Nobody ends this one: it is given up, and takes up no storage upstream either.
    let left = begun(&repository);
    within(Duration::from_secs(60), || (scene.gateway.account("acme").reserved == 0).then_some(()));
    repository.at(Method::GET, &left).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
    let with_data = |repository: &str| {
        let uploads = scene.registry.repositories().join(repository).join("_uploads");
        let uploads = std::fs::read_dir(uploads).into_iter().flatten().flatten().map(|entry| entry.path());
        uploads.filter(|upload| upload.join("data").exists()).count()
    };
    assert_eq!(with_data("acme/given-up"), 0);
    // Nor do those whose robot, or project, is deleted under them.
    let leaver = scene.gateway.robot("acme", "leaver", &["--role", "push"]).credentials();
    begun(&scene.gateway.repository("acme/given-up", &leaver));
    begun(&scene.globex("given-up"));
    assert_eq!((with_data("acme/given-up"), with_data("globex/given-up")), (1, 1));
    scene.gateway.cli(&["robot", "delete", "acme", "leaver"]);
    scene.gateway.cli(&["project", "delete", "globex", "--yes"]);
    for repository in ["acme/given-up", "globex/given-up"] {
        within(Duration::from_secs(60), || (with_data(repository) == 0).then_some(()));
    }
    within(EFFECT, || (scene.gateway.account("acme").reserved == 0).then_some(()));
}

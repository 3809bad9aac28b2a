//! Uploads at once.

use super::{limited, refused};
use http::Method;
use portcullis_tests::http::{Pieces, Request, pieces};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::thread::JoinHandle;

/// An upload that has begun and does not end until its pieces are dropped: it has got as far as to hold room of the quota.
fn under_way(scene: &Scene, repository: &Repository) -> (Pieces, JoinHandle<u16>) {
    let (sender, body) = pieces();
    let location = repository.open_upload();
    let patch: Request = repository.at(Method::PATCH, &location).stream(body);
    let before = scene.gateway.account("acme").reserved;
    sender.send(vec![7; 1000]);
    let sending = std::thread::spawn(move || patch.send().status);
    within(EFFECT, || (scene.gateway.account("acme").reserved > before).then_some(()));
    (sender, sending)
}

/// Tries to bring a blob in a single request, until it is refused.
fn until_refused(repository: &Repository) -> portcullis_tests::http::Response {
    within(EFFECT, || {
        let blob = Blob::random(100);
        let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).body(blob.bytes);
        Some(put.send()).filter(|answer| answer.status != 201)
    })
}

#[test]
fn a_project_has_so_many_uploads_at_once_and_a_place_is_free_again_when_one_ends() {
    let scene = Scene::with(|builder| builder.set("limits.uploads_per_project", 2));
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 100));
    let first = under_way(&scene, &repository);
    let second = under_way(&scene, &repository);
    let answer = limited(until_refused(&repository), "uploads-per-project");
    assert_eq!(answer.header("ratelimit-policy"), "\"uploads-per-project\";q=2;qu=\"concurrent-requests\"");
    assert!(answer.json().to_string().contains("project acme has 2 uploads under way"), "{answer}");
    assert!(refused(&scene.gateway, "uploads-per-project") >= 1.0);
    // An upload without bytes holds no place, and other projects have their own.
    repository.open_upload();
    scene.globex("app").push("1.0", &image);
    drop(first.0);
    assert_eq!(first.1.join().expect("no panic"), 202);
    within(EFFECT, || (repository.put_blob(&Blob::random(100)).status == 201).then_some(()));
    // A client that goes away gives its place back as well.
    second.0.break_off();
    let _ = second.1.join();
    let third = under_way(&scene, &repository);
    within(EFFECT, || (repository.put_blob(&Blob::random(100)).status == 201).then_some(()));
    drop(third.0);
    assert_eq!(third.1.join().expect("no panic"), 202);
}

#[test]
fn an_address_has_so_many_uploads_at_once_over_all_projects() {
    let scene = Scene::with(|builder| builder.set("limits.uploads_per_address", 1));
    let first = under_way(&scene, &scene.acme("app"));
    limited(until_refused(&scene.globex("app")), "uploads-per-address");
    let elsewhere =
        Repository::new(&scene.gateway.http().from([127, 0, 0, 20]), "globex/app", &scene.globex.push.credentials());
    elsewhere.put_blob(&Blob::random(100)).expect(201);
    drop(first.0);
    assert_eq!(first.1.join().expect("no panic"), 202);
}

//! Immutable tags, over an upstream that knows none: from the look at a tag to the write nobody else writes to it.

use super::{attach, scene};
use portcullis_tests::image::Manifest;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::json;
use std::thread;

fn immutable() -> Scene {
    scene(|gateway| {
        attach(gateway, "acme", "tag-immutability", &json!({"patterns": ["release-*"]}), &[]);
    })
}

#[test]
fn a_protected_tag_is_neither_moved_nor_deleted_by_name_or_digest() {
    let scene = immutable();
    let repository = scene.acme("app");
    let (first, second) = (Manifest::image(1, 300), Manifest::image(1, 300));
    repository.push("1.2.3", &first);
    second.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
    let refused = |answer: portcullis_tests::http::Response| {
        let answer = answer.refused(403, "DENIED");
        let message = answer.json()["errors"][0]["message"].to_string();
        assert!(message.contains("policy tag-immutability of acme: ") && message.contains("1.2.3"), "{answer}");
    };
    refused(repository.put_manifest("1.2.3", &second));
    refused(repository.delete("1.2.3"));
    refused(repository.delete(first.digest()));
    repository.put_manifest("1.2.3", &first).expect(201);
    repository.pull("1.2.3", &first);
    // What no pattern protects goes on as ever.
    for tag in ["latest", "dev"] {
        repository.put_manifest(tag, &first).expect(201);
        repository.put_manifest(tag, &second).expect(201);
        repository.delete(tag).expect(202);
    }
    repository.delete(second.digest());
    repository.pull("1.2.3", &first);
}

#[test]
fn of_two_that_push_a_protected_tag_at_once_one_wins_and_it_stays() {
    let scene = immutable();
    for round in 0..5 {
        let tag = format!("release-{round}");
        let images: Vec<Manifest> = (0..4).map(|_| Manifest::image(1, 300)).collect();
        for image in &images {
            image.blobs.iter().for_each(|blob| drop(scene.acme("app").put_blob(blob).expect(201)));
        }
        let answers: Vec<u16> = thread::scope(|scope| {
            let (scene, tag) = (&scene, &tag);
            let push = |image| scope.spawn(move || scene.acme("app").put_manifest(tag, image).status);
            let pushes: Vec<_> = images.iter().map(push).collect();
            pushes.into_iter().map(|push| push.join().expect("it answers")).collect()
        });
        let won: Vec<_> = answers.iter().zip(&images).filter(|(status, _)| **status == 201).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(answers.iter().all(|status| [201, 403].contains(status)), "{answers:?}");
        scene.acme("app").pull(&tag, won[0].1);
    }
}

#[test]
fn what_takes_a_deleted_tags_place_is_no_policys_and_no_quotas_business() {
    let scene = Scene::open();
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 300));
    repository.push("1.0", &image);
    let nothing = json!({"hooks": ["manifest-push"], "expression": "false", "message": "no manifests"});
    attach(&scene.gateway, "acme", "expression", &nothing, &[]);
    within(EFFECT, || (repository.put_manifest("keep", &image).status == 403).then_some(()));
    let before = scene.gateway.account("acme");
    scene.gateway.set_quota("acme", before.used);
    let pushes = || scene.registry.log().matches("PUT /v2/acme/app/manifests/1.0").count();
    let pushed = pushes();
    repository.delete("1.0").expect(202);
    assert!(pushes() > pushed, "something took its place upstream");
    repository.manifest("1.0").refused(404, "MANIFEST_UNKNOWN");
    repository.pull(image.digest(), &image);
    assert_eq!(scene.gateway.account("acme"), before);
}

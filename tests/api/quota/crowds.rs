//! Many at once: exactly what fits gets in, and nobody is refused for what others only took ahead.

use super::{denied, stream_blob};
use http::Method;
use portcullis_tests::image::Blob;
use portcullis_tests::ledger::Account;
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::sync::{Arc, Barrier};

const MIB: u64 = 1024 * 1024;

#[test]
fn of_many_blobs_at_once_exactly_those_that_fit_get_in() {
    let scene = Scene::open();
    scene.gateway.set_quota("acme", 10 * MIB);
    let start = Arc::new(Barrier::new(8));
    let pushes: Vec<_> = (0..8)
        .map(|number| {
            let (repository, start) = (scene.acme(&format!("crowd-{number}")), Arc::clone(&start));
            std::thread::spawn(move || {
                let blob = Blob::random(3 * MIB as usize);
                start.wait();
                repository.put_blob(&blob)
            })
        })
        .collect();
    let answers: Vec<_> = pushes.into_iter().map(|push| push.join().expect("no panic")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 3);
    for refused in answers.into_iter().filter(|answer| answer.status != 201) {
        denied(refused, "this upload needs 3.0 MiB more");
    }
    assert_eq!(scene.gateway.account("acme"), Account { used: 9 * MIB, reserved: 0 });
}

#[test]
fn streams_that_fit_together_all_get_in_and_a_crowd_does_not_refuse_itself_empty() {
    let scene = Scene::open();
    scene.gateway.set_quota("acme", 10 * MIB);
    let crowd = |count: usize, bytes: u64, round: &str| -> usize {
        let start = Arc::new(Barrier::new(count));
        let pushes: Vec<_> = (0..count)
            .map(|number| {
                let (repository, start) = (scene.acme(&format!("{round}-{number}")), Arc::clone(&start));
                std::thread::spawn(move || {
                    let blob = Blob::random(bytes as usize);
                    start.wait();
                    stream_blob(&repository, &blob).status
                })
            })
            .collect();
        let answers: Vec<u16> = pushes.into_iter().map(|push| push.join().expect("no panic")).collect();
        assert!(answers.iter().all(|status| matches!(status, 201 | 403)), "{answers:?}");
        answers.iter().filter(|status| **status == 201).count()
    };
    assert_eq!(crowd(4, 5 * MIB / 4, "fits"), 4, "5 of 10 MiB, though each takes room ahead");
    let let_in = crowd(6, 2 * MIB, "crowd");
    assert!((1..=2).contains(&let_in), "{let_in} of six times 2 MiB in 5");
    let used = 5 * MIB + let_in as u64 * 2 * MIB;
    within(EFFECT, || (scene.gateway.account("acme") == Account { used, reserved: 0 }).then_some(()));
}

#[test]
fn an_upload_takes_one_request_at_a_time() {
    let scene = Scene::open();
    let repository = scene.acme("one-by-one");
    let location = repository.open_upload();
    let (sender, body) = portcullis_tests::http::pieces();
    sender.send(vec![1; 1000]);
    let first = repository.at(Method::PATCH, &location).stream(body);
    let first = std::thread::spawn(move || first.send());
    within(EFFECT, || (scene.gateway.account("acme").reserved > 0).then_some(()));
    repository.at(Method::PATCH, &location).body("more").send().refused(400, "BLOB_UPLOAD_INVALID");
    repository.at(Method::DELETE, &location).send().refused(400, "BLOB_UPLOAD_INVALID");
    drop(sender);
    let went_on = first.join().expect("no panic").expect(202).header("location");
    assert_eq!(scene.gateway.account("acme").reserved, 1000, "the others have changed nothing");
    repository.at(Method::DELETE, &went_on).send().expect(204);
}

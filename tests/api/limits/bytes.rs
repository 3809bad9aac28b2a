//! Bytes: what is under way goes on and may leave a debt; until that is paid nothing more begins.

use super::limited;
use http::Method;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::time::Duration;

#[test]
fn a_download_leaves_a_debt_and_the_next_one_waits() {
    let scene = Scene::with(|builder| builder.set("limits.bytes_per_robot", "1MiB/d"));
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 900_000));
    repository.push("1.0", &image);
    let puller = scene.gateway.repository("acme/app", &scene.acme.pull.credentials());
    // The second begins while something is left, and comes whole.
    puller.manifest("1.0").expect(200);
    for _ in 0..2 {
        assert!(puller.blob(&image.blobs[1].digest).expect(200).body == image.blobs[1].bytes);
    }
    let refused = within(EFFECT, || Some(puller.blob(&image.blobs[1].digest)).filter(|answer| answer.status != 200));
    let refused = limited(refused, "bytes-per-robot");
    assert_eq!(refused.header("ratelimit-policy"), "\"bytes-per-robot\";q=1048576;w=86400;qu=\"content-bytes\"");
    assert!(refused.json().to_string().contains("robot acme+puller has had its 1MiB per d; try again in"), "{refused}");
    limited(puller.manifest("1.0"), "bytes-per-robot");
    // What moves no content goes on, and so does everybody else.
    puller.request(Method::HEAD, "manifests/1.0").send().expect(200);
    assert_eq!(puller.tags(), ["1.0"]);
    let pusher = scene.gateway.repository("acme/app", &scene.acme.push.credentials());
    pusher.manifest("1.0").expect(200);
}

#[test]
fn uploads_count_as_well_and_what_has_begun_may_end() {
    let scene = Scene::with(|builder| builder.set("limits.bytes_per_project", "1MiB/d"));
    let repository = scene.acme("app");
    let (location, blob) = (repository.open_upload(), Blob::random(3_000_000));
    let (first, second) = blob.bytes.split_at(2_000_000);
    let patched = repository.at(Method::PATCH, &location).body(first.to_vec()).send().expect(202);
    // In debt, and in the middle of an upload: it may end.
    let location = patched.header("location");
    repository.at(Method::PUT, &with_digest(&location, &blob.digest)).body(second.to_vec()).send().expect(201);
    limited(repository.request(Method::POST, "blobs/uploads/").send(), "bytes-per-project");
    limited(repository.blob(&blob.digest), "bytes-per-project");
    // A blob of another project's is not this project's business.
    scene.globex("app").put_blob(&Blob::random(1000)).expect(201);
}

#[test]
fn sessions_opened_before_a_debt_have_not_begun() {
    let scene = Scene::with(|builder| builder.set("limits.bytes_per_project", "1MiB/d"));
    let (repository, image) = (scene.acme("app"), Manifest::image(1, 2_400_000));
    let [config, layer] = &image.blobs[..] else { panic!("a configuration and a layer") };
    repository.put_blob(config).expect(201);
    let waiting: Vec<String> = (0..3).map(|_| repository.open_upload()).collect();
    // A byte while nothing is owed is no beginning either.
    let (trickling, begun) = (repository.open_upload(), repository.open_upload());
    let patched = repository.at(Method::PATCH, &trickling).body(vec![7; 1]).send().expect(202);
    let trickling = patched.header("location");
    let (first, rest) = layer.bytes.split_at(2_000_000);
    let patched = repository.at(Method::PATCH, &begun).body(first.to_vec()).send().expect(202);
    within(EFFECT, || (repository.request(Method::POST, "blobs/uploads/").send().status == 429).then_some(()));
    let small = Blob::random(1000);
    for location in waiting.iter().chain([&trickling]) {
        limited(repository.at(Method::PATCH, location).body(small.bytes.clone()).send(), "bytes-per-project");
        let put = repository.at(Method::PUT, &with_digest(location, &small.digest));
        limited(put.body(small.bytes.clone()).send(), "bytes-per-project");
        // How far it has got may be asked, and it may be given up.
        let status = repository.at(Method::GET, location).send().expect(204);
        repository.at(Method::DELETE, &status.header("location")).send().expect(204);
    }
    // The one that has begun ends, in two more requests, and the manifest of what is there follows.
    let patched = repository.at(Method::PATCH, &patched.header("location")).body(rest.to_vec()).send().expect(202);
    repository.at(Method::PUT, &with_digest(&patched.header("location"), &layer.digest)).send().expect(201);
    repository.put_manifest("1.0", &image).expect(201);
}

#[test]
fn a_debt_is_paid_by_time() {
    let scene = Scene::with(|builder| builder.set("limits.bytes_per_project", "100KiB/s"));
    let (repository, blob) = (scene.acme("app"), Blob::random(900_000));
    repository.put_blob(&blob).expect(201);
    let begun = std::time::Instant::now();
    let refused = limited(repository.blob(&blob.digest), "bytes-per-project");
    let wait: u64 = refused.header("retry-after").parse().expect("a number");
    assert!((1..=8).contains(&wait), "{refused}");
    within(Duration::from_secs(60), || (repository.blob(&blob.digest).status == 200).then_some(()));
    assert!(begun.elapsed().as_secs() + 1 >= wait, "it came back before its debt was paid");
}

#[test]
fn a_long_download_is_charged_while_it_flows() {
    let scene = Scene::with(|builder| builder.set("limits.bytes_per_project", "20MiB/d"));
    let (repository, blob) = (scene.acme("app"), Blob::random(16 << 20));
    repository.put_blob(&blob).expect(201);
    // Nobody reads its end, and what has flowed counts all the same.
    let request = repository.request(Method::GET, &format!("blobs/{}", blob.digest));
    let answer = portcullis_tests::http::block_on(request.open()).expect("a head");
    assert_eq!(answer.status(), 200);
    let reading = std::thread::spawn(move || {
        use http_body_util::BodyExt as _;
        portcullis_tests::http::block_on(async move {
            let (mut body, mut read) = (answer.into_body(), 0_usize);
            while read < 8 << 20 {
                read += body.frame().await.expect("more").expect("no error").into_data().map_or(0, |data| data.len());
            }
            body
        })
    });
    let body = reading.join().expect("no panic");
    let refused = within(EFFECT, || Some(repository.blob(&blob.digest)).filter(|answer| answer.status == 429));
    limited(refused, "bytes-per-project");
    drop(body);
}

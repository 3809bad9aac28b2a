//! Uploads that do not end in order.

use http::Method;
use portcullis_tests::faults::Faults;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Credentials, encode, pieces};
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, Scene, within};
use std::time::Duration;

fn authorization(who: &Credentials) -> String {
    use base64::Engine as _;
    match who {
        Credentials::Basic(user, secret) => {
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}")))
        }
        other => panic!("not {other:?}"),
    }
}

/// A client goes away in the middle of the last request of an upload, whose bytes so far are the whole blob.
#[test]
fn a_client_that_goes_away_ends_no_upload() {
    let scene = Scene::shared();
    let upstream = Faults::before(&scene.registry.url(), |_| None);
    let house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("gone");
    for (framing, is_chunked) in [("transfer-encoding: chunked", true), ("content-length: 100000", false)] {
        let blob = Blob::random(50_000);
        let location = repository.open_upload();
        let mut raw = Raw::connect(&house.gateway.http());
        raw.send(format!(
            "PUT {} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\n{framing}\r\n\r\n",
            with_digest(&location, &blob.digest),
            house.gateway.authority(),
            authorization(&house.acme.admin.credentials()),
        ));
        if is_chunked {
            raw.send(format!("{:x}\r\n", blob.bytes.len())).send(&blob.bytes).send("\r\n");
        } else {
            raw.send(&blob.bytes);
        }
        let before = upstream.seen().iter().filter(|seen| seen.method == "PUT").count();
        upstream.wait_for_head(|seen| seen.method == "PUT" && seen.target.contains(&encode(&blob.digest)));
        raw.drop_dead();
        let seen = within(Duration::from_secs(20), || {
            upstream.seen().into_iter().filter(|seen| seen.method == "PUT").nth(before)
        });
        assert!(!seen.whole, "the upstream saw a proper end ({framing})");
        repository.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
        // The upload is still there, and can be given up.
        repository.at(Method::DELETE, &location).send().expect(204);
    }
}

#[test]
fn a_client_that_breaks_off_over_http_2_ends_no_upload() {
    let scene = Scene::shared();
    let upstream = Faults::before(&scene.registry.url(), |_| None);
    let house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("gone");
    let blob = Blob::random(50_000);
    let (sender, body) = pieces();
    sender.send(blob.bytes.clone());
    let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).http2().stream(body);
    let putting = std::thread::spawn(move || put.attempt());
    upstream.wait_for_head(|seen| seen.method == "PUT");
    sender.break_off();
    putting.join().expect("no panic").expect_err("there is nobody to answer");
    assert!(!upstream.wait_for(|seen| seen.method == "PUT").whole, "the upstream saw a proper end");
    repository.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_a_manifest_pushes_nothing() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("half-manifest"), Manifest::image(1, 100));
    repository.push("whole", &image);
    let bytes = &image.blob.bytes;
    let mut raw = Raw::connect(&scene.gateway.http());
    raw.send(format!(
        "PUT /v2/acme/half-manifest/manifests/half HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\ncontent-type: {IMAGE}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        scene.gateway.authority(),
        authorization(&scene.acme.admin.credentials()),
        bytes.len(),
    ));
    raw.send(bytes).send("\r\n");
    raw.drop_dead();
    repository.manifest("half").refused(404, "MANIFEST_UNKNOWN");
    assert!(!scene.registry.log().contains("PUT /v2/acme/half-manifest/manifests/half"));
}

#[test]
fn bytes_without_their_digest_are_refused_and_not_recorded() {
    let scene = Scene::shared();
    let repository = scene.acme("mismatch");
    let (blob, other) = (Blob::random(1000), Blob::random(1000));
    let put =
        repository.at(Method::PUT, &with_digest(&repository.open_upload(), &other.digest)).body(blob.bytes.clone());
    put.send().refused(400, "DIGEST_INVALID");
    let post =
        repository.request(Method::POST, &format!("blobs/uploads/?digest={}", other.digest)).body(blob.bytes.clone());
    post.send().refused(400, "DIGEST_INVALID");
    for digest in [&blob.digest, &other.digest] {
        repository.blob(digest).refused(404, "BLOB_UNKNOWN");
    }
}

#[test]
fn an_end_without_a_digest_is_refused_before_the_upstream_hears_of_it() {
    let scene = Scene::shared();
    let repository = scene.acme("no-digest");
    let location = repository.open_upload();
    for end in ["", "?digest=", "?digest=sha256:abc", "?digest=latest"] {
        repository.at(Method::PUT, &format!("{location}{end}")).body("x").send().refused(400, "DIGEST_INVALID");
    }
    assert!(!scene.registry.log().contains("PUT /v2/acme/no-digest"));
}

#[test]
fn a_silent_client_is_given_up() {
    let scene = Scene::with(|builder| builder.set("upstream.idle_timeout_s", 1));
    let repository = scene.acme("silent");
    let blob = Blob::random(1000);
    let (sender, body) = pieces();
    sender.send(blob.bytes.clone());
    let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).stream(body);
    let answer = put.limit(Duration::from_secs(20)).send();
    drop(sender);
    answer.refused(408, "SIZE_INVALID");
    repository.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn two_lengths_are_refused() {
    let scene = Scene::shared();
    let location = scene.acme("lengths").open_upload();
    for lengths in [
        "content-length: 3\r\ncontent-length: 4",
        "content-length: 4\r\ncontent-length: 3",
        "content-length: 3, 3",
        "content-length: +3",
        "content-length: ",
    ] {
        let mut raw = Raw::connect(&scene.gateway.http());
        raw.send(format!(
            "PATCH {location} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\n{lengths}\r\n\r\n0\r\n\r\n",
            scene.gateway.authority(),
            authorization(&scene.acme.admin.credentials()),
        ));
        let answer = raw.answer().unwrap_or_else(|| panic!("no answer to {lengths:?}"));
        assert_eq!(answer.status, 400, "{lengths:?}: {answer:?}");
    }
    assert!(!scene.registry.log().contains("PATCH /v2/acme/lengths"));
}

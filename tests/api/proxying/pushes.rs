//! Writing blobs: every way that the specification knows, and how far an upload has got.

use super::VERSIONS;
use http::Method;
use portcullis_tests::http::{Request, encode, pieces};
use portcullis_tests::image::{Blob, random, sha256};
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::Scene;

fn assert_stored(repository: &Repository, blob: &Blob) {
    assert!(repository.blob(&blob.digest).expect(200).body == blob.bytes, "it differs from what was pushed");
}

fn status(repository: &Repository, location: &str) -> (String, String) {
    let answer = repository.at(Method::GET, location).send().expect(204);
    assert!(answer.body.is_empty(), "{answer}");
    (answer.header("range"), answer.header("location"))
}

fn chunk(repository: &Repository, location: &str, range: &str, bytes: &[u8]) -> Request {
    let request = repository.at(Method::PATCH, location).header("content-type", "application/octet-stream");
    let request = if range.is_empty() { request } else { request.header("content-range", range) };
    request.body(bytes.to_vec())
}

#[test]
fn a_blob_is_pushed_in_one_put() {
    let scene = Scene::shared();
    let repository = scene.acme("one-put");
    for version in VERSIONS {
        let blob = Blob::random(70_000);
        let location =
            version(repository.request(Method::POST, "blobs/uploads/")).send().expect(202).header("location");
        let put = version(repository.at(Method::PUT, &with_digest(&location, &blob.digest))).body(blob.bytes.clone());
        let put = put.send().expect(201);
        assert_eq!(put.header("docker-content-digest"), blob.digest);
        assert_eq!(put.header("location"), format!("/v2/acme/one-put/blobs/{}", blob.digest));
        assert_stored(&repository, &blob);
    }
}

#[test]
fn a_blob_is_pushed_in_one_post() {
    let scene = Scene::shared();
    let repository = scene.acme("one-post");
    for version in VERSIONS {
        let blob = Blob::random(70_000);
        let post =
            version(repository.request(Method::POST, &format!("blobs/uploads/?digest={}", encode(&blob.digest))));
        let post = post.header("content-type", "application/octet-stream").body(blob.bytes.clone()).send().expect(201);
        assert_eq!(post.header("location"), format!("/v2/acme/one-post/blobs/{}", blob.digest));
        assert_stored(&repository, &blob);
    }
}

#[test]
fn a_chunk_needs_no_length() {
    let scene = Scene::shared();
    let repository = scene.acme("no-length");
    for version in VERSIONS {
        let blob = Blob::random(300_000);
        let (sender, body) = pieces();
        for piece in blob.bytes.chunks(7777) {
            sender.send(piece.to_vec());
        }
        drop(sender);
        let patch = version(repository.at(Method::PATCH, &repository.open_upload())).stream(body).send().expect(202);
        assert_eq!(patch.header("range"), "0-299999", "{patch}");
        let put = repository.at(Method::PUT, &with_digest(&patch.header("location"), &blob.digest));
        version(put).send().expect(201);
        assert_stored(&repository, &blob);
    }
}

#[test]
fn chunks_follow_one_another_and_the_last_may_come_with_the_put() {
    let scene = Scene::shared();
    let repository = scene.acme("chunks");
    for version in VERSIONS {
        let blob = Blob::random(3000);
        let mut location = repository.open_upload();
        for (from, to) in [(0, 1000), (1000, 2000)] {
            let range = format!("{from}-{}", to - 1);
            let patch = version(chunk(&repository, &location, &range, &blob.bytes[from..to])).send().expect(202);
            assert_eq!(patch.header("range"), format!("0-{}", to - 1), "{patch}");
            let seen = status(&repository, &patch.header("location"));
            assert_eq!(seen.0, format!("0-{}", to - 1));
            location = seen.1;
        }
        let put = version(repository.at(Method::PUT, &with_digest(&location, &blob.digest)));
        put.header("content-range", "2000-2999").body(blob.bytes[2000..].to_vec()).send().expect(201);
        assert_stored(&repository, &blob);
    }
}

#[test]
fn a_chunk_out_of_turn_is_416_and_leaves_the_upload_as_it_was() {
    let scene = Scene::shared();
    let repository = scene.acme("out-of-turn");
    let blob = Blob::random(2000);
    let first = chunk(&repository, &repository.open_upload(), "0-999", &blob.bytes[..1000]).send().expect(202);
    let location = first.header("location");
    let wrong = [
        "1001-2000",
        "0-999",
        "999-1998",
        "1999-1000",
        "bytes=1000-1999",
        "1000-1999/2000",
        "-1",
        "x-y",
        "1000-",
        "99999999999999999999-1",
    ];
    for range in wrong {
        chunk(&repository, &location, range, &blob.bytes[1000..]).send().refused(416, "RANGE_INVALID");
        let put = repository.at(Method::PUT, &with_digest(&location, &blob.digest)).header("content-range", range);
        put.body(blob.bytes[1000..].to_vec()).send().refused(416, "RANGE_INVALID");
        assert_eq!(status(&repository, &location).0, "0-999", "after {range}");
    }
    let last = chunk(&repository, &location, "1000-1999", &blob.bytes[1000..]).send().expect(202);
    repository.at(Method::PUT, &with_digest(&last.header("location"), &blob.digest)).send().expect(201);
    assert_stored(&repository, &blob);
}

#[test]
fn a_single_byte_is_a_chunk() {
    let scene = Scene::shared();
    let repository = scene.acme("single-byte");
    let mut location = repository.open_upload();
    chunk(&repository, &location, "1-1", b"a").send().refused(416, "RANGE_INVALID");
    for (range, byte) in [("0-0", b"a"), ("1-1", b"b"), ("2-2", b"c")] {
        location = chunk(&repository, &location, range, byte).send().expect(202).header("location");
        location = status(&repository, &location).1;
    }
    let blob = Blob::new("application/octet-stream", "abc");
    repository.at(Method::PUT, &with_digest(&location, &blob.digest)).send().expect(201);
    assert_stored(&repository, &blob);
}

#[test]
fn a_chunk_as_long_as_its_range_says_or_none() {
    let scene = Scene::shared();
    let repository = scene.acme("range-length");
    let location = repository.open_upload();
    chunk(&repository, &location, "0-99", &[1; 50]).send().refused(416, "RANGE_INVALID");
    chunk(&repository, &location, "0-9", &[1; 50]).send().refused(416, "RANGE_INVALID");
    chunk(&repository, &location, "0-49", &[1; 50]).send().expect(202);
}

#[test]
fn a_new_upload_stands_at_its_beginning_and_a_cancelled_one_is_gone() {
    let scene = Scene::shared();
    let repository = scene.acme("cancelled");
    for version in VERSIONS {
        let location = repository.open_upload();
        let (range, location) = status(&repository, &location);
        assert_eq!(range, "0-0");
        version(repository.at(Method::DELETE, &location)).send().expect(204);
        version(repository.at(Method::GET, &location)).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
        version(repository.at(Method::DELETE, &location)).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn who_expects_100_continue_is_told_to_go_on_only_where_he_may() {
    let scene = Scene::shared();
    let (http, repository) = (scene.gateway.http(), scene.acme("expect"));
    let blob = Blob::random(10_000);
    let target = with_digest(&repository.open_upload(), &blob.digest);
    let head = |token: &str| {
        let host = scene.gateway.authority();
        let length = blob.bytes.len();
        format!(
            "PUT {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: {token}\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    let mut refused = Raw::connect(&http);
    let answer = refused.send(head("Bearer nonsense")).answer().expect("an answer before any of the body");
    assert_eq!(answer.status, 401, "{answer:?}");

    let portcullis_tests::http::Credentials::Bearer(token) =
        scene.gateway.token(&scene.acme.admin.credentials(), &["repository:acme/expect:pull,push"])
    else {
        unreachable!("a token is a bearer's");
    };
    let mut allowed = Raw::connect(&http);
    let answer = allowed.send(head(&format!("Bearer {token}"))).answer().expect("to be told to go on");
    assert_eq!(answer.status, 100, "{answer:?}");
    let answer = allowed.send(&blob.bytes).answer().expect("an answer");
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_stored(&repository, &blob);
}

#[test]
fn an_empty_blob_is_a_blob() {
    let scene = Scene::shared();
    let repository = scene.acme("empty");
    let blob = Blob::new("application/octet-stream", "");
    repository.put_blob(&blob).expect(201);
    assert_stored(&repository, &blob);
}

#[test]
fn a_large_blob_comes_back_as_it_went() {
    let scene = Scene::shared();
    let repository = scene.acme("large");
    let mut bytes = random(1 << 20).repeat(64);
    bytes[..16].copy_from_slice(&random(16));
    let blob = Blob::new("application/octet-stream", bytes);
    for version in VERSIONS {
        let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest));
        version(put).body(blob.bytes.clone()).send().expect(201);
        let pulled = version(repository.request(Method::GET, &format!("blobs/{}", blob.digest))).send().expect(200);
        assert_eq!(sha256(&pulled.body), blob.digest);
    }
}

#[test]
fn a_blob_may_be_named_by_sha512() {
    let scene = Scene::shared();
    let repository = scene.acme("sha512");
    let bytes = random(5000);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &bytes);
    let digest = hash.as_ref().iter().fold("sha512:".to_owned(), |text, byte| text + &format!("{byte:02x}"));
    let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &digest)).body(bytes.clone());
    assert_eq!(put.send().expect(201).header("docker-content-digest"), digest);
    assert_eq!(repository.blob(&digest).expect(200).body, bytes);
    let wrong = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &digest)).body(random(5000));
    wrong.send().refused(400, "DIGEST_INVALID");
}

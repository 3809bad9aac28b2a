//! Reading: manifests and blobs, whole, in part, and not again.

use super::VERSIONS;
use http::Method;
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::Scene;

fn pushed(scene: &Scene, repository: &str) -> (Repository, Manifest) {
    let (repository, image) = (scene.acme(repository), Manifest::image(2, 5000));
    repository.push("1.0", &image);
    (repository, image)
}

#[test]
fn manifests_and_blobs_are_read_by_get_and_head_over_every_protocol() {
    let scene = Scene::shared();
    let (repository, image) = pushed(&scene, "reads");
    let layer = &image.blobs[1];
    for version in VERSIONS {
        let ping = version(scene.gateway.http().get("/v2/").with(&scene.acme.pull.credentials())).send().expect(200);
        assert_eq!(ping.header("docker-distribution-api-version"), "registry/2.0");
        for (path, bytes, digest) in [
            ("manifests/1.0".to_owned(), &image.blob.bytes, image.digest()),
            (format!("manifests/{}", image.digest()), &image.blob.bytes, image.digest()),
            (format!("blobs/{}", layer.digest), &layer.bytes, layer.digest.as_str()),
        ] {
            let whole = version(repository.request(Method::GET, &path)).send().expect(200);
            assert!(whole.body == bytes, "{path} differs from what was pushed");
            let head = version(repository.request(Method::HEAD, &path)).send().expect(200);
            assert!(head.body.is_empty());
            for answer in [whole, head] {
                assert_eq!(answer.header("docker-content-digest"), digest, "{answer}");
                assert_eq!(answer.header("content-length"), bytes.len().to_string(), "{answer}");
                assert_eq!(answer.header("etag"), format!("\"{digest}\""), "{answer}");
            }
        }
    }
}

#[test]
fn what_is_not_there_is_404_by_get_and_head_over_every_protocol() {
    let scene = Scene::shared();
    let (repository, _) = pushed(&scene, "missing");
    let digest = Blob::random(8).digest;
    for version in VERSIONS {
        for (path, code) in [
            ("manifests/2.0".to_owned(), "MANIFEST_UNKNOWN"),
            (format!("manifests/{digest}"), "MANIFEST_UNKNOWN"),
            (format!("blobs/{digest}"), "BLOB_UNKNOWN"),
        ] {
            version(repository.request(Method::GET, &path)).send().refused(404, code);
            let head = version(repository.request(Method::HEAD, &path)).send().expect(404);
            assert!(head.body.is_empty(), "{head}");
        }
    }
}

#[test]
fn a_part_of_a_blob_is_206_with_exactly_those_bytes() {
    let scene = Scene::shared();
    let (repository, image) = pushed(&scene, "ranges");
    let layer = &image.blobs[1];
    let (path, size) = (format!("blobs/{}", layer.digest), layer.bytes.len());
    for version in VERSIONS {
        for (range, from, to) in [
            ("bytes=10-19".to_owned(), 10, 20),
            ("bytes=-5".to_owned(), size - 5, size),
            (format!("bytes={}-", size - 4), size - 4, size),
            ("bytes=0-".to_owned(), 0, size),
            (format!("bytes=100-{}", size * 2), 100, size),
        ] {
            let part = version(repository.request(Method::GET, &path)).header("range", &range).send().expect(206);
            assert!(part.body == layer.bytes[from..to], "{range}");
            assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{size}", to - 1));
            assert_eq!(part.header("content-length"), (to - from).to_string());
        }
        let beyond = version(repository.request(Method::GET, &path)).header("range", format!("bytes={size}-"));
        let beyond = beyond.send().refused(416, "RANGE_INVALID");
        assert_eq!(beyond.header("content-range"), format!("bytes */{size}"), "{beyond}");
    }
}

#[test]
fn a_range_holds_only_for_the_content_that_if_range_names() {
    let scene = Scene::shared();
    let (repository, image) = pushed(&scene, "if-range");
    let layer = &image.blobs[1];
    let part = |etag: &str| {
        let path = format!("blobs/{}", layer.digest);
        repository.request(Method::GET, &path).header("range", "bytes=0-9").header("if-range", etag).send()
    };
    assert_eq!(part(&format!("\"{}\"", layer.digest)).expect(206).body, layer.bytes[..10]);
    assert_eq!(part("\"another\"").expect(200).body, layer.bytes);
}

#[test]
fn what_the_client_has_already_is_304_without_a_body() {
    let scene = Scene::shared();
    let (repository, image) = pushed(&scene, "etags");
    for version in VERSIONS {
        for path in [
            "manifests/1.0".to_owned(),
            format!("manifests/{}", image.digest()),
            format!("blobs/{}", image.blobs[1].digest),
        ] {
            let etag = repository.request(Method::HEAD, &path).send().expect(200).header("etag");
            let again = version(repository.request(Method::GET, &path)).header("if-none-match", &etag);
            let again = again.send().expect(304);
            assert!(again.body.is_empty(), "{again}");
            // The registry behind leaves it out of a manifest's.
            assert!(again.header("etag") == etag || path.starts_with("manifests/"), "{again}");
            let other = version(repository.request(Method::GET, &path)).header("if-none-match", "\"another\"");
            other.send().expect(200);
        }
    }
}

#[test]
fn a_client_that_names_no_media_types_gets_what_was_pushed() {
    let scene = Scene::shared();
    let (repository, image) = pushed(&scene, "accept");
    // The bare registry would turn some manifests into schema 1 for such a client.
    for accept in ["", "*/*", "application/vnd.docker.distribution.manifest.v1+prettyjws"] {
        let request = repository.request(Method::GET, "manifests/1.0");
        let answer = if accept.is_empty() { request } else { request.header("accept", accept) }.send().expect(200);
        assert_eq!((answer.header("content-type"), &answer.body[..]), (IMAGE.to_owned(), &image.blob.bytes[..]));
    }
}

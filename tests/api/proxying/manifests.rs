//! Writing manifests: indexes, several tags at once, and how large they may be.

use super::VERSIONS;
use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::pieces;
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::scene::Scene;
use serde_json::json;

const LIMIT: usize = 4 * 1024 * 1024;

/// An image's manifest of exactly this many bytes.
fn image_of(bytes: usize) -> Manifest {
    let image = Manifest::image(1, 10);
    let padded = |image: Manifest, padding| {
        image.changed(|manifest| manifest["annotations"] = json!({"padding": "x".repeat(padding)}))
    };
    let overhead = padded(image.clone(), 0).blob.bytes.len();
    padded(image, bytes - overhead)
}

#[test]
fn an_index_stands_over_its_children_and_is_pulled_by_tag_and_digest() {
    let scene = Scene::shared();
    let repository = scene.acme("index");
    let index = Manifest::index(vec![("amd64", Manifest::image(1, 100)), ("arm64", Manifest::image(2, 100))]);
    repository.push("multi", &index);
    repository.pull("multi", &index);
    repository.pull(index.digest(), &index);
}

#[test]
fn an_index_over_children_that_are_not_there_is_refused() {
    let scene = Scene::shared();
    let index = Manifest::index(vec![("amd64", Manifest::image(1, 100))]);
    scene.acme("childless").put_manifest("multi", &index).refused(400, "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn one_push_by_digest_sets_several_tags() {
    let scene = Scene::shared();
    let repository = scene.acme("several-tags");
    for version in VERSIONS {
        let image = Manifest::image(1, 100);
        repository.push(image.digest(), &image);
        let path = format!("manifests/{}?tag=1.0&tag=1.0.3&tag=latest", image.digest());
        let put = version(repository.request(Method::PUT, &path)).header("content-type", IMAGE);
        let put = put.body(image.blob.bytes.clone()).send().expect(201);
        assert_eq!(put.header("oci-tag"), "1.0, 1.0.3, latest", "{put}");
        assert_eq!(put.header("docker-content-digest"), image.digest());
        for tag in ["1.0", "1.0.3", "latest"] {
            repository.pull(tag, &image);
        }
    }
    assert_eq!(repository.tags(), ["1.0", "1.0.3", "latest"]);
}

#[test]
fn a_push_by_digest_must_have_that_digest() {
    let scene = Scene::shared();
    let repository = scene.acme("other-digest");
    let (image, other) = (Manifest::image(1, 100), Manifest::image(1, 100));
    repository.push("1.0", &image);
    repository.put_manifest(other.digest(), &image).refused(400, "DIGEST_INVALID");
}

#[test]
fn a_manifest_of_4_mib_less_a_byte_passes_and_comes_back() {
    let scene = Scene::shared();
    let repository = scene.acme("large-manifest");
    for size in [LIMIT - 1, LIMIT] {
        let image = image_of(size);
        assert_eq!(image.blob.bytes.len(), size);
        repository.push("large", &image);
        repository.pull("large", &image);
    }
}

#[test]
fn a_larger_manifest_is_413_whether_it_tells_its_length_or_not() {
    let scene = Scene::shared();
    let repository = scene.acme("too-large-manifest");
    let image = image_of(LIMIT + 1);
    for version in VERSIONS {
        let put = || version(repository.request(Method::PUT, "manifests/large")).header("content-type", IMAGE);
        put().body(image.blob.bytes.clone()).send().refused(413, "MANIFEST_INVALID");
        let (sender, body) = pieces();
        image.blob.bytes.chunks(100_000).for_each(|piece| sender.send(piece.to_vec()));
        drop(sender);
        put().stream(body).send().refused(413, "MANIFEST_INVALID");
    }
    assert!(!scene.registry.log().contains("PUT /v2/acme/too-large-manifest"), "the upstream must not hear of it");
}

#[test]
fn a_manifest_may_be_named_by_sha512_where_the_upstream_knows_that() {
    let image = Blob::new(IMAGE, Manifest::image(1, 10).blob.bytes);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &image.bytes);
    let digest = hash.as_ref().iter().fold("sha512:".to_owned(), |text, byte| text + &format!("{byte:02x}"));
    let upstream = {
        let (digest, bytes) = (digest.clone(), image.bytes.clone());
        Faults::scripted(move |seen| match seen.method.as_str() {
            "GET" if seen.path().starts_with("/v2/acme/") => {
                Answer::status(200).header("content-type", IMAGE).header("docker-content-digest", &digest).body(&*bytes)
            }
            "PUT" => Answer::status(201).header("docker-content-digest", &digest),
            _ => Answer::status(200),
        })
    };
    let mut gateway = Gateway::before(&upstream.url()).set("upstream.isolation", "repository").stopped();
    let acme = gateway.persona_unasked("acme");
    gateway.serve();
    let repository = gateway.repository("acme/app", &acme.admin.credentials());
    let put = repository.request(Method::PUT, &format!("manifests/{digest}")).header("content-type", IMAGE);
    assert_eq!(put.body(image.bytes.clone()).send().expect(201).header("docker-content-digest"), digest);
    assert_eq!(repository.manifest(&digest).expect(200).body, image.bytes);
    let other = digest.replace(&digest[7..11], "0000");
    assert_eq!(repository.manifest(&other).status, 502, "an answer under another digest is no answer");
}

/// The upstream would serve it as a manifest: nobody has looked at it as one.
#[test]
fn a_manifest_that_came_as_a_blob_is_none() {
    for isolation in ["ledger", "repository"] {
        let scene = Scene::with(|builder| builder.set("upstream.isolation", isolation));
        let repository = scene.acme("smuggled");
        let image = Manifest::image(1, 300);
        image.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
        repository.put_blob(&image.blob).expect(201);
        repository.manifest(image.digest()).refused(404, "MANIFEST_UNKNOWN");
        let head = repository.request(Method::HEAD, &format!("manifests/{}", image.digest())).send();
        assert_eq!(head.status, 404);
        let index = Manifest::index(vec![("amd64", image.clone())]);
        repository.put_manifest("multi", &index).refused(400, "MANIFEST_BLOB_UNKNOWN");
        // Pushed as what it is, it was looked at.
        repository.put_manifest("1", &image).expect(201);
        repository.put_manifest("multi", &index).expect(201);
        repository.manifest(image.digest()).expect(200);
    }
}

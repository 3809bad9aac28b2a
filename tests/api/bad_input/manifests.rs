//! Manifests that two parsers read differently. Each test shows how the bare registry reads them, then that the gateway
//! refuses them.

use http::Method;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::{Blob, IMAGE, INDEX, Manifest};
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::Scene;
use serde_json::{Value, json};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An image whose one layer is nowhere, written by `write` from its two descriptors.
fn without_layer(write: impl FnOnce(&Value, &Value) -> String) -> Manifest {
    let (config, layer) = (Blob::random(40), Blob::layer(50));
    let bytes = write(&config.descriptor(), &layer.descriptor());
    let mut manifest = Manifest::image(0, 0).with_bytes(bytes);
    manifest.blobs = vec![config, layer];
    manifest
}

fn put(repository: &Repository, media_type: &str, manifest: &Manifest) -> portcullis_tests::http::Response {
    let put = repository.request(Method::PUT, "manifests/odd").header("content-type", media_type);
    put.body(manifest.blob.bytes.clone()).send()
}

/// The bare registry finds the layer under a key that a strict reader does not look at: it misses it, and takes the
/// manifest once it is there. The gateway takes it neither way.
#[track_caller]
fn assert_hidden(what: &str, manifest: &Manifest) {
    let scene = Scene::shared();
    let (bare, ours) =
        (Repository::new(&scene.registry.http(), "acme/reader", &Credentials::None), scene.acme("strict"));
    let layer = &manifest.blobs[1];
    for repository in [&bare, &ours] {
        repository.put_blob(&manifest.blobs[0]).expect(201);
    }
    let missing = put(&bare, IMAGE, manifest);
    assert!(
        (400..500).contains(&missing.status) && missing.to_string().contains(&layer.digest),
        "{what}: the bare registry reads the layer\n{missing}"
    );
    put(&ours, IMAGE, manifest).refused(400, "MANIFEST_INVALID");
    for repository in [&bare, &ours] {
        repository.put_blob(layer).expect(201);
    }
    assert_eq!(put(&bare, IMAGE, manifest).status, 201, "{what}: the bare registry takes it");
    put(&ours, IMAGE, manifest).refused(400, "MANIFEST_INVALID");
    ours.manifest("odd").refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn the_bare_registry_folds_the_case_of_keys() {
    for key in ["LAYERS", "Layers", "layer\u{17f}"] {
        let manifest = without_layer(|config, layer| {
            format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[],"{key}":[{layer}]}}"#)
        });
        assert_hidden(key, &manifest);
    }
}

#[test]
fn the_bare_registry_folds_keys_below_the_top_too() {
    let manifest = without_layer(|config, layer| {
        let (digest, size) = (&layer["digest"], &layer["size"]);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[{{"mediaType":"x/y","size":{size},"digest":{},"DIGEST":{digest}}}]}}"#,
            config["digest"]
        )
    });
    assert_hidden("DIGEST", &manifest);
}

#[test]
fn of_duplicate_keys_the_bare_registry_takes_the_last() {
    let manifest = without_layer(|config, layer| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[],"layers":[{layer}]}}"#)
    });
    assert_hidden("duplicate", &manifest);
    let escaped = without_layer(|config, layer| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[],"l\u0061yers":[{layer}]}}"#)
    });
    assert_hidden("escaped duplicate", &escaped);
}

#[test]
fn the_bare_registry_takes_an_encoded_manifest_as_it_stands() {
    let scene = Scene::shared();
    let image = Manifest::image(1, 50);
    let bare = Repository::new(&scene.registry.http(), "acme/encoded", &Credentials::None);
    let ours = scene.acme("encoded-ours");
    for repository in [&bare, &ours] {
        image.blobs.iter().for_each(|blob| drop(repository.put_blob(blob).expect(201)));
    }
    let encoded = |repository: &Repository| {
        let put = repository.request(Method::PUT, "manifests/odd").header("content-type", IMAGE);
        put.header("content-encoding", "gzip").body(image.blob.bytes.clone()).send()
    };
    assert_eq!(encoded(&bare).status, 201, "the bare registry does not look at the encoding");
    encoded(&ours).refused(400, "MANIFEST_INVALID");
}

#[test]
fn a_manifest_is_of_one_kind() {
    let scene = Scene::shared();
    let repository = scene.acme("kinds-of-manifests");
    let image = Manifest::image(1, 50);
    repository.push("1.0", &image);
    let list = json!([image.blob.descriptor()]);
    let both = image.clone().changed(|manifest| manifest["manifests"] = list.clone());
    put(&repository, IMAGE, &both).refused(400, "MANIFEST_INVALID");
    put(&repository, INDEX, &both).refused(400, "MANIFEST_INVALID");
    let untyped = image.clone().changed(|manifest| drop(manifest.as_object_mut().map(|keys| keys.remove("mediaType"))));
    put(&repository, IMAGE, &untyped).expect(201);
    put(&repository, INDEX, &untyped).refused(400, "MANIFEST_INVALID");
    for media_type in [DOCKER, INDEX, "application/json", "application/octet-stream", "text/plain", "", "*/*"] {
        put(&repository, media_type, &image).refused(400, "MANIFEST_INVALID");
    }
    let none = repository.request(Method::PUT, "manifests/odd").body(image.blob.bytes.clone());
    none.send().refused(400, "MANIFEST_INVALID");
    let two =
        repository.request(Method::PUT, "manifests/odd").header("content-type", IMAGE).header("content-type", DOCKER);
    two.body(image.blob.bytes.clone()).send().refused(400, "MANIFEST_INVALID");
    put(&repository, &format!("{IMAGE}; charset=utf-8"), &image).expect(201);
}

#[test]
fn schema_1_is_neither_taken_nor_served() {
    let scene = Scene::shared();
    let repository = scene.acme("schema-1");
    let old = json!({"schemaVersion": 1, "name": "acme/schema-1", "tag": "odd", "architecture": "amd64", "fsLayers": [], "history": [], "signatures": []});
    let old = Manifest::image(0, 0).with_bytes(old.to_string());
    for media_type in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        DOCKER,
        IMAGE,
    ] {
        put(&repository, media_type, &old).refused(400, "MANIFEST_INVALID");
    }
}

#[test]
fn the_bare_registry_makes_schema_1_of_a_schema_2_image_for_who_does_not_say_what_he_reads() {
    let scene = Scene::shared();
    let repository = scene.acme("converted");
    let config = Blob::new(
        "application/vnd.docker.container.image.v1+json",
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "history": []})
            .to_string(),
    );
    let mut image = Manifest::image(0, 0).with_bytes(
        json!({"schemaVersion": 2, "mediaType": DOCKER, "config": config.descriptor(), "layers": []}).to_string(),
    );
    image.blobs = vec![config];
    image.blob.media_type = DOCKER.to_owned();
    repository.push("1.0", &image);
    let bare = scene.registry.http().get("/v2/acme/converted/manifests/1.0").send();
    assert_ne!(bare.header("content-type"), DOCKER, "the bare registry converts\n{bare}");
    let ours = repository.request(Method::GET, "manifests/1.0").send().expect(200);
    assert_eq!((ours.header("content-type"), ours.body), (DOCKER.to_owned(), image.blob.bytes.into()));
}

#[test]
fn what_is_no_json_object_is_no_manifest() {
    let scene = Scene::shared();
    let repository = scene.acme("no-json");
    let deep = "[".repeat(10_000);
    for bytes in
        ["", "null", "[]", "{", "{}", "\u{feff}{}", "{\"schemaVersion\":2}{}", &deep, "{\"schemaVersion\":\"2\"}"]
    {
        put(&repository, IMAGE, &Manifest::image(0, 0).with_bytes(bytes)).refused(400, "MANIFEST_INVALID");
    }
    let image = Manifest::image(1, 10);
    let latin =
        image.clone().with_bytes([&image.blob.bytes[..image.blob.bytes.len() - 1], b",\"x\":\"\xff\"}"].concat());
    put(&repository, IMAGE, &latin).refused(400, "MANIFEST_INVALID");
}

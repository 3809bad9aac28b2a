//! The registry behind reads `mount`, `from` and `digest` as form values: from a body before the query, and from the first
//! of several. Each test shows that the bare one believes it, then that the gateway refuses.

use http::Method;
use portcullis_tests::http::encode;
use portcullis_tests::image::Blob;
use portcullis_tests::scene::Scene;
use std::sync::Arc;

const FORM: &str = "application/x-www-form-urlencoded";
const SECRET: &str = "what globex alone may read";

/// A scene on which globex holds a blob, and how acme would have it mounted.
fn with_a_secret() -> (Arc<Scene>, Blob) {
    let scene = Scene::shared();
    let blob = Blob::new("application/octet-stream", SECRET);
    scene.globex("vault").put_blob(&blob).expect(201);
    (scene, blob)
}

fn multipart(pairs: &[(&str, &str)]) -> (String, String) {
    let parts: String = pairs
        .iter()
        .map(|(name, value)| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"))
        .collect();
    ("multipart/form-data; boundary=b".to_owned(), format!("{parts}--b--\r\n"))
}

#[test]
fn a_form_body_would_mount_anothers_blob() {
    let (scene, blob) = with_a_secret();
    let pairs = [("mount", blob.digest.as_str()), ("from", "globex/vault")];
    let urlencoded = format!("mount={}&from=globex/vault", encode(&blob.digest));
    let innocent = format!("blobs/uploads/?mount={}&from=acme/own", encode(&Blob::random(9).digest));
    let (multipart_type, multipart) = multipart(&pairs);
    // The values of a multipart body come after the query's, those of the other kind before them.
    for (media_type, body, path) in
        [(FORM.to_owned(), urlencoded, &innocent[..]), (multipart_type, multipart, "blobs/uploads/")]
    {
        let bare = scene.registry.http().post(&format!("/v2/acme/believer/{path}"));
        let bare = bare.header("content-type", &media_type).body(body.clone()).send();
        assert_eq!(bare.status, 201, "the bare registry believes the body\n{bare}");
        for variant in [
            media_type.clone(),
            media_type.to_uppercase().replace("BOUNDARY=B", "boundary=b"),
            format!(" {media_type}"),
        ] {
            for path in [&innocent[..], "blobs/uploads/", &format!("blobs/uploads/?digest={}", encode(&blob.digest))] {
                let request = scene.acme("form-sceptic").request(Method::POST, path).header("content-type", &variant);
                request.body(body.clone()).send().refused(400, "UNSUPPORTED");
            }
        }
    }
    scene.acme("form-sceptic").blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
    assert!(!scene.registry.log().contains("POST /v2/acme/form-sceptic"), "the upstream must not hear of it");
}

#[test]
fn a_form_body_would_end_an_upload_under_another_digest() {
    let (scene, _) = with_a_secret();
    let empty = Blob::new("application/octet-stream", "");
    let form = format!("digest={}", encode(&empty.digest));
    let told = Blob::random(10).digest;
    let location = scene.registry.http().post("/v2/acme/believer/blobs/uploads/").send().expect(202).header("location");
    let bare = scene.registry.http().put(&format!("{location}&digest={}", encode(&told)));
    let bare = bare.header("content-type", FORM).body(form.clone()).send().expect(201);
    assert_eq!(bare.header("docker-content-digest"), empty.digest, "the bare registry believes the body\n{bare}");

    let repository = scene.acme("sceptic");
    let location = repository.open_upload();
    let put = repository.at(Method::PUT, &format!("{location}?digest={}", encode(&told))).header("content-type", FORM);
    put.body(form).send().refused(400, "UNSUPPORTED");
    for method in [Method::PATCH, Method::DELETE] {
        let form = repository.at(method, &location).header("content-type", FORM).body("digest=x");
        form.send().refused(400, "UNSUPPORTED");
    }
    let two = repository.at(Method::PATCH, &location).header("content-type", "application/octet-stream");
    two.header("content-type", FORM).body("digest=x").send().refused(400, "UNSUPPORTED");
    repository.at(Method::GET, &location).send().expect(204);
}

#[test]
fn of_a_repeated_parameter_the_first_would_be_believed() {
    let (scene, blob) = with_a_secret();
    let (digest, other) = (encode(&blob.digest), encode(&Blob::random(9).digest));
    let query = format!("mount={digest}&from=globex/vault&from=acme/own");
    let bare = scene.registry.http().post(&format!("/v2/acme/believer/blobs/uploads/?{query}")).send();
    assert_eq!(bare.status, 201, "the bare registry takes the first\n{bare}");
    for query in [
        query,
        format!("mount={digest}&from=acme/own&from=globex/vault"),
        format!("mount={digest}&from=acme/own&%66rom=globex/vault"),
        format!("mount={digest}&mount={other}&from=acme/own"),
        format!("digest={digest}&digest={other}"),
        format!("digest={digest}&mount={other}&from=acme/own"),
    ] {
        let answer = scene.acme("sceptic").request(Method::POST, &format!("blobs/uploads/?{query}")).send();
        answer.refused(400, "UNSUPPORTED");
    }
    let repository = scene.acme("sceptic");
    let location = repository.open_upload();
    for end in [format!("?digest={digest}&digest={other}"), format!("?digest={digest}&%64igest={other}")] {
        repository.at(Method::PUT, &format!("{location}{end}")).send().refused(400, "UNSUPPORTED");
    }
    repository.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_semicolon_means_different_things_to_different_parsers() {
    let (scene, blob) = with_a_secret();
    let digest = encode(&blob.digest);
    for query in [
        format!("mount={digest};from=globex/vault"),
        format!("mount={digest}&from=acme/own;from=globex/vault"),
        format!("digest={digest};digest=x"),
        ";".to_owned(),
    ] {
        let answer = scene.acme("sceptic").request(Method::POST, &format!("blobs/uploads/?{query}")).send();
        answer.refused(400, "UNSUPPORTED");
    }
}

#[test]
fn an_encoded_body_is_no_blob() {
    let (scene, _) = with_a_secret();
    let repository = scene.acme("sceptic");
    let location = repository.open_upload();
    let patch = repository.at(Method::PATCH, &location).header("content-encoding", "gzip").body("x");
    patch.send().refused(400, "UNSUPPORTED");
    repository.at(Method::PATCH, &location).header("content-type", "text/plain").body("x").send().expect(202);
}

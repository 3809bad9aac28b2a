//! The upstream's names and address: mapped on the way in, and never seen on the way out.

use super::{Operation, Stock};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Response;
use portcullis_tests::image::{Blob, Manifest, sha256};
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, Scene};

/// Fails the test where anything of an answer names what is behind. The client calls the gateway `localhost`.
#[track_caller]
fn shows_nothing(answer: &Response) {
    let secrets = ["hidden", "127.0.0.1"];
    let clean = |text: &str| secrets.iter().all(|secret| !text.contains(secret));
    assert!(clean(&String::from_utf8_lossy(&answer.body)), "{answer}");
    for (name, value) in &answer.headers {
        assert!(clean(&format!("{name}: {value:?}")), "{answer}");
    }
    // What is sealed into a location cannot be read either.
    for segment in answer.header("location").split(['/', '?', '&', '=']) {
        let inside = URL_SAFE_NO_PAD.decode(segment).unwrap_or_default();
        assert!(clean(&String::from_utf8_lossy(&inside)), "{answer}");
    }
}

fn scene() -> Scene {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url()).start();
    gateway.cli(&["project", "create", "globex", "--upstream-prefix", "hidden-globex"]);
    gateway.cli(&["project", "create", "acme", "--upstream-prefix", "hidden/tenants/acme-1"]);
    let persona = |project: &str| portcullis_tests::persona::Persona {
        project: project.to_owned(),
        pull: gateway.robot(project, "puller", &["--role", "pull"]),
        push: gateway.robot(project, "pusher", &["--role", "push"]),
        admin: gateway.robot(project, "owner", &["--role", "admin"]),
    };
    let (acme, globex) = (persona("acme"), persona("globex"));
    Scene { house: House { gateway, acme, globex }, registry }
}

#[test]
fn the_upstreams_names_and_address_are_in_no_answer() {
    let scene = scene();
    let who = scene.acme.admin.credentials();
    let stock = Stock::of(&scene);
    let repository = scene.gateway.repository("acme/app", &who);
    let direct = scene.registry.http();
    direct.get("/v2/hidden/tenants/acme-1/app/tags/list").send().expect(200);
    direct.get("/v2/acme/app/tags/list").send().expect(404);

    // An upload in pieces, with every answer looked at.
    let blob = Blob::random(500);
    let opened = repository.request(Method::POST, "blobs/uploads/").send().expect(202);
    shows_nothing(&opened);
    let patch = repository.at(Method::PATCH, &opened.header("location"));
    let patched = patch.header("content-type", "application/octet-stream").body(blob.bytes.clone()).send().expect(202);
    shows_nothing(&patched);
    shows_nothing(&repository.at(Method::GET, &patched.header("location")).send().expect(204));
    let put = repository.at(Method::PUT, &with_digest(&patched.header("location"), &blob.digest)).send().expect(201);
    assert_eq!(put.header("location"), format!("/v2/acme/app/blobs/{}", blob.digest));
    shows_nothing(&put);

    let tags = repository.request(Method::GET, "tags/list?n=1").send().expect(200);
    assert_eq!(tags.json()["name"], "acme/app");
    assert!(tags.header("link").starts_with("</v2/acme/app/tags/list?"), "{tags}");
    shows_nothing(&tags);
    let catalog = scene.gateway.http().get("/v2/_catalog?n=1").with(&who).send().expect(200);
    assert_eq!(catalog.json()["repositories"][0], "acme/app");
    assert!(catalog.header("link").starts_with("</v2/_catalog?"), "{catalog}");
    shows_nothing(&catalog);

    // Every operation, allowed and denied, and then everything again where it is gone.
    let intruder = scene.globex.admin.credentials();
    let operations = stock.operations();
    let go = |operation: &Operation, name: &str, who| shows_nothing(&operation.on(&scene, name, who).send());
    for operation in &operations {
        go(operation, "acme/app", &intruder);
        go(operation, "acme/none", &who);
    }
    for _ in 0..2 {
        for operation in &operations {
            go(operation, "acme/app", &who);
        }
    }
}

#[test]
fn errors_speak_of_public_names_alone() {
    let mut scene = scene();
    let who = scene.acme.admin.credentials();
    let repository = scene.gateway.repository("acme/app", &who);
    let image = Manifest::image(1, 100);
    repository.push("1", &image);
    let nothing = sha256(b"nothing");
    let refused = [
        (repository.manifest("none"), 404, "MANIFEST_UNKNOWN"),
        (repository.manifest(&nothing), 404, "MANIFEST_UNKNOWN"),
        (repository.blob(&nothing), 404, "BLOB_UNKNOWN"),
        (repository.delete("none"), 404, "MANIFEST_UNKNOWN"),
        (repository.delete(&nothing), 404, "MANIFEST_UNKNOWN"),
        (repository.put_manifest("2", &Manifest::image(1, 50)), 400, "MANIFEST_BLOB_UNKNOWN"),
        (scene.gateway.repository("acme/none", &who).request(Method::GET, "tags/list").send(), 404, "NAME_UNKNOWN"),
        (repository.request(Method::GET, "blobs/uploads/AAAA").send(), 404, "BLOB_UPLOAD_UNKNOWN"),
        (repository.request(Method::PUT, "manifests/x").body("{").send(), 400, "MANIFEST_INVALID"),
    ];
    for (answer, status, code) in refused {
        shows_nothing(&answer);
        answer.refused(status, code);
    }
    // Bytes that are not what they are called.
    let wrong = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &nothing));
    let answer = wrong.header("content-type", "application/octet-stream").body("something").send();
    shows_nothing(&answer);
    answer.refused(400, "DIGEST_INVALID");

    scene.registry.kill();
    let repository = scene.gateway.repository("acme/app", &who);
    for path in ["manifests/1", "tags/list", &format!("blobs/{}", image.blobs[0].digest)] {
        let answer = repository.request(Method::GET, path).send();
        shows_nothing(&answer);
        answer.refused(502, "UNAVAILABLE");
    }
}

#[test]
fn a_prefix_of_one_project_is_not_reached_through_another_ones_names() {
    let scene = scene();
    let image = Manifest::image(1, 100);
    scene.gateway.repository("acme/app", &scene.acme.push.credentials()).push("1", &image);
    let globex = scene.globex.admin.credentials();
    // The upstream's own names are nobody's here.
    for name in ["hidden/tenants/acme-1/app", "hidden-globex/app", "hidden/app"] {
        for who in [&globex, &scene.acme.admin.credentials()] {
            let answer = scene.gateway.repository(name, who).manifest("1");
            answer.refused(401, "UNAUTHORIZED");
        }
    }
    for name in ["globex/tenants/acme-1/app", "globex/app"] {
        scene.gateway.repository(name, &globex).manifest("1").refused(404, "MANIFEST_UNKNOWN");
    }
    let mounted = format!("blobs/uploads/?mount={}&from=hidden/tenants/acme-1/app", image.blobs[0].digest);
    scene.gateway.repository("globex/app", &globex).request(Method::POST, &mounted).send().expect(202);
}

//! Tenants kept apart: an allow and a deny for every operation of the protocol, and denials that tell nothing.

mod lists;
mod mounts;
mod odd_upstream;
mod prefix;

use http::Method;
use portcullis_tests::http::{Credentials, Request};
use portcullis_tests::image::{Blob, Manifest, sha256};
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::Scene;

/// One operation of the protocol: how it is asked for, and what it answers where it is allowed.
pub struct Operation {
    pub name: &'static str,
    pub method: Method,
    /// What follows the repository's name.
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub allowed: u16,
}

/// What is in a repository that operations are tried on, and how far its uploads are.
pub struct Stock {
    pub image: Manifest,
    pub artifact: Manifest,
    /// Uploads under way, each for one operation.
    uploads: Vec<String>,
}

impl Stock {
    /// Fills acme/app, and acme/base to mount from.
    pub fn of(scene: &Scene) -> Stock {
        let owner = scene.acme.admin.credentials();
        let repository = scene.gateway.repository("acme/app", &owner);
        let image = Manifest::image(2, 100);
        scene.gateway.repository("acme/base", &owner).push("1", &image);
        let artifact = Manifest::artifact("application/vnd.test", Blob::random(50), Some(&image));
        repository.push("1", &image);
        repository.push("2", &image);
        repository.push("sig", &artifact);
        let uploads = (0..4).map(|_| repository.open_upload()).collect();
        Stock { image, artifact, uploads }
    }

    /// Every operation of the protocol's table, those that delete last.
    pub fn operations(&self) -> Vec<Operation> {
        let (digest, blob) = (self.image.digest(), &self.image.blobs[1].digest);
        let new = Blob::random(64);
        // The same blobs under a manifest of its own, so that nothing else goes when it is deleted.
        let twin = self.image.clone().changed(|json| json["annotations"] = serde_json::json!({"twin": new.digest}));
        let upload = |index: usize| {
            let (_, session) = self.uploads[index].split_once("/blobs/uploads/").expect("an upload's location");
            format!("blobs/uploads/{session}")
        };
        let read = |name, path: String| Operation { name, allowed: 200, ..Operation::new(Method::GET, path) };
        let head = |name, path: String| Operation { name, allowed: 200, ..Operation::new(Method::HEAD, path) };
        let write = |name, method, path: String, body: &[u8], allowed| Operation {
            name,
            headers: vec![("content-type", "application/octet-stream".to_owned())],
            body: body.to_vec(),
            allowed,
            ..Operation::new(method, path)
        };
        let bare = |name, method, path: String, allowed| Operation { name, allowed, ..Operation::new(method, path) };
        vec![
            read("blob GET", format!("blobs/{blob}")),
            head("blob HEAD", format!("blobs/{blob}")),
            read("manifest GET by tag", "manifests/1".to_owned()),
            read("manifest GET by digest", format!("manifests/{digest}")),
            head("manifest HEAD by tag", "manifests/1".to_owned()),
            head("manifest HEAD by digest", format!("manifests/{digest}")),
            read("tags", "tags/list".to_owned()),
            read("referrers", format!("referrers/{digest}")),
            bare("upload POST", Method::POST, "blobs/uploads/".to_owned(), 202),
            write("whole blob POST", Method::POST, format!("blobs/uploads/?digest={}", new.digest), &new.bytes, 201),
            bare("mount POST", Method::POST, format!("blobs/uploads/?mount={blob}&from=acme/base"), 201),
            bare("mount POST without from", Method::POST, format!("blobs/uploads/?mount={blob}"), 202),
            write("upload PATCH", Method::PATCH, upload(0), b"bytes", 202),
            write("upload PUT", Method::PUT, format!("{}?digest={}", upload(1), new.digest), &new.bytes, 201),
            bare("upload GET", Method::GET, upload(2), 204),
            bare("upload DELETE", Method::DELETE, upload(3), 204),
            Operation {
                headers: vec![("content-type", twin.blob.media_type.clone())],
                ..write("manifest PUT by tag", Method::PUT, "manifests/twin".to_owned(), &twin.blob.bytes, 201)
            },
            Operation {
                headers: vec![("content-type", twin.blob.media_type.clone())],
                ..write(
                    "manifest PUT by digest",
                    Method::PUT,
                    format!("manifests/{}", twin.digest()),
                    &twin.blob.bytes,
                    201,
                )
            },
            bare("tag DELETE", Method::DELETE, "manifests/2".to_owned(), 202),
            bare("manifest DELETE", Method::DELETE, format!("manifests/{}", self.artifact.digest()), 202),
            bare("blob DELETE", Method::DELETE, format!("blobs/{}", new.digest), 202),
        ]
    }
}

impl Operation {
    fn new(method: Method, path: String) -> Operation {
        Operation { name: "", method, path, headers: Vec::new(), body: Vec::new(), allowed: 0 }
    }

    /// The operation on this repository, by these credentials.
    pub fn on(&self, scene: &Scene, repository: &str, who: &Credentials) -> Request {
        let request = scene.gateway.http().request(self.method.clone(), &format!("/v2/{repository}/{}", self.path));
        let request = request.with(who).body(self.body.clone());
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

#[test]
fn every_operation_is_allowed_inside_and_denied_across() {
    let scene = Scene::open();
    let owner = scene.acme.admin.credentials();
    let stock = Stock::of(&scene);
    let asked = ["repository:acme/app:*", "repository:globex/app:*", "repository:acme/**:*"];
    let token = scene.gateway.token(&owner, &asked);
    let intruder = scene.globex.admin.credentials();
    let intruders_token = scene.gateway.token(&intruder, &asked);
    let anonymous = scene.gateway.token(&Credentials::None, &asked);

    for operation in stock.operations() {
        for who in [&intruder, &intruders_token, &anonymous, &Credentials::None] {
            let answer = operation.on(&scene, "acme/app", who).send();
            assert_eq!(answer.status, 401, "{} across\n{answer}", operation.name);
            let challenge = answer.header("www-authenticate");
            assert!(challenge.starts_with("Bearer ") && challenge.contains("repository:acme/app:"), "{answer}");
        }
    }
    // Nothing of it has changed anything.
    let repository = scene.gateway.repository("acme/app", &owner);
    assert_eq!(repository.tags(), ["1", "2", "sig"]);
    repository.pull("1", &stock.image);

    for (index, operation) in stock.operations().into_iter().enumerate() {
        let who = if index % 2 == 0 { &owner } else { &token };
        let answer = operation.on(&scene, "acme/app", who).send();
        assert_eq!(answer.status, operation.allowed, "{} inside\n{answer}", operation.name);
    }
    let http = scene.gateway.http();
    http.get("/v2/").with(&token).send().expect(200);
    http.get("/v2/").send().refused(401, "UNAUTHORIZED");
    http.get("/v2/_catalog").with(&owner).send().expect(200);
    for who in [&token, &anonymous, &Credentials::None] {
        let answer = http.get("/v2/_catalog").with(who).send().refused(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").contains("scope=\"registry:catalog:*\""), "{answer}");
    }
}

#[test]
fn what_is_foreign_and_what_does_not_exist_look_the_same() {
    let scene = Scene::open();
    let stock = Stock::of(&scene);
    let intruder = scene.globex.admin.credentials();
    let asked = ["repository:acme/app:*", "repository:none/app:*", "repository:globex/**:*"];
    let token = scene.gateway.token(&intruder, &asked);
    for operation in stock.operations() {
        for who in [&intruder, &token, &Credentials::None] {
            // A project that is not there, one that is, a repository of it that is not there: all have names of one length.
            let foreign = operation.on(&scene, "acme/app", who).send().appearance().replace("acme/app", "NAME");
            for unknown in ["none/app", "acme/gap"] {
                let answer = operation.on(&scene, unknown, who).send().appearance();
                assert_eq!(answer.replace(unknown, "NAME"), foreign, "{}", operation.name);
            }
        }
    }
    // And so does what is in a foreign repository, and what is not.
    let theirs = scene.gateway.repository("acme/app", &intruder);
    let blob = |digest: &str| format!("blobs/{digest}");
    let pairs = [
        ("manifests/1".to_owned(), "manifests/9".to_owned()),
        (format!("manifests/{}", stock.image.digest()), format!("manifests/{}", sha256(b"nothing"))),
        (blob(&stock.image.blobs[0].digest), blob(&sha256(b"nothing"))),
    ];
    for (there, not_there) in pairs {
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            let ask = |path: &str| theirs.request(method.clone(), path).send().appearance();
            assert_eq!(ask(&there), ask(&not_there));
        }
    }
}

#[test]
fn what_another_tenant_has_is_not_to_be_had_through_ones_own_repository() {
    // Distribution keeps repositories apart itself; what it and the record do has to look the same.
    for isolation in ["ledger", "repository"] {
        nothing_is_to_be_had(&Scene::with(|builder| builder.set("upstream.isolation", isolation)));
    }
}

fn nothing_is_to_be_had(scene: &Scene) {
    let secret = Manifest::image(1, 500);
    scene.gateway.repository("acme/app", &scene.acme.push.credentials()).push("1", &secret);
    let mine = scene.gateway.repository("globex/app", &scene.globex.admin.credentials());
    mine.push("1", &Manifest::image(1, 100));
    for blob in &secret.blobs {
        mine.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
        mine.request(Method::HEAD, &format!("blobs/{}", blob.digest)).send().expect(404);
        mine.request(Method::DELETE, &format!("blobs/{}", blob.digest)).send().refused(404, "BLOB_UNKNOWN");
    }
    mine.manifest(secret.digest()).refused(404, "MANIFEST_UNKNOWN");
    mine.delete(secret.digest()).refused(404, "MANIFEST_UNKNOWN");
    assert_eq!(mine.referrers(secret.digest()), Vec::<String>::new());
    let pushed = mine.put_manifest("stolen", &secret);
    assert!([400, 404].contains(&pushed.status), "{pushed}");
    assert_eq!(pushed.error_code(), "MANIFEST_BLOB_UNKNOWN", "{pushed}");
    mine.manifest("stolen").refused(404, "MANIFEST_UNKNOWN");
    // The owner still has it all.
    scene.gateway.repository("acme/app", &scene.acme.pull.credentials()).pull("1", &secret);
}

#[test]
fn an_upload_belongs_to_one_robot_and_one_repository() {
    let scene = Scene::open();
    let owner = scene.acme.push.credentials();
    let mine = scene.gateway.repository("acme/app", &owner);
    let location = mine.open_upload();
    let blob = Blob::random(100);
    let others = [
        (location.clone(), scene.acme.admin.credentials()),
        (location.replace("acme/app", "acme/lib"), owner.clone()),
        (location.replace("acme/app", "globex/app"), scene.globex.push.credentials()),
        (format!("{location}x"), owner.clone()),
        ("/v2/acme/app/blobs/uploads/AAAA".to_owned(), owner.clone()),
    ];
    for (location, who) in others {
        let http = scene.gateway.http();
        let octets = |request: Request| {
            let request = request.header("content-type", "application/octet-stream");
            request.with(&who).body(blob.bytes.clone()).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
        };
        octets(http.patch(&location));
        octets(http.put(&with_digest(&location, &blob.digest)));
        http.get(&location).with(&who).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
        http.delete(&location).with(&who).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
    let finish = mine.at(Method::PUT, &with_digest(&location, &blob.digest));
    finish.header("content-type", "application/octet-stream").body(blob.bytes.clone()).send().expect(201);
    mine.blob(&blob.digest).expect(200);
}

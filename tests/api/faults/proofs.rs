//! No record without proof: what the upstream did not clearly take and does not clearly have was not pushed.

use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::{Builder, Gateway};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::House;
use std::sync::{Arc, Mutex};
use toml_edit::Array;

/// What the upstream says to a manifest's or a blob's PUT, and to the question whether it has a blob.
struct Says {
    put: Answer,
    head: Answer,
}

impl Default for Says {
    fn default() -> Says {
        Says { put: Answer::status(201), head: Answer::status(200).body("bytes") }
    }
}

/// An upstream that opens every upload, and says the rest as it is told.
fn telling() -> (Arc<Mutex<Says>>, Faults) {
    let says = Arc::new(Mutex::new(Says::default()));
    let told = says.clone();
    let upstream = Faults::scripted(move |seen| {
        let told = told.lock().expect("nobody panics here");
        match seen.method.as_str() {
            "POST" if seen.target.contains("mount=") => Answer::status(201),
            "POST" => Answer::status(202).header("location", "/v2/acme/app/blobs/uploads/1"),
            "PUT" => told.put.clone(),
            "HEAD" => told.head.clone(),
            "GET" if seen.path().contains("/blobs/sha256:") => Answer::status(200).body("bytes"),
            "GET" if seen.path() != "/v2/" => Answer::status(404),
            _ => Answer::status(200),
        }
    });
    (says, upstream)
}

fn house(upstream: &Faults, configure: impl FnOnce(Builder) -> Builder) -> House {
    House::open(configure(Gateway::before(&upstream.url())))
}

fn blob() -> Blob {
    Blob::new("application/octet-stream", "bytes")
}

/// Where the record alone says whose a blob is: 404 means that it was not recorded.
#[track_caller]
fn is_not_recorded(house: &House, blob: &Blob) {
    house.acme("app").blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_manifest_is_pushed_where_the_upstream_says_created_and_nothing_else() {
    let (says, upstream) = telling();
    let house = house(&upstream, |builder| builder.set("upstream.isolation", "repository"));
    let (repository, subject) = (house.acme("app"), Manifest::image(1, 10));
    let artifact = Manifest::artifact("application/vnd.example", Blob::random(10), Some(&subject));
    let catalog = || house.gateway.http().get("/v2/_catalog").with(&house.acme.admin.credentials()).send().json();
    for status in [200, 202, 204, 206, 226, 302, 304] {
        says.lock().expect("nobody panics here").put = Answer::status(status);
        for reference in ["1.0", artifact.digest()] {
            repository.put_manifest(reference, &artifact).refused(502, "UNAVAILABLE");
        }
        assert!(repository.referrers(subject.digest()).is_empty(), "recorded after {status}");
        assert_eq!(catalog()["repositories"], serde_json::json!([]), "recorded after {status}");
    }
    says.lock().expect("nobody panics here").put = Answer::status(201);
    repository.put_manifest("1.0", &artifact).expect(201);
    assert_eq!(repository.referrers(subject.digest()), [artifact.digest()]);
    assert_eq!(catalog()["repositories"], serde_json::json!(["acme/app"]));
}

#[test]
fn a_blob_is_pushed_where_the_upstream_says_created_and_has_it() {
    let (says, upstream) = telling();
    let house = house(&upstream, |builder| builder);
    let (repository, blob) = (house.acme("app"), blob());
    let head = || Answer::status(200).body("bytes");
    for (put, head) in [
        (Answer::status(200), head()),
        (Answer::status(202), head()),
        (Answer::status(204), head()),
        (Answer::status(302), head()),
        (Answer::status(201), Answer::status(404)),
        (Answer::status(201), Answer::status(204)),
        (Answer::status(201), Answer::status(206).body("bytes")),
        // There, and of unknown size.
        (Answer::status(201), head().to_close()),
        (Answer::status(201), head().chunked()),
    ] {
        let what = format!("{put:?} {head:?}");
        *says.lock().expect("nobody panics here") = Says { put, head };
        let in_one = repository.request(Method::POST, &format!("blobs/uploads/?digest={}", blob.digest));
        for answer in [repository.put_blob(&blob), in_one.body(blob.bytes.clone()).send()] {
            assert_eq!((answer.status, answer.error_code().as_str()), (502, "UNAVAILABLE"), "{what}");
        }
        is_not_recorded(&house, &blob);
    }
    *says.lock().expect("nobody panics here") = Says::default();
    repository.put_blob(&blob).expect(201);
    repository.blob(&blob.digest).expect(200);
}

#[test]
fn a_mount_is_made_where_the_upstream_has_the_blob_afterwards() {
    let (says, upstream) = telling();
    let house = house(&upstream, |builder| builder);
    let blob = blob();
    house.acme("app").put_blob(&blob).expect(201);
    let other = house.acme("other");
    let mount = || other.request(Method::POST, &format!("blobs/uploads/?mount={}&from=acme/app", blob.digest)).send();
    says.lock().expect("nobody panics here").head = Answer::status(404);
    mount().refused(502, "UNAVAILABLE");
    other.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
    *says.lock().expect("nobody panics here") = Says::default();
    mount().expect(201);
    other.blob(&blob.digest).expect(200);
}

/// Even where clients are sent on to the storage themselves: this question is the gateway's own.
#[test]
fn a_size_is_asked_of_listed_storage_and_of_nobody_else() {
    let storage = Faults::scripted(|_| Answer::status(200).body("bytes"));
    let (says, upstream) = telling();
    let host = storage.url().trim_start_matches("http://").to_owned();
    let to = |url: &str| Answer::status(307).header("location", &format!("{url}/key?signature=s"));
    for mode in ["follow", "pass"] {
        let hosts: Array = [host.as_str()].into_iter().collect();
        let house =
            house(&upstream, |builder| builder.set("upstream.redirect_hosts", hosts).set("upstream.redirects", mode));
        let (repository, blob) = (house.acme("app"), blob());
        let elsewhere = Faults::scripted(|_| Answer::status(200).body("bytes"));
        for nowhere in [to(&elsewhere.url()), Answer::status(307), Answer::status(307).header("location", "key")] {
            says.lock().expect("nobody panics here").head = nowhere;
            repository.put_blob(&blob).refused(502, "UNAVAILABLE");
            is_not_recorded(&house, &blob);
        }
        assert!(elsewhere.heads().is_empty(), "{mode}: who is not listed was asked");
        let asked = storage.heads().len();
        says.lock().expect("nobody panics here").head = to(&storage.url());
        let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest));
        put.body(blob.bytes.clone()).send().expect(201);
        let seen = storage.heads();
        assert_eq!(seen.len(), asked + 1, "{mode}: {seen:#?}");
        assert_eq!((seen[asked].method.as_str(), seen[asked].target.as_str()), ("HEAD", "/key?signature=s"));
        repository.blob(&blob.digest).expect(200);
    }
}

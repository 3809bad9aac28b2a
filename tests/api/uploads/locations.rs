//! Whose an upload is, and where its bytes go.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::Blob;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{House, Scene};
use std::sync::{Arc, Mutex};

const PREFIX: &str = "/v2/acme/app/blobs/uploads/";

/// All that can be asked at a location, with what it takes to succeed.
fn ask_all(repository: &Repository, location: &str, blob: &Blob) -> [portcullis_tests::http::Response; 4] {
    [
        repository.at(Method::GET, location).send(),
        repository.at(Method::PATCH, location).body(blob.bytes.clone()).send(),
        repository.at(Method::PUT, &with_digest(location, &blob.digest)).body(blob.bytes.clone()).send(),
        repository.at(Method::DELETE, location).send(),
    ]
}

#[track_caller]
fn assert_unknown(repository: &Repository, location: &str, blob: &Blob) {
    for answer in ask_all(repository, location, blob) {
        answer.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn a_location_tells_nothing_of_the_upstream() {
    let scene = Scene::shared();
    let bare = scene.registry.http().post("/v2/acme/app/blobs/uploads/").send().expect(202).header("location");
    let state = bare.split_once("_state=").expect("the bare registry's location has a state").1;
    let state = URL_SAFE_NO_PAD.decode(state.trim_end_matches("%3D")).expect("base64");
    assert!(String::from_utf8_lossy(&state).contains("acme/app"), "the bare registry tells its names in clear");

    let location = scene.acme("app").open_upload();
    let token = location.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{location}"));
    assert!(!location.contains("_state") && !location.contains('?') && !location.contains("://"), "{location}");
    let sealed = URL_SAFE_NO_PAD.decode(token).expect("base64");
    let sealed = String::from_utf8_lossy(&sealed).into_owned();
    for clear in ["acme", "app", "/v2/", "uploads", "_state", "127.0.0.1"] {
        assert!(!sealed.contains(clear), "{clear} can be read in {sealed:?}");
    }
    assert_ne!(scene.acme("app").open_upload(), location);
}

#[test]
fn a_location_that_was_changed_is_unknown() {
    let scene = Scene::shared();
    let (repository, blob) = (scene.acme("app"), Blob::random(100));
    let location = repository.open_upload();
    let token = location.strip_prefix(PREFIX).expect("ours");
    let bytes = URL_SAFE_NO_PAD.decode(token).expect("base64");
    for at in [0, 1, 12, 13, bytes.len() / 2, bytes.len() - 17, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_unknown(&repository, &format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(changed)), &blob);
    }
    for end in [0, 1, 11, 12, 28, bytes.len() / 2, bytes.len() - 1] {
        let cut = URL_SAFE_NO_PAD.encode(bytes.get(..end).expect("inside"));
        if !cut.is_empty() {
            assert_unknown(&repository, &format!("{PREFIX}{cut}"), &blob);
        }
    }
    assert_unknown(&repository, &format!("{location}AAAA"), &blob);
    let uuid = "0b0e2b3c-1c1c-4b4b-9d9d-123456789012";
    assert_unknown(&repository, &format!("{PREFIX}{uuid}"), &blob);
    repository.at(Method::GET, &location).send().expect(204);
}

#[test]
fn a_location_is_good_for_its_own_robot_and_repository_alone() {
    let scene = Scene::shared();
    let (repository, blob) = (scene.acme("app"), Blob::random(100));
    let location = repository.open_upload();

    let colleague = scene.gateway.repository("acme/app", &scene.acme.push.credentials());
    assert_unknown(&colleague, &location, &blob);

    let elsewhere = location.replace("acme/app", "acme/other");
    assert_unknown(&scene.acme("other"), &elsewhere, &blob);
    let at_globex = location.replace("acme/app", "globex/app");
    assert_unknown(&scene.globex("app"), &at_globex, &blob);

    for who in [scene.globex.admin.credentials(), scene.acme.pull.credentials(), Credentials::None] {
        for answer in ask_all(&scene.gateway.repository("acme/app", &who), &location, &blob) {
            answer.refused(401, "UNAUTHORIZED");
        }
    }
    let put = repository.at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes.clone());
    put.send().expect(201);
}

#[test]
fn a_location_ends_with_its_upload() {
    let scene = Scene::shared();
    let (repository, blob) = (scene.acme("app"), Blob::random(100));
    let first = repository.open_upload();
    let patched = repository.at(Method::PATCH, &first).body(blob.bytes.clone()).send().expect(202).header("location");
    repository.at(Method::PUT, &with_digest(&patched, &blob.digest)).send().expect(201);
    for location in [first, patched] {
        assert_unknown(&repository, &location, &blob);
    }
    let cancelled = repository.open_upload();
    repository.at(Method::DELETE, &cancelled).send().expect(204);
    assert_unknown(&repository, &cancelled, &blob);
}

/// The registry behind forgets an upload that has ended. This one does not, and the location has ended all the same.
#[test]
fn a_location_ends_though_the_upstream_would_go_on() {
    let upstream = Faults::scripted(|seen| match seen.method.as_str() {
        "POST" | "PATCH" => Answer::status(202).header("location", "/v2/acme/app/blobs/uploads/1"),
        "PUT" => Answer::status(201),
        "GET" | "DELETE" if seen.path().contains("/uploads/") => Answer::status(204).header("range", "0-99"),
        _ => Answer::status(200).body("x"),
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let (repository, blob) = (house.acme("app"), Blob::random(100));
    let first = repository.open_upload();
    let patched = repository.at(Method::PATCH, &first).body(blob.bytes.clone()).send().expect(202).header("location");
    repository.at(Method::PUT, &with_digest(&patched, &blob.digest)).send().expect(201);
    let cancelled = repository.open_upload();
    repository.at(Method::DELETE, &cancelled).send().expect(204);
    let asked = upstream.heads().iter().filter(|seen| seen.path().contains("/uploads/")).count();
    for location in [first, patched, cancelled] {
        assert_unknown(&repository, &location, &blob);
    }
    let uploads = upstream.heads().into_iter().filter(|seen| seen.path().contains("/uploads/"));
    assert_eq!(uploads.count(), asked, "the upstream heard of an upload that has ended");
}

#[test]
fn a_location_survives_a_restart() {
    let mut scene = Scene::open();
    let (repository, blob) = (scene.acme("app"), Blob::random(5000));
    let location = repository.open_upload();
    let patched = repository.at(Method::PATCH, &location).body(blob.bytes[..2000].to_vec()).send().expect(202);
    scene.gateway.kill();
    scene.gateway.serve();
    let repository = scene.acme("app");
    let put = repository.at(Method::PUT, &with_digest(&patched.header("location"), &blob.digest));
    put.body(blob.bytes[2000..].to_vec()).send().expect(201);
    assert_eq!(repository.blob(&blob.digest).expect(200).body, blob.bytes);
}

#[test]
fn an_upstream_that_points_elsewhere_is_not_followed_and_not_shown() {
    let location = Arc::new(Mutex::new(""));
    let told = location.clone();
    let upstream = Faults::scripted(move |seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("location", *told.lock().expect("nobody panics here")),
        _ => Answer::status(200),
    });
    let house = House::open(Gateway::before(&upstream.url()));
    for elsewhere in [
        "http://evil.example/v2/acme/app/blobs/uploads/1",
        "https://127.0.0.1/v2/acme/app/blobs/uploads/1",
        "//evil.example/v2/acme/app/blobs/uploads/1",
        "http://user@127.0.0.1:1/v2/acme/app/blobs/uploads/1",
        "/v2/globex/app/blobs/uploads/1",
        "/v2/acme/application/blobs/uploads/1",
        "/v2/acme/app/blobs/uploads/../../../../globex/app/blobs/uploads/1",
        "/v2/acme/app/blobs/uploads/%2e%2e/%2e%2e/manifests/1",
        "/v2/acme/app/blobs/uploads/1/../../../manifests/1",
        "/v2/acme/app/blobs/uploads/",
        "/v2/acme/app/manifests/1",
        "/token",
        "evil",
        "",
    ] {
        *location.lock().expect("nobody panics here") = elsewhere;
        let answer = house.acme("app").request(Method::POST, "blobs/uploads/").send();
        assert_eq!((answer.status, answer.header("location")), (502, String::new()), "{elsewhere}\n{answer}");
        assert_eq!(answer.error_code(), "UNAVAILABLE");
        let told = String::from_utf8_lossy(&answer.body);
        assert!(!told.contains("evil") && !told.contains("globex") && !told.contains("127.0.0.1"), "{answer}");
    }
    *location.lock().expect("nobody panics here") = "/v2/acme/app/blobs/uploads/1";
    house.acme("app").open_upload();
}

#[test]
fn an_upstream_that_points_elsewhere_in_the_middle_is_not_followed_either() {
    let upstream = Faults::scripted(|seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("location", "/v2/acme/app/blobs/uploads/1?_state=x"),
        "PATCH" => Answer::status(202).header("location", "http://evil.example/v2/acme/app/blobs/uploads/1"),
        _ => Answer::status(200),
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("app");
    let patch = repository.at(Method::PATCH, &repository.open_upload()).body("abc").send();
    patch.refused(502, "UNAVAILABLE");
    let seen = upstream.wait_for(|seen| seen.method == "PATCH");
    assert_eq!(seen.target, "/v2/acme/app/blobs/uploads/1?_state=x");
}

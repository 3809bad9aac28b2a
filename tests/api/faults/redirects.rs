//! Redirects of blob downloads to the upstream's storage.

use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::{Builder, Gateway};
use portcullis_tests::image::Blob;
use portcullis_tests::scene::House;
use std::sync::Arc;
use toml_edit::{Array, InlineTable};

/// A storage that has one blob, whole and in parts.
fn storage(blob: &Blob) -> Faults {
    let bytes = blob.bytes.clone();
    Faults::scripted(move |seen| match seen.header("range") {
        "" => Answer::status(200).header("set-cookie", "storage=1").body(bytes.clone()),
        _ => Answer::status(206)
            .header("content-range", &format!("bytes 0-9/{}", bytes.len()))
            .body(bytes[..10].to_vec()),
    })
}

fn upstream_to(location: impl Fn() -> String + Send + Sync + 'static) -> Faults {
    Faults::scripted(move |seen| {
        if seen.path().contains("/blobs/") {
            Answer::status(307).header("location", &location()).body("moved")
        } else {
            Answer::status(200)
        }
    })
}

fn before(upstream: &Faults, hosts: &[&str]) -> Builder {
    let builder = Gateway::before(&upstream.url()).set("upstream.isolation", "repository");
    builder.set("upstream.redirect_hosts", hosts.iter().copied().collect::<Array>())
}

fn host(faults: &Faults) -> String {
    faults.url().trim_start_matches("http://").to_owned()
}

#[test]
fn a_redirect_to_a_listed_host_is_followed_without_the_gateways_credentials() {
    let blob = Blob::random(5000);
    let storage = storage(&blob);
    let url = storage.url();
    let upstream = upstream_to(move || format!("{url}/bucket/key?signature=s%2Fs"));
    let file = tempfile::NamedTempFile::new().expect("the directory for temporary files is writable");
    std::fs::write(file.path(), "secret").expect("our own file");
    let mut auth = InlineTable::new();
    auth.insert("kind", "basic".into());
    auth.insert("username", "gateway".into());
    auth.insert("password_file", file.path().to_string_lossy().into_owned().into());
    let house = House::open(before(&upstream, &[&host(&storage)]).set("upstream.auth", auth));
    let repository = house.acme("app");
    let pulled = repository.blob(&blob.digest).expect(200);
    assert!(
        pulled.body == blob.bytes && pulled.header("set-cookie").is_empty() && pulled.header("location").is_empty()
    );
    let path = format!("blobs/{}", blob.digest);
    let part = repository.request(Method::GET, &path).header("range", "bytes=0-9").send().expect(206);
    assert_eq!(part.body, blob.bytes[..10]);
    let head = repository.request(Method::HEAD, &path).send().expect(200);
    assert_eq!(head.header("content-length"), "5000");
    assert!(
        upstream
            .seen()
            .iter()
            .filter(|seen| seen.path().contains("/blobs/"))
            .all(|seen| !seen.header("authorization").is_empty())
    );
    let seen = storage.seen();
    assert_eq!(seen.len(), 3);
    for request in &seen {
        assert_eq!(
            (request.target.as_str(), request.header("host")),
            ("/bucket/key?signature=s%2Fs", host(&storage).as_str())
        );
        assert_eq!((request.header("authorization"), request.header("cookie")), ("", ""), "{request:?}");
    }
    assert_eq!((seen[1].header("range"), seen[2].method.as_str()), ("bytes=0-9", "HEAD"));
}

#[test]
fn a_storages_wrong_bytes_never_end_well() {
    let attempt = |size: usize| {
        let blob = Blob::random(size);
        let storage = storage(&blob);
        let url = storage.url();
        let upstream = upstream_to(move || format!("{url}/key"));
        let house = House::open(before(&upstream, &[&host(&storage)]));
        let other = Blob::random(size).digest;
        house.acme("app").request(Method::GET, &format!("blobs/{other}")).attempt()
    };
    attempt(200_000).expect_err("wrong bytes ended well");
    // What is small is known to be wrong before its head has gone.
    assert_eq!(attempt(5000).expect("an answer").status, 502);
}

#[test]
fn a_redirect_elsewhere_is_502_and_nobody_hears_of_it() {
    let blob = Blob::random(100);
    let (listed, other) = (storage(&blob), Arc::new(storage(&blob)));
    let (allowed, target) = (host(&listed), host(&other));
    let port = target.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
    let locations = [
        format!("http://{target}/key"),
        format!("//{target}/key"),
        format!("http://{allowed}@{target}/key"),
        format!("http://{allowed}.evil.example/key"),
        format!("http://localhost:{port}/key"),
        format!("ftp://{allowed}/key"),
        "/elsewhere".to_owned(),
        "key".to_owned(),
        "http://".to_owned(),
        String::new(),
    ];
    let next = Arc::new(std::sync::Mutex::new(String::new()));
    let told = next.clone();
    let upstream = upstream_to(move || told.lock().expect("nobody panics here").clone());
    for mode in ["follow", "pass"] {
        let house = House::open(before(&upstream, &[&allowed]).set("upstream.redirects", mode));
        for location in &locations {
            next.lock().expect("nobody panics here").clone_from(location);
            let answer = house.acme("app").blob(&blob.digest);
            assert_eq!((answer.status, answer.header("location")), (502, String::new()), "{mode} {location}\n{answer}");
        }
    }
    assert!(other.seen().is_empty() && listed.seen().is_empty());
}

#[test]
fn a_redirect_is_passed_to_the_client_where_that_is_wanted() {
    let blob = Blob::random(100);
    let storage = storage(&blob);
    let location = format!("{}/key?signature=s%2Fs", storage.url());
    let upstream = {
        let location = location.clone();
        upstream_to(move || location.clone())
    };
    let house = House::open(before(&upstream, &[&host(&storage)]).set("upstream.redirects", "pass"));
    let answer = house.acme("app").blob(&blob.digest).expect(307);
    assert_eq!(answer.header("location"), location);
    assert!(answer.body.is_empty() && storage.seen().is_empty());
    house.globex("app").request(Method::GET, &format!("blobs/{}", blob.digest)).send().expect(307);
    let stranger = house.gateway.repository("acme/app", &house.globex.admin.credentials());
    stranger.blob(&blob.digest).refused(401, "UNAUTHORIZED");
}

#[test]
fn redirects_end() {
    let target = Arc::new(std::sync::OnceLock::<String>::new());
    let here = target.clone();
    let storage = Faults::scripted(move |_| {
        let location = format!("{}/again", here.get().map_or("", String::as_str));
        Answer::status(302).header("location", &location)
    });
    target.set(storage.url()).expect("set once");
    let url = storage.url();
    let upstream = upstream_to(move || format!("{url}/key"));
    let house = House::open(before(&upstream, &[&host(&storage)]));
    house.acme("app").blob(&Blob::random(9).digest).refused(502, "UNAVAILABLE");
    assert!(storage.seen().len() < 10, "{}", storage.seen().len());
}

#[test]
fn only_blobs_are_redirected() {
    let blob = Blob::random(100);
    let storage = storage(&blob);
    let url = storage.url();
    let upstream = Faults::scripted(move |seen| {
        if seen.path() == "/v2/" {
            Answer::status(200)
        } else {
            Answer::status(307).header("location", &format!("{url}/key"))
        }
    });
    let house = House::open(before(&upstream, &[&host(&storage)]));
    let repository = house.acme("app");
    for (method, path) in [
        (Method::GET, "manifests/1.0"),
        (Method::GET, "tags/list"),
        (Method::POST, "blobs/uploads/"),
        (Method::DELETE, "manifests/1.0"),
    ] {
        let answer = repository.request(method, path).send();
        assert_eq!((answer.status, answer.header("location")), (502, String::new()), "{answer}");
    }
    assert!(storage.seen().is_empty());
}

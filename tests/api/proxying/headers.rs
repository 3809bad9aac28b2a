//! Which headers pass, which way. Everything else stays where it is.

use super::VERSIONS;
use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Response;
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, Scene, within};
use std::time::Duration;

/// What an upstream says that must reach the client.
const SURVIVE: [(&str, &str); 8] = [
    ("etag", "\"an-etag\""),
    ("accept-ranges", "bytes"),
    ("last-modified", "Mon, 06 Jul 2026 10:00:00 GMT"),
    ("cache-control", "max-age=60"),
    ("oci-subject", "sha256:0000000000000000000000000000000000000000000000000000000000000000"),
    ("oci-filters-applied", "artifactType"),
    ("docker-upload-uuid", "an-uuid"),
    ("warning", "299 - \"soon to be deleted\""),
];

/// What it says that is nobody's business.
const STAY: [(&str, &str); 18] = [
    ("server", "upstream/9"),
    ("via", "1.1 upstream.internal"),
    ("set-cookie", "session=upstream"),
    ("www-authenticate", "Bearer realm=\"https://upstream.internal/token\""),
    ("proxy-authenticate", "Basic"),
    ("x-upstream", "upstream.internal"),
    ("x-powered-by", "upstream"),
    ("x-amz-request-id", "upstream"),
    ("x-content-type-options", "nosniff"),
    ("strict-transport-security", "max-age=1"),
    ("alt-svc", "h3=\":443\""),
    ("refresh", "0; url=https://upstream.internal"),
    ("link", "<https://upstream.internal/>; rel=\"next\""),
    ("location", "https://upstream.internal/"),
    ("access-control-allow-origin", "*"),
    ("content-encoding", "upstream"),
    ("trailer", "x-upstream"),
    ("keep-alive", "timeout=5"),
];

#[test]
fn answers_keep_the_registrys_headers_and_lose_the_upstreams_own() {
    let image = Manifest::image(1, 100);
    let (bytes, digest) = (image.blob.bytes.clone(), image.digest().to_owned());
    let upstream = Faults::scripted(move |_| {
        let mut answer = Answer::status(200).header("content-type", IMAGE).header("docker-content-digest", &digest);
        for (name, value) in SURVIVE.iter().chain(&STAY) {
            answer = answer.header(name, value);
        }
        answer
            .header("warning", "299 - \"ask 127.0.0.1 for upstream's new address\"")
            .header("warning", "110 upstream")
            .body(&*bytes)
    });
    let house = House::open(Gateway::before(&upstream.url()).set("upstream.isolation", "repository"));
    // A warning that names what lies upstream is left out, and so is one in another form.
    for version in VERSIONS {
        for path in ["manifests/1.0".to_owned(), format!("blobs/{}", image.digest())] {
            for method in [Method::GET, Method::HEAD] {
                let answer = version(house.acme("app").request(method, &path)).send().expect(200);
                for (name, value) in SURVIVE {
                    assert_eq!(answer.header(name), value, "{answer}");
                }
                assert_eq!(answer.header("docker-content-digest"), image.digest());
                for (name, _) in STAY {
                    assert_eq!(answer.header(name), "", "{name} got out\n{answer}");
                }
                assert!(!answer.to_string().contains("upstream"), "{answer}");
            }
        }
    }
}

#[test]
fn the_upstreams_errors_are_told_anew() {
    let upstream = Faults::scripted(|seen| {
        if seen.path() == "/v2/" {
            return Answer::status(200);
        }
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"at upstream.internal","detail":{"name":"tenants/acme/app","path":"/var/lib/upstream"}}]}"#;
        let answer = Answer::status(404).header("content-type", "application/json");
        STAY.iter().fold(answer, |answer, (name, value)| answer.header(name, value)).body(body)
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let refused = house.acme("app").manifest("1.0").refused(404, "MANIFEST_UNKNOWN");
    assert!(!refused.to_string().contains("upstream") && !refused.to_string().contains("tenants"), "{refused}");
}

#[test]
fn requests_carry_nothing_of_the_clients_but_what_the_operation_needs() {
    let scene = Scene::shared();
    let upstream = Faults::before(&scene.registry.url(), |_| None);
    let house = House::open(Gateway::before(&upstream.url()));
    let (repository, image) = (house.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let layer = &image.blobs[1];
    let before = upstream.seen().len();
    let foreign = [
        ("cookie", "client=1"),
        ("forwarded", "host=evil.example;proto=https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-real-ip", "192.0.2.1"),
        ("x-http-method-override", "DELETE"),
        ("accept-encoding", "gzip"),
        ("te", "trailers"),
        ("referer", "https://evil.example/client"),
        ("origin", "https://evil.example"),
        ("x-client", "client"),
        ("user-agent", "client/1.0"),
        ("proxy-authorization", "Basic Y2xpZW50"),
        ("if-match", "\"client\""),
    ];
    for version in VERSIONS {
        let dressed =
            |request| foreign.iter().fold(version(request), |request, (name, value)| request.header(name, value));
        dressed(repository.request(Method::GET, "manifests/1.0")).send().expect(200);
        let part = dressed(repository.request(Method::GET, &format!("blobs/{}?client=1", layer.digest)));
        part.header("range", "bytes=0-3").send().expect(206);
        let location =
            dressed(repository.request(Method::POST, "blobs/uploads/?client=1")).send().expect(202).header("location");
        let blob = Blob::random(50);
        dressed(repository.at(Method::PUT, &with_digest(&location, &blob.digest)))
            .body(blob.bytes.clone())
            .send()
            .expect(201);
    }
    let seen = upstream.seen();
    assert!(seen.len() >= before + 8);
    for request in seen.iter().skip(before) {
        assert_eq!(request.header("host"), upstream.url().trim_start_matches("http://"));
        for (name, value) in &request.headers {
            assert!(!value.contains("client") && !value.contains("evil"), "{name}: {value} went upstream");
            let ours = ["host", "user-agent", "accept", "range", "content-type", "content-length"];
            assert!(ours.contains(&name.as_str()), "{name}: {value} went upstream");
        }
        assert!(!request.target.contains("client"), "{request:?}");
    }
    let ranges: Vec<_> = seen.iter().map(|request| request.header("range")).filter(|range| !range.is_empty()).collect();
    assert_eq!(ranges, ["bytes=0-3", "bytes=0-3"]);
    let pull = seen.iter().rev().find(|request| request.path().ends_with("/manifests/1.0"));
    let accept = pull.map(|request| request.header("accept").to_owned()).unwrap_or_default();
    assert_eq!(accept.split(',').count(), 4, "the whole modern list: {accept}");
}

#[test]
fn a_connection_header_cannot_take_away_what_is_ours() {
    let scene = Scene::shared();
    let repository = scene.acme("hop-by-hop");
    let image = Manifest::image(1, 100);
    repository.push("1.0", &image);
    let request = repository.request(Method::GET, "manifests/1.0").header("connection", "authorization, host, accept");
    assert_eq!(request.send().expect(200).body, image.blob.bytes);
}

/// Everything that a session shows to a client: the upstream's address and its own names for things are nowhere.
#[test]
fn a_whole_session_never_shows_the_upstream() {
    let scene = Scene::open();
    scene.gateway.cli(&["project", "create", "mapped", "--upstream-prefix", "tenants/hidden"]);
    let robot = scene.gateway.robot("mapped", "owner", &["--role", "admin"]);
    let repository = scene.gateway.repository("mapped/app", &robot.credentials());
    within(Duration::from_secs(10), || {
        (repository.request(Method::GET, "tags/list").send().status == 404).then_some(())
    });
    let mut shown: Vec<Response> = Vec::new();
    let image = Manifest::image(1, 1000);
    for blob in &image.blobs {
        let opened = repository.request(Method::POST, "blobs/uploads/").send().expect(202);
        let patched =
            repository.at(Method::PATCH, &opened.header("location")).body(blob.bytes.clone()).send().expect(202);
        shown.push(repository.at(Method::GET, &patched.header("location")).send().expect(204));
        shown.push(
            repository.at(Method::PUT, &with_digest(&patched.header("location"), &blob.digest)).send().expect(201),
        );
        shown.extend([opened, patched]);
    }
    shown.push(repository.put_manifest("1.0", &image).expect(201));
    for path in ["manifests/1.0", "tags/list", "tags/list?n=1", "manifests/none", "manifests/no%20ne"] {
        shown.push(repository.request(Method::GET, path).send());
    }
    shown.push(repository.blob(&image.blobs[1].digest).expect(200));
    shown.push(repository.blob(&Blob::random(10).digest).expect(404));
    shown.push(repository.request(Method::GET, &format!("referrers/{}", image.digest())).send().expect(200));
    shown.push(repository.put_manifest("2.0", &Manifest::image(1, 10)).expect(400));
    shown.push(repository.delete("1.0").expect(202));
    let catalog = scene.gateway.token(&robot.credentials(), &["registry:catalog:*"]);
    shown.push(scene.gateway.http().get("/v2/_catalog").with(&catalog).send().expect(200));

    let address = scene.registry.url().trim_start_matches("http://").to_owned();
    let upload_ids: Vec<_> = scene
        .registry
        .log()
        .lines()
        .filter_map(|line| {
            let id = line.split_once("/blobs/uploads/")?.1.get(..36)?;
            id.contains('-').then(|| id.to_owned())
        })
        .collect();
    assert!(!upload_ids.is_empty());
    for answer in &shown {
        let text = answer.to_string();
        for secret in [&address[..], "tenants", "hidden", "_state", "nosniff"] {
            assert!(!text.contains(secret), "{secret} is shown\n{answer}");
        }
        let location = answer.header("location");
        assert!(!upload_ids.iter().any(|id| location.contains(id)), "{answer}");
    }
}

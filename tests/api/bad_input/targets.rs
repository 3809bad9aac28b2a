//! Request lines and hosts.

use super::{assert_refused, basic};
use http::Method;
use portcullis_tests::raw::{Raw, RawResponse};
use portcullis_tests::scene::Scene;

/// Sends a request line as it is, with the credentials of acme's owner.
fn ask(scene: &Scene, line: &str) -> Option<RawResponse> {
    let (host, who) = (scene.gateway.authority(), basic(&scene.acme.admin.credentials()));
    let mut raw = Raw::connect(&scene.gateway.http());
    raw.send(format!("{line} HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\ncontent-length: 0\r\n\r\n")).answer()
}

#[test]
fn paths_that_are_not_exactly_one_operation_are_refused() {
    let scene = Scene::shared();
    let long = format!("acme/{}", "a".repeat(251));
    let hex = "a".repeat(64);
    for (path, status, code) in [
        ("/v2/ACME/app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/App/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/-acme/app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/app-/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/a___b/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/a..b/tags/list".to_owned(), 400, "NAME_INVALID"),
        (format!("/v2/{long}/tags/list"), 400, "NAME_INVALID"),
        ("/v2/acme//app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2//acme/app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/./app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/../globex/app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/%2e%2e/globex/app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme%2Fapp/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/%61pp/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/app%00/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/app%0d%0aset-cookie:x/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/app/tags/%6cist".to_owned(), 400, "UNSUPPORTED"),
        ("/v2/acme/app/tags/list/".to_owned(), 404, "UNSUPPORTED"),
        ("//v2/acme/app/tags/list".to_owned(), 400, "UNSUPPORTED"),
        ("/v2/acme/app/../app/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/./v2/acme/app/tags/list".to_owned(), 400, "UNSUPPORTED"),
        ("/v2/acme/app/tags/list%3fn=1".to_owned(), 400, "UNSUPPORTED"),
        ("/v2".to_owned(), 404, "UNSUPPORTED"),
        ("/".to_owned(), 404, "UNSUPPORTED"),
        ("/v1/acme/app/tags/list".to_owned(), 404, "UNSUPPORTED"),
        ("/V2/acme/app/tags/list".to_owned(), 404, "UNSUPPORTED"),
        ("/v2/%5fcatalog".to_owned(), 400, "UNSUPPORTED"),
        ("/metrics".to_owned(), 404, "UNSUPPORTED"),
        ("/v2/acme/app/manifests/".to_owned(), 404, "UNSUPPORTED"),
        ("/v2/acme/app/manifests/.hidden".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/acme/app/manifests/{}", "a".repeat(129)), 404, "MANIFEST_UNKNOWN"),
        ("/v2/acme/app/manifests/a%2fb".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/acme/app/manifests/sha256:abc".to_owned(), 400, "DIGEST_INVALID"),
        (format!("/v2/acme/app/manifests/sha256:{}", "A".repeat(64)), 400, "DIGEST_INVALID"),
        (format!("/v2/acme/app/manifests/md5:{}", "a".repeat(32)), 400, "DIGEST_INVALID"),
        (format!("/v2/acme/app/blobs/sha256:{hex}%00"), 400, "DIGEST_INVALID"),
        (format!("/v2/acme/app/blobs/{hex}"), 400, "DIGEST_INVALID"),
        ("/v2/acme/app/blobs/sha256:../../../etc/passwd".to_owned(), 400, "UNSUPPORTED"),
        ("/v2/acme/app/blobs/uploads/".to_owned(), 405, "UNSUPPORTED"),
        ("/v2/acme/app/referrers/latest".to_owned(), 400, "DIGEST_INVALID"),
    ] {
        assert_refused(&path, ask(&scene, &format!("GET {path}")), status, code);
    }
    assert!(!scene.registry.log().contains("globex/app/tags"), "the upstream must not hear of it");
}

#[test]
fn what_is_pushed_needs_a_valid_tag() {
    let scene = Scene::shared();
    for tag in [".x", "-x", "a%2fb", "a%00", &"a".repeat(129), "%C3%A9"] {
        assert_refused(tag, ask(&scene, &format!("PUT /v2/acme/app/manifests/{tag}")), 400, "TAG_INVALID");
        assert_refused(tag, ask(&scene, &format!("DELETE /v2/acme/app/manifests/{tag}")), 400, "TAG_INVALID");
    }
}

#[test]
fn methods_that_an_endpoint_lacks_are_405() {
    let scene = Scene::shared();
    for line in [
        "PATCH /v2/acme/app/manifests/1.0",
        "POST /v2/acme/app/manifests/1.0",
        "PUT /v2/acme/app/blobs/uploads/",
        "POST /v2/acme/app/tags/list",
        "DELETE /v2/_catalog",
        "POST /v2/",
        "OPTIONS /v2/",
        "TRACE /v2/",
        "PROPFIND /v2/acme/app/tags/list",
        "get /v2/",
        "PUT /token",
        "DELETE /.well-known/jwks.json",
    ] {
        assert_refused(line, ask(&scene, line), 405, "UNSUPPORTED");
    }
}

#[test]
fn targets_that_are_no_path_are_refused() {
    let scene = Scene::shared();
    let host = scene.gateway.authority();
    for (line, status) in [
        (format!("GET https://{host}/v2/"), 400),
        (format!("GET http://{host}/v2/"), 400),
        ("GET http://evil.example/v2/".to_owned(), 421),
        (format!("GET https://evil.example@{host}/v2/"), 421),
        ("OPTIONS *".to_owned(), 404),
        ("GET *".to_owned(), 404),
    ] {
        assert_refused(&line, ask(&scene, &line), status, "UNSUPPORTED");
    }
    let connect = ask(&scene, &format!("CONNECT {host}")).expect("an answer");
    assert!((400..500).contains(&connect.status), "{connect:?}");
}

#[test]
fn queries_that_cannot_be_read_one_way_are_refused() {
    let scene = Scene::shared();
    for (query, status) in [
        ("n=%zz".to_owned(), 400),
        ("n=%C3".to_owned(), 400),
        ("last=%00".to_owned(), 400),
        ("last=%0d%0ax".to_owned(), 400),
        (format!("last={}", "a".repeat(513)), 400),
        ("n=1;last=a".to_owned(), 400),
        ("last=a&last=b".to_owned(), 400),
        (format!("x={}", "a".repeat(8200)), 414),
        (format!("x={}", "a".repeat(30_000)), 414),
    ] {
        let line = format!("GET /v2/acme/app/tags/list?{query}");
        assert_refused(&query[..query.len().min(40)], ask(&scene, &line), status, "UNSUPPORTED");
    }
}

#[test]
fn a_request_needs_one_host_that_is_ours() {
    let scene = Scene::shared();
    let ours = scene.gateway.authority();
    for (version, hosts) in [
        ("1.1", "host: evil.example\r\n".to_owned()),
        ("1.1", format!("host: {ours}.evil.example\r\n")),
        ("1.1", format!("host: evil.example@{ours}\r\n")),
        ("1.1", "host: localhost:x\r\n".to_owned()),
        ("1.1", "host: 127.0.0.1\r\n".to_owned()),
        ("1.1", "host:\r\n".to_owned()),
        ("1.1", String::new()),
        ("1.0", String::new()),
        ("1.1", format!("host: {ours}\r\nhost: {ours}\r\n")),
        ("1.1", format!("host: {ours}\r\nhost: evil.example\r\n")),
        ("1.1", format!("host: {ours}, evil.example\r\n")),
        ("1.1", "host: \u{fc}\r\n".to_owned()),
        ("1.1", format!("x-forwarded-host: {ours}\r\nhost: evil.example\r\n")),
    ] {
        let mut raw = Raw::connect(&scene.gateway.http());
        let answer = raw.send(format!("GET /v2/ HTTP/{version}\r\n{hosts}\r\n")).answer();
        assert_refused(&hosts, answer, 421, "UNSUPPORTED");
    }
    for host in [ours.to_owned(), "localhost".to_owned(), "LOCALHOST:1".to_owned()] {
        let mut raw = Raw::connect(&scene.gateway.http());
        let answer = raw.send(format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer();
        assert_refused(&host, answer, 401, "UNAUTHORIZED");
    }
}

#[test]
fn over_http_2_the_authority_is_the_host_and_a_host_header_must_not_differ() {
    let scene = Scene::shared();
    let http = scene.gateway.http();
    http.get("/v2/").http2().send().refused(401, "UNAUTHORIZED");
    http.get("/v2/").http2().header("host", "evil.example").send().refused(421, "UNSUPPORTED");
    http.get("/v2/").http2().header("host", scene.gateway.authority()).send().refused(401, "UNAUTHORIZED");
}

#[test]
fn over_http_2_paths_are_refused_all_the_same() {
    let scene = Scene::shared();
    let who = scene.acme.admin.credentials();
    for path in ["/v2/acme/%2e%2e/globex/tags/list", "/v2/acme//app/tags/list", "/v2/acme%2Fapp/tags/list"] {
        scene.gateway.http().get(path).with(&who).http2().send().refused(400, "NAME_INVALID");
    }
    let upload = scene.gateway.http().request(Method::POST, "/v2/acme/app/blobs/uploads/?from=a&from=b");
    upload.with(&who).http2().send().refused(400, "UNSUPPORTED");
}

#[test]
fn http_1_0_is_answered_and_its_connection_ends() {
    let scene = Scene::shared();
    let mut raw = Raw::connect(&scene.gateway.http());
    let host = scene.gateway.authority();
    let answer = raw.send(format!("GET /v2/ HTTP/1.0\r\nhost: {host}\r\n\r\n")).answer();
    assert_refused("HTTP/1.0", answer, 401, "UNAUTHORIZED");
    assert_eq!(raw.rest(), (Vec::new(), true));
}

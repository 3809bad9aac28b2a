//! Heads and bodies that two parsers could measure differently, and heads that are too long or too slow.

use super::{assert_refused, basic};
use portcullis_tests::faults::Faults;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::raw::Raw;
use portcullis_tests::scene::{House, Scene};
use std::time::{Duration, Instant};

/// Who has not been given up by now never will be: [`Raw`] itself waits for 30 s.
const GIVEN_UP: Duration = Duration::from_secs(25);

/// A scene whose upstream remembers what it was asked.
fn watched() -> (Scene, Faults, House) {
    let scene = Scene::open();
    let upstream = Faults::before(&scene.registry.url(), |_| None);
    let house = House::open(Gateway::before(&upstream.url()));
    (scene, upstream, house)
}

#[test]
fn nothing_is_smuggled_behind_a_body_of_two_lengths() {
    let (_scene, upstream, house) = watched();
    let (host, who) = (house.gateway.authority().to_owned(), basic(&house.acme.admin.credentials()));
    let smuggled = format!("GET /v2/acme/smuggled/tags/list HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\n\r\n");
    let length = smuggled.len();
    let behind_a_last_chunk = format!("0\r\n\r\n{smuggled}");
    let answers = |framing: &str, body: &str| {
        let location = house.acme("app").open_upload();
        let mut raw = Raw::connect(&house.gateway.http());
        raw.send(format!(
            "PATCH {location} HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\n{framing}\r\n\r\n{body}"
        ));
        let answer = raw.answer().unwrap_or_else(|| panic!("no answer to {framing:?}"));
        let (more, _) = raw.rest();
        assert!(more.is_empty(), "{framing:?} was answered twice: {}", String::from_utf8_lossy(&more));
        answer
    };
    for (framing, body) in [
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding: chunked, identity".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding: gzip, chunked".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding: xchunked".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding: chunked, chunked".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding: \"chunked\"".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding: identity".to_owned(), &smuggled),
        ("transfer-encoding : chunked\r\ncontent-length: 4".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding:\r\n chunked\r\ncontent-length: 4".to_owned(), &behind_a_last_chunk),
        ("transfer-encoding: \u{b}chunked\r\ncontent-length: 4".to_owned(), &behind_a_last_chunk),
        (format!("content-length: 0\r\ncontent-length: {length}"), &smuggled),
        (format!("x: y\ncontent-length: 0\r\ncontent-length: {length}"), &smuggled),
        (format!("content-length: 0, {length}"), &smuggled),
        ("content-length: +0".to_owned(), &smuggled),
        ("content-length: -1".to_owned(), &smuggled),
        ("content-length: 0x0".to_owned(), &smuggled),
        ("content-length: 18446744073709551616".to_owned(), &smuggled),
        ("transfer-encoding: chunked".to_owned(), &format!("0x0\r\n\r\n{smuggled}")),
        ("transfer-encoding: chunked".to_owned(), &format!("10000000000000000\r\n\r\n{smuggled}")),
        ("transfer-encoding: chunked".to_owned(), &format!("1\r\nxx0\r\n\r\n{smuggled}")),
    ] {
        assert_eq!(answers(&framing, body).status, 400, "{framing:?}");
    }
    let seen = upstream.seen();
    assert!(!seen.iter().any(|seen| seen.method == "PATCH" && seen.whole), "{seen:#?}");

    // Where both are there the parser reads chunks alone (RFC 9112, section 6.3), and takes no further request.
    let whole = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    for (framing, body) in [
        ("content-length: 4\r\ntransfer-encoding: chunked", &behind_a_last_chunk),
        ("transfer-encoding: chunked\r\ncontent-length: 5", &behind_a_last_chunk),
        ("transfer-encoding:\tchunked\r\ncontent-length: 4", &behind_a_last_chunk),
        ("transfer-encoding: chunked\r\ncontent-length: 4", &whole),
    ] {
        let answer = answers(framing, body);
        assert!(answer.status == 202 || answer.status == 400, "{framing:?}: {answer:?}");
    }
    let seen = upstream.seen();
    assert!(!seen.iter().any(|seen| seen.target.contains("smuggled")), "{seen:#?}");
}

#[test]
fn requests_in_a_row_on_one_connection_are_each_answered() {
    let scene = Scene::shared();
    let (host, who) = (scene.gateway.authority(), basic(&scene.acme.admin.credentials()));
    let request = format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\n\r\n");
    let mut raw = Raw::connect(&scene.gateway.http());
    raw.send(request.repeat(3));
    for _ in 0..3 {
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
}

#[test]
fn trailers_stay_behind() {
    let (_scene, upstream, house) = watched();
    let (host, who) = (house.gateway.authority(), basic(&house.acme.admin.credentials()));
    let location = house.acme("app").open_upload();
    let mut raw = Raw::connect(&house.gateway.http());
    raw.send(format!("PATCH {location} HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\ntransfer-encoding: chunked\r\ntrailer: x-evil\r\n\r\n3\r\nabc\r\n0\r\nx-evil: 1\r\n\r\n"));
    assert_eq!(raw.answer().expect("an answer").status, 202);
    let patch = upstream.wait_for(|seen| seen.method == "PATCH");
    assert_eq!((patch.body.as_slice(), patch.whole), (b"abc".as_slice(), true));
    assert!(!patch.headers.iter().any(|(name, _)| name == "trailer" || name == "x-evil"), "{patch:?}");
}

#[test]
fn a_head_over_the_limit_is_431() {
    let scene = Scene::shared();
    let (host, who) = (scene.gateway.authority(), basic(&scene.acme.admin.credentials()));
    for (what, headers, path) in [
        ("one long header", format!("x-long: {}\r\n", "a".repeat(20_000)), String::new()),
        ("a very long header", format!("x-long: {}\r\n", "a".repeat(200_000)), String::new()),
        ("many headers", (0..90).map(|n| format!("x-{n}: {}\r\n", "a".repeat(200))).collect(), String::new()),
        ("a long path", String::new(), "a".repeat(20_000)),
    ] {
        let mut raw = Raw::connect(&scene.gateway.http());
        let answer =
            raw.send(format!("GET /v2/{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\n{headers}\r\n"));
        assert_refused(what, answer.answer(), 431, "UNSUPPORTED");
    }
    let fits =
        scene.gateway.http().get("/v2/").with(&scene.acme.admin.credentials()).header("x-long", "a".repeat(12_000));
    fits.send().expect(200);
    let over =
        scene.gateway.http().get("/v2/").with(&scene.acme.admin.credentials()).header("x-long", "a".repeat(20_000));
    over.http2().send().refused(431, "UNSUPPORTED");
}

/// Bare statuses: there is no request yet that could have an id.
#[test]
fn what_is_no_http_at_all_is_refused_by_the_parser() {
    let scene = Scene::shared();
    let host = scene.gateway.authority();
    for (what, head) in [
        ("NUL in the target", "GET /v2/\0 HTTP/1.1".to_owned()),
        ("a space in the target", "GET /v2/acme/a b/tags/list HTTP/1.1".to_owned()),
        ("a control character in the target", "GET /v2/\u{7} HTTP/1.1".to_owned()),
        ("no version", "GET /v2/".to_owned()),
        ("an unknown version", "GET /v2/ HTTP/3.7".to_owned()),
        ("a bad method", "G(T /v2/ HTTP/1.1".to_owned()),
        ("NUL in a header", "GET /v2/ HTTP/1.1\r\nx: a\0b".to_owned()),
        ("a carriage return in a header", "GET /v2/ HTTP/1.1\r\nx: a\rb".to_owned()),
        ("a control character in a header", "GET /v2/ HTTP/1.1\r\nx: a\u{8}b".to_owned()),
        ("a space before the colon", "GET /v2/ HTTP/1.1\r\nx : a".to_owned()),
        ("no colon", "GET /v2/ HTTP/1.1\r\nx".to_owned()),
        ("an empty name", "GET /v2/ HTTP/1.1\r\n: x".to_owned()),
        ("a folded line", "GET /v2/ HTTP/1.1\r\nx: a\r\n b".to_owned()),
        ("too many headers", format!("GET /v2/ HTTP/1.1{}", "\r\nx: y".repeat(2000))),
        ("an endless header", format!("GET /v2/ HTTP/1.1\r\nx: {}", "a".repeat(600_000))),
        ("an endless target", format!("GET /v2/{} HTTP/1.1", "a".repeat(70_000))),
    ] {
        let mut raw = Raw::connect(&scene.gateway.http());
        raw.send(format!("{head}\r\nhost: {host}\r\n\r\n"));
        if let Some(answer) = raw.answer() {
            assert!([400, 414, 431].contains(&answer.status), "{what}: {answer:?}");
        }
        let (more, _) = raw.rest();
        assert!(more.is_empty(), "{what} was answered twice");
    }
    scene.gateway.http().get("/v2/").send().expect(401);
}

#[test]
fn a_slow_head_is_given_up() {
    let scene = Scene::with(|builder| builder.set("limits.head_timeout_s", 2));
    let host = scene.gateway.authority();
    for start in ["", "GET", "GET /v2/ HTTP/1.1\r\n", &format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\nx-slow: a")] {
        let begun = Instant::now();
        let mut raw = Raw::connect(&scene.gateway.http());
        if !start.is_empty() {
            raw.send(start);
        }
        raw.rest();
        assert!(begun.elapsed() < GIVEN_UP, "{start:?} was waited for");
    }
    // Without TLS, and with the beginning of what might become HTTP/2.
    let plain = Scene::with(|builder| builder.set("limits.head_timeout_s", 2).set("server.tls", "off"));
    for start in ["", "G", "PRI", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let begun = Instant::now();
        let mut raw = Raw::connect(&plain.gateway.http());
        raw.send(start).rest();
        assert!(begun.elapsed() < GIVEN_UP, "{start:?} was waited for");
    }
    plain.gateway.http().get("/v2/").send().expect(401);
    plain.gateway.http().get("/v2/").http2().send().expect(401);
    // HTTP/2 is agreed on, and not begun.
    let begun = Instant::now();
    let mut agreed = Raw::connect_h2(&scene.gateway.http());
    agreed.send("PRI * HTTP").rest();
    assert!(begun.elapsed() < GIVEN_UP, "half a preface was waited for");
    // Not even the handshake is begun.
    let begun = Instant::now();
    let mut plain = Raw::connect(&portcullis_tests::http::Http::new(&format!("http://{host}"), None));
    plain.rest();
    assert!(begun.elapsed() < GIVEN_UP, "a silent handshake was waited for");
}

#[test]
fn one_authorization_is_enough() {
    let scene = Scene::shared();
    let (host, who) = (scene.gateway.authority(), basic(&scene.acme.admin.credentials()));
    let mut raw = Raw::connect(&scene.gateway.http());
    raw.send(format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\nauthorization: {who}\r\n\r\n"));
    assert_refused("two Authorization headers", raw.answer(), 400, "UNSUPPORTED");
}

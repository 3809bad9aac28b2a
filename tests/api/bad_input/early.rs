//! A refusal while the client is still sending: it sees the whole answer, not a broken connection.

use super::{assert_refused, basic};
use http::Method;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Credentials, pieces};
use portcullis_tests::image::{Blob, IMAGE};
use portcullis_tests::process::free_port;
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, Scene};

/// Far more than sockets buffer, less than is read and thrown away.
const LARGE: usize = 24 << 20;

/// A scene that reads a refused body for as long as a machine with much else to do may take to send it.
fn patient() -> Scene {
    Scene::with(|builder| builder.set("limits.discard_timeout_s", 60))
}

/// A request with a large body that is refused from its head.
struct Case {
    what: &'static str,
    method: Method,
    target: String,
    who: Credentials,
    headers: Vec<(&'static str, String)>,
    status: u16,
    code: &'static str,
}

fn cases(house: &House) -> Vec<Case> {
    let repository = house.acme("early");
    let owner = || house.acme.admin.credentials();
    let digest = Blob::random(10).digest;
    let put = |location: &str| with_digest(location, &digest);
    let case = |what, method, target, who, headers: &[(&'static str, &str)], status, code| Case {
        what,
        method,
        target,
        who,
        headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        status,
        code,
    };
    let location = repository.open_upload();
    let manifest = "/v2/acme/early/manifests/1.0".to_owned();
    vec![
        case("no credentials", Method::PUT, put(&location), Credentials::None, &[], 401, "UNAUTHORIZED"),
        case("a puller", Method::PUT, put(&location), house.acme.pull.credentials(), &[], 401, "UNAUTHORIZED"),
        case("a stranger", Method::PUT, put(&location), house.globex.admin.credentials(), &[], 401, "UNAUTHORIZED"),
        case(
            "an unknown upload",
            Method::PUT,
            put("/v2/acme/early/blobs/uploads/x"),
            owner(),
            &[],
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        case(
            "a form",
            Method::PATCH,
            location.clone(),
            owner(),
            &[("content-type", "multipart/form-data; boundary=b")],
            400,
            "UNSUPPORTED",
        ),
        case("no digest", Method::PUT, location.clone(), owner(), &[], 400, "DIGEST_INVALID"),
        case("an odd range", Method::PATCH, location, owner(), &[("content-range", "5-4")], 416, "RANGE_INVALID"),
        case("a large manifest", Method::PUT, manifest, owner(), &[("content-type", IMAGE)], 413, "MANIFEST_INVALID"),
        case("no such endpoint", Method::POST, "/v2/acme/early".to_owned(), owner(), &[], 404, "UNSUPPORTED"),
    ]
}

fn head(house: &House, case: &Case, framing: &str) -> String {
    let mut head =
        format!("{} {} HTTP/1.1\r\nhost: {}\r\n{framing}\r\n", case.method, case.target, house.gateway.authority());
    if !matches!(case.who, Credentials::None) {
        head += &format!("authorization: {}\r\n", basic(&case.who));
    }
    case.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head + "\r\n"
}

#[test]
fn over_http_1_1_the_client_sees_the_whole_answer() {
    let scene = patient();
    for case in cases(&scene) {
        let mut raw = Raw::connect(&scene.gateway.http());
        raw.send(head(&scene, &case, &format!("content-length: {LARGE}"))).send(vec![0; LARGE]);
        assert_refused(case.what, raw.answer(), case.status, case.code);

        let mut raw = Raw::connect(&scene.gateway.http());
        raw.send(head(&scene, &case, "transfer-encoding: chunked"));
        let chunk = [b"100000\r\n".as_slice(), &vec![0; 1 << 20], b"\r\n"].concat();
        for _ in 0..LARGE >> 20 {
            raw.send(&chunk);
        }
        assert_refused(case.what, raw.answer(), case.status, case.code);
    }
}

#[test]
fn over_http_2_the_client_sees_the_whole_answer() {
    let scene = patient();
    for case in cases(&scene) {
        let (sender, body) = pieces();
        for _ in 0..LARGE >> 20 {
            sender.send(vec![0; 1 << 20]);
        }
        drop(sender);
        let request = scene.gateway.http().request(case.method.clone(), &case.target).with(&case.who).http2();
        let request = case.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.stream(body).attempt().unwrap_or_else(|e| panic!("{}: {e}", case.what));
        answer.refused(case.status, case.code);
    }
}

#[test]
fn an_upstream_that_is_down_is_told_of_while_the_client_is_still_sending() {
    let scene = patient();
    let locations: Vec<_> = (0..3).map(|_| scene.acme("down").open_upload()).collect();
    let mut scene = scene;
    scene.registry.kill();
    let digest = Blob::random(10).digest;
    let who = scene.acme.admin.credentials();
    let case = |location: &String| Case {
        what: "an upstream that is down",
        method: Method::PUT,
        target: with_digest(location, &digest),
        who: who.clone(),
        headers: Vec::new(),
        status: 502,
        code: "UNAVAILABLE",
    };
    let plain = case(&locations[0]);
    let mut raw = Raw::connect(&scene.gateway.http());
    raw.send(head(&scene, &plain, &format!("content-length: {LARGE}"))).send(vec![0; LARGE]);
    assert_refused(plain.what, raw.answer(), 502, "UNAVAILABLE");
    for (location, http2) in [(&locations[1], false), (&locations[2], true)] {
        let request = scene.gateway.http().request(Method::PUT, &with_digest(location, &digest)).with(&who);
        let request = if http2 { request.http2() } else { request };
        request.body(vec![0; LARGE]).send().refused(502, "UNAVAILABLE");
    }
}

#[test]
fn who_never_stops_sending_is_cut_off() {
    let upstream = format!("http://127.0.0.1:{}", free_port());
    let builder = Gateway::before(&upstream).set("limits.discard_bytes", 1 << 20).set("limits.discard_timeout_s", 1);
    let house = House::open(builder);
    let mut raw = Raw::connect(&house.gateway.http());
    let host = house.gateway.authority();
    raw.send(format!("PUT /v2/acme/app/manifests/1.0 HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n"));
    let chunk = [b"100000\r\n".as_slice(), &vec![0; 1 << 20], b"\r\n"].concat();
    for _ in 0..64 {
        raw.send(&chunk);
    }
    // Whether or not the answer came through, the connection has ended.
    raw.rest();
}

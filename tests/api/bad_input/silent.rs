//! Clients that begin something and do not go on: each is given up when its time is over.

use http::Method;
use portcullis_tests::http::{Http, encode, pieces};
use portcullis_tests::raw::Raw;
use portcullis_tests::scene::{Scene, within};
use std::time::{Duration, Instant};

/// The gateway gives up after a few seconds. Who has not been given up by now never will be: [`Raw`] itself waits for 30 s.
const GIVEN_UP: Duration = Duration::from_secs(25);

/// HTTP/2's preface and an empty SETTINGS frame: all that a client has to say before its first request.
const H2_GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// It waits so many seconds for a handshake, a request, a form.
fn impatient(seconds: i64) -> Scene {
    Scene::with(|builder| builder.set("limits.head_timeout_s", seconds))
}

#[track_caller]
fn is_given_up(what: &str, mut raw: Raw) {
    let begun = Instant::now();
    raw.rest();
    assert!(begun.elapsed() < GIVEN_UP, "{what} was waited for");
}

#[test]
fn a_handshake_that_is_not_made_is_given_up() {
    let scene = impatient(1);
    let plain = Http::new(&format!("http://{}", scene.gateway.authority()), None);
    // Nothing; half a record's head; a record's head without the hello that it announces.
    for begin in [b"".as_slice(), b"\x16\x03", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut raw = Raw::connect(&plain);
        raw.send(begin);
        is_given_up(&format!("a handshake that stops after {} bytes", begin.len()), raw);
    }
}

#[test]
fn a_connection_without_a_request_is_given_up() {
    let scene = impatient(1);
    let http = scene.gateway.http();
    is_given_up("a handshake alone", Raw::connect(&http));
    for sent in [b"".as_slice(), H2_GREETING] {
        let mut raw = Raw::connect_h2(&http);
        raw.send(sent);
        is_given_up(&format!("HTTP/2 without a request after {} bytes", sent.len()), raw);
    }
}

/// Silence is watched for everywhere; who drips is never silent.
#[test]
fn a_form_that_drips_is_given_up() {
    let scene = impatient(3);
    for http2 in [false, true] {
        let (sender, body) = pieces();
        let login = scene.gateway.http().request(Method::POST, "/token");
        let login = login.header("content-type", "application/x-www-form-urlencoded").limit(GIVEN_UP).stream(body);
        let login = if http2 { login.http2() } else { login };
        let asking = std::thread::spawn(move || login.attempt());
        sender.send(format!("grant_type=password&username={}&password=", encode(&scene.acme.pull.username)));
        within(GIVEN_UP + GIVEN_UP, || {
            sender.send("a");
            asking.is_finished().then_some(())
        });
        asking.join().expect("no panic").expect("an answer before the form's end").refused(413, "UNSUPPORTED");
    }
}

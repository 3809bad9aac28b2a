//! What no well-behaved client sends: a clear error in the registry's form, nothing believed, nothing passed on.
//!
//! Some of it the HTTP parser refuses by itself, before the gateway sees a request; its answer is a bare status and the
//! connection's end. Those cases stand in `framing` under the names `…_is_refused_by_the_parser`.

mod early;
mod framing;
mod manifests;
mod readers;
mod silent;
mod targets;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_tests::http::Credentials;
use portcullis_tests::raw::RawResponse;
use serde_json::Value;

/// The value of an `Authorization` header.
fn basic(who: &Credentials) -> String {
    match who {
        Credentials::Basic(user, secret) => format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))),
        other => panic!("no user name and secret: {other:?}"),
    }
}

/// A header's value in an answer as it came.
fn header<'a>(answer: &'a RawResponse, name: &str) -> &'a str {
    let lines = answer.head.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    found.next().unwrap_or_default()
}

/// Fails the test unless it is an error in the registry's form with this status and code, and with the request's id.
#[track_caller]
fn assert_refused(what: &str, answer: Option<RawResponse>, status: u16, code: &str) {
    let answer = answer.unwrap_or_else(|| panic!("no answer to {what}"));
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{what}\n{}\n{text}", answer.head);
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{what}: {e}\n{}\n{text}", answer.head));
    let error = &body["errors"][0];
    assert_eq!(error["code"], code, "{what}\n{text}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}\n{text}");
    assert!(text.bytes().all(|byte| byte >= b' '), "{what}: no control characters are sent back\n{text:?}");
    let id = header(&answer, "x-request-id");
    assert!(!id.is_empty() && error["detail"]["request_id"] == id, "{what}\n{}\n{text}", answer.head);
    assert_eq!(header(&answer, "content-type"), "application/json", "{what}");
}

//! How often and how much: every limit lets through what it says and not one more, and says what is left and when again.

mod addresses;
mod bytes;
mod commands;
mod logins;
mod pulls;
mod shared;
mod slow;
mod under_way;
mod uploads;

use portcullis_tests::gateway::{Gateway, metric};
use portcullis_tests::http::Response;

/// A limited answer: 429, with all that says when again, by the limit's name.
#[track_caller]
fn limited(answer: Response, limit: &str) -> Response {
    let answer = answer.refused(429, "TOOMANYREQUESTS");
    let wait: u64 = answer.header("retry-after").parse().unwrap_or_else(|_| panic!("no time\n{answer}"));
    assert!(wait >= 1, "{answer}");
    assert_eq!(answer.header("ratelimit"), format!("\"{limit}\";r=0;t={wait}"), "{answer}");
    assert!(answer.header("ratelimit-policy").starts_with(&format!("\"{limit}\";q=")), "{answer}");
    let error = &answer.json()["errors"][0];
    assert_eq!(
        (&error["detail"]["limit"], &error["detail"]["retry_after_s"]),
        (&limit.into(), &wait.into()),
        "{answer}"
    );
    assert!(
        error["message"].as_str().is_some_and(|message| message.ends_with(&format!("try again in {wait} s"))),
        "{answer}"
    );
    assert_eq!(error["detail"]["request_id"], answer.header("x-request-id"), "{answer}");
    answer
}

/// How many were refused by a limit.
fn refused(gateway: &Gateway, limit: &str) -> f64 {
    metric(&gateway.metrics(), "portcullis_limited_total", &format!("limit=\"{limit}\""))
}

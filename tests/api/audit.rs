//! The audit trail: who did what is written down once, and nobody can change what is written down without being found out.

mod exports;
mod failing;
mod records;
mod tampering;

use portcullis_tests::command::Output;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::scene::within;
use serde_json::Value;
use std::time::Duration;

/// Longer than a record waits for its place, and than a flood is summed up.
const SOON: Duration = Duration::from_secs(40);

/// The records that `audit search` finds, the newest first.
#[track_caller]
fn found(gateway: &Gateway, search: &[&str]) -> Vec<Value> {
    let mut args = vec!["audit", "search", "--json", "--limit", "1000"];
    args.extend(search);
    gateway.cli(&args).json().as_array().expect("a list").clone()
}

/// The only record of a kind; it may still be on its way.
#[track_caller]
fn only(gateway: &Gateway, kind: &str) -> Value {
    let records = within(SOON, || Some(found(gateway, &["--kind", kind])).filter(|records| !records.is_empty()));
    assert_eq!(records.len(), 1, "one {kind}: {records:#?}");
    records[0].clone()
}

/// `audit verify`, which has to find the trail whole.
#[track_caller]
fn whole(gateway: &Gateway, args: &[&str]) -> Value {
    let mut all = vec!["audit", "verify", "--json"];
    all.extend(args);
    let verified = gateway.cli(&all).json();
    assert_eq!(verified["whole"], true, "{verified:#}");
    verified
}

/// `audit verify`, which has to find something wrong, and to say so.
#[track_caller]
fn broken(gateway: &Gateway, args: &[&str], message: &str) -> Output {
    let mut all = vec!["audit", "verify"];
    all.extend(args);
    let output = gateway.command(&all).fails();
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stdout.contains(message), "it does not say {message:?}\n{output}");
    assert!(output.stdout.contains("NOT WHOLE: ") && output.stdout.contains("Next: "), "{output}");
    output
}

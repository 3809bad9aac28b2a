//! OTLP's JSON form of traces (OpenTelemetry Protocol 1, "JSON Protobuf Encoding"): ids in hexadecimal digits, numbers of 64 bits
//! as texts, enumerations as numbers.

use super::{Finished, Record, Value};
use serde_json::{Map, Value as Json, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest text that is exported, in characters.
const MAX_TEXT: usize = 256;

/// Who exports: the same for all traces of a process.
pub fn resource(service: &str, instance: &str) -> Json {
    let attributes = [
        ("service.name", service),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance),
        ("telemetry.sdk.name", "portcullis"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let attributes: Vec<Json> =
        attributes.iter().map(|(key, text)| json!({"key": key, "value": {"stringValue": text}})).collect();
    json!({ "attributes": attributes })
}

/// The body of one export.
pub fn request(resource: &Json, traces: &[Finished]) -> Vec<u8> {
    let spans: Vec<Json> =
        traces.iter().flat_map(|trace| trace.spans.iter().map(|record| span(trace, record))).collect();
    let scope = json!({"name": "portcullis", "version": env!("CARGO_PKG_VERSION")});
    let request = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]});
    request.to_string().into_bytes()
}

/// How many spans of an export the collector has thrown away, by its answer.
pub fn rejected(answer: &[u8]) -> u64 {
    let answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    let rejected = answer.get("partialSuccess").and_then(|partial| partial.get("rejectedSpans"));
    match rejected {
        Some(Json::String(text)) => text.parse().unwrap_or_default(),
        Some(number) => number.as_u64().unwrap_or_default(),
        None => 0,
    }
}

fn span(trace: &Finished, record: &Record) -> Json {
    let mut span = Map::new();
    span.insert("traceId".to_owned(), trace.trace.to_string().into());
    span.insert("spanId".to_owned(), record.id.to_string().into());
    if let Some(parent) = record.parent {
        span.insert("parentSpanId".to_owned(), parent.to_string().into());
    }
    if let Some(state) = trace.state.as_ref().and_then(|state| state.to_str().ok()) {
        span.insert("traceState".to_owned(), state.into());
    }
    // What was sampled.
    span.insert("flags".to_owned(), 1.into());
    span.insert("name".to_owned(), record.name.as_ref().into());
    span.insert("kind".to_owned(), (record.kind as u8).into());
    span.insert("startTimeUnixNano".to_owned(), nanos(trace, record.began).into());
    span.insert("endTimeUnixNano".to_owned(), nanos(trace, record.ended).into());
    let attributes: Vec<Json> = record.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    span.insert("attributes".to_owned(), attributes.into());
    if let Some(error) = &record.error {
        span.insert("status".to_owned(), json!({"code": 2, "message": bounded(error)}));
    }
    span.into()
}

fn attribute(key: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({"stringValue": bounded(text)}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
    };
    json!({"key": key, "value": value})
}

/// Some of it was chosen by clients, and is shown to people.
fn bounded(text: &str) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    text.chars().take(MAX_TEXT).map(plain).collect()
}

/// An instant as nanoseconds after 1970: the trace's first by the clock of the day, all others counted from it.
fn nanos(trace: &Finished, instant: Instant) -> String {
    let since: SystemTime = trace
        .began_at
        .checked_add(instant.saturating_duration_since(trace.began))
        .and_then(|later| later.checked_sub(trace.began.saturating_duration_since(instant)))
        .unwrap_or(trace.began_at);
    since.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos().to_string()
}

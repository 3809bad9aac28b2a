//! A collector of traces: it takes what a gateway exports by OTLP, and shows it.

use crate::faults::{Answer, Faults, Seen};
use crate::scene::within;
use serde_json::Value;
use std::time::Duration;

/// A listening collector. Dropping it closes everything.
pub struct Collector(Faults);

/// One span as it was exported.
#[derive(Clone, Debug)]
pub struct Span(Value);

impl Collector {
    /// One that takes everything.
    pub fn start() -> Collector {
        Collector::answering(|_| Answer::status(200).header("content-type", "application/json").body("{}"))
    }

    /// One that answers as the test says.
    pub fn answering(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Collector {
        Collector(Faults::scripted(script))
    }

    /// What `traces.endpoint` is set to.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The exports as they came.
    pub fn exports(&self) -> Vec<Seen> {
        self.0.seen()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for export in self.exports() {
            let body: Value = serde_json::from_slice(&export.body).unwrap_or_else(|e| panic!("{e}: {export:?}"));
            for resource in body["resourceSpans"].as_array().into_iter().flatten() {
                for scope in resource["scopeSpans"].as_array().into_iter().flatten() {
                    spans.extend(scope["spans"].as_array().into_iter().flatten().cloned().map(Span));
                }
            }
        }
        spans
    }

    /// The spans of a trace with such a request in it, the last one, once they are there.
    #[track_caller]
    pub fn trace_of(&self, operation: &str, status: u16) -> Vec<Span> {
        let (status, is_such) = (status.to_string(), "http.response.status_code");
        within(Duration::from_secs(30), || {
            let spans = self.spans();
            let root = spans.iter().rfind(|span| span.name() == operation && span.text(is_such) == status)?;
            Some(spans.iter().filter(|span| span.trace() == root.trace()).cloned().collect())
        })
    }
}

impl Span {
    /// Its name.
    pub fn name(&self) -> &str {
        self.field("name")
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.field("spanId")
    }

    /// The id of the span that it is a part of; empty where it is the first.
    pub fn parent(&self) -> &str {
        self.field("parentSpanId")
    }

    /// Its trace's id.
    pub fn trace(&self) -> &str {
        self.field("traceId")
    }

    /// A field of the protocol's.
    pub fn field(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// When it began and ended, in nanoseconds after 1970.
    pub fn times(&self) -> (u128, u128) {
        let time = |name| self.field(name).parse().unwrap_or_else(|e| panic!("{name}: {e}: {self:?}"));
        (time("startTimeUnixNano"), time("endTimeUnixNano"))
    }

    /// Whether it is marked as failed.
    pub fn is_error(&self) -> bool {
        self.0["status"]["code"] == 2
    }

    /// What is said of it under this key, texts and numbers alike; empty where nothing is.
    pub fn text(&self, key: &str) -> String {
        let attributes = self.0["attributes"].as_array().into_iter().flatten();
        let value = attributes.clone().find(|attribute| attribute["key"] == key).map(|attribute| &attribute["value"]);
        let value = value.and_then(|value| value["stringValue"].as_str().or(value["intValue"].as_str()));
        value.unwrap_or_default().to_owned()
    }
}

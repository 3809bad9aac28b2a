//! Records and checkpoints as lines of JSON: what is exported, and read again to be verified.

use super::checkpoint::Checkpoint;
use super::{Entry, Record};
use serde::{Deserialize, Serialize};

/// One line of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A record.
    Entry(Box<Entry>),
    /// A checkpoint.
    Checkpoint(Checkpoint),
}

/// A line is neither a record nor a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no line of an audit export: {0}")]
pub struct NoLine(String);

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    r#type: String,
    node: Box<str>,
    sequence: Option<u64>,
    id: Box<str>,
    at: String,
    kind: Box<str>,
    actor: Box<str>,
    address: Option<Box<str>>,
    project: Option<Box<str>>,
    repository: Option<Box<str>>,
    reference: Option<Box<str>>,
    digest: Option<Box<str>>,
    outcome: Box<str>,
    reason: Option<Box<str>>,
    request_id: Option<Box<str>>,
    times: u64,
    mac: Box<str>,
}

impl Line {
    /// Reads a line.
    pub fn parse(line: &str) -> Result<Self, NoLine> {
        let failed = |error: serde_json::Error| NoLine(error.to_string());
        let kind: Kind = serde_json::from_str(line).map_err(failed)?;
        match kind.r#type.as_str() {
            "checkpoint" => Checkpoint::parse(line).map(Self::Checkpoint).map_err(|error| NoLine(error.to_string())),
            "record" => {
                let form: Form = serde_json::from_str(line).map_err(failed)?;
                Ok(Self::Entry(Box::new(form.entry()?)))
            }
            other => Err(NoLine(format!("its type is {other:?}"))),
        }
    }
}

impl Entry {
    /// As one line of JSON, without its end.
    pub fn to_json(&self) -> String {
        let record = self.record.clone();
        let form = Form {
            r#type: "record".to_owned(),
            node: record.node,
            sequence: self.sequence,
            id: record.id,
            at: record.at.to_string(),
            kind: record.kind,
            actor: record.actor,
            address: record.address,
            project: record.project,
            repository: record.repository,
            reference: record.reference,
            digest: record.digest,
            outcome: record.outcome,
            reason: record.reason,
            request_id: record.request_id,
            times: record.times,
            mac: self.mac.clone(),
        };
        serde_json::to_string(&form).unwrap_or_default()
    }
}

impl Form {
    fn entry(self) -> Result<Entry, NoLine> {
        let at = self.at.parse().map_err(|error: jiff::Error| NoLine(error.to_string()))?;
        let record = Record {
            id: self.id,
            node: self.node,
            at,
            kind: self.kind,
            actor: self.actor,
            address: self.address,
            project: self.project,
            repository: self.repository,
            reference: self.reference,
            digest: self.digest,
            outcome: self.outcome,
            reason: self.reason,
            request_id: self.request_id,
            times: self.times,
        };
        Ok(Entry { sequence: self.sequence, record, mac: self.mac })
    }
}

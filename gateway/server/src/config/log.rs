//! `[log]`: what is written about requests, and in which form.

use super::reader::Section;
use crate::network;
use ipnet::IpNet;
use std::io::{IsTerminal, stderr};

const LEVELS: [(&str, &str); 5] =
    [("info", "info"), ("error", "error"), ("warn", "warn"), ("debug", "debug"), ("trace", "trace")];

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `format`: `"text"`, `"json"`, or `"auto"` (default): text on a terminal, JSON elsewhere.
    pub json: bool,
    /// `level`: `"error"`, `"warn"`, `"info"` (default), `"debug"`, `"trace"`.
    pub level: String,
    /// `trusted_request_ids`: networks whose `X-Request-Id` is taken over.
    pub trusted_request_ids: Vec<IpNet>,
}

pub(super) fn read(mut section: Section<'_>) -> Option<Log> {
    let json = section.choice("format", &[("auto", None), ("text", Some(false)), ("json", Some(true))]);
    let level = section.choice("level", &LEVELS);
    let trusted_request_ids = section.list("trusted_request_ids", "10.0.0.0/8", network::parse);
    section.finish();
    Some(Log { json: json?.unwrap_or_else(|| !stderr().is_terminal()), level: level?.to_owned(), trusted_request_ids })
}

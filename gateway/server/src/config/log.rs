//! `[log]`: what is written about requests, and in which form.

use super::reader::Section;
use crate::network;
use ipnet::IpNet;
use std::io::{IsTerminal, stderr};
use std::net::IpAddr;

const LEVELS: [(&str, &str); 5] =
    [("info", "info"), ("error", "error"), ("warn", "warn"), ("debug", "debug"), ("trace", "trace")];

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `format`: `"text"`, `"json"`, or `"auto"` (default): text on a terminal, JSON elsewhere.
    pub json: bool,
    /// `level`: `"error"`, `"warn"`, `"info"` (default), `"debug"`, `"trace"`.
    pub level: String,
    /// `trusted_networks`: whose `X-Request-Id` and trace context are taken over.
    pub trusted_networks: Vec<IpNet>,
}

impl Log {
    /// Whether what this address says of its requests is taken over.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_networks.iter().any(|network| network.contains(&address))
    }
}

pub(super) fn read(mut section: Section<'_>) -> Option<Log> {
    let json = section.choice("format", &[("auto", None), ("text", Some(false)), ("json", Some(true))]);
    let level = section.choice("level", &LEVELS);
    let trusted_networks = section.list("trusted_networks", "10.0.0.0/8", network::parse);
    section.finish();
    Some(Log { json: json?.unwrap_or_else(|| !stderr().is_terminal()), level: level?.to_owned(), trusted_networks })
}

//! `doctor`: looks at everything that a running gateway needs, and says what to do about each finding. It changes nothing
//! but the store's schema, which opening brings up to date.

mod certificate;
mod house;
mod trail;
mod upstream;

#[cfg(test)]
mod tests;

use super::output::{Answer, Failure};
use crate::config::Config;
use portcullis_tenancy::Timestamp;
use portcullis_tenancy::token::LEEWAY;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Clocks that are further apart should be looked at.
const DRIFT: Duration = Duration::from_secs(5);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    /// It works, and something about it should be known.
    Warning,
    /// It does not work, or is not safe.
    Error,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at: `store`, `certificate`, …
    about: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do about it; empty where nothing.
    advice: String,
}

impl Finding {
    pub(super) fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, level: Level::Ok, found: found.into(), advice: String::new() }
    }

    pub(super) fn warning(about: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, level: Level::Warning, found: found.into(), advice: advice.into() }
    }

    pub(super) fn error(about: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, level: Level::Error, found: found.into(), advice: advice.into() }
    }
}

pub(super) async fn run(file: &Path, config: &Config) -> Result<Answer, Failure> {
    let now = Timestamp::now();
    let mut findings = vec![Finding::ok("configuration", format!("{} is right", file.display()))];
    findings.extend(house::examine_transport(config));
    findings.extend(certificate::examine(config, now));
    findings.extend(house::examine(config, now).await);
    findings.extend(house::examine_limits(config).await);
    findings.extend(upstream::examine(&config.upstream, now).await);
    Ok(answer(&findings))
}

/// Compares a clock with ours.
fn judge_clock(whose: &str, theirs: Timestamp, now: Timestamp) -> Finding {
    let apart = now.duration_since(theirs).unsigned_abs();
    let found = format!("this machine's and {whose} are {} s apart", apart.as_secs());
    match apart {
        _ if apart > LEEWAY => Finding::error("clock", found, "tokens end too early or too late: set both by NTP"),
        _ if apart > DRIFT => Finding::warning("clock", found, "set both by NTP"),
        _ => Finding::ok("clock", format!("it agrees with {whose}")),
    }
}

/// A line for each finding, and what to do about it under it. One error is a failure.
pub(super) fn answer(findings: &[Finding]) -> Answer {
    let failed = findings.iter().any(|finding| finding.level == Level::Error);
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{:7}  {}: {}\n", finding.level.word(), finding.about, finding.found));
        if !finding.advice.is_empty() {
            text.push_str(&format!("         → {}\n", finding.advice));
        }
    }
    let json: Vec<Value> = findings
        .iter()
        .map(|finding| json!({ "about": finding.about, "level": finding.level.word(), "found": finding.found, "advice": finding.advice }))
        .collect();
    Answer { text, json: json!({ "ok": !failed, "findings": json }), failed }
}

//! What a command gives back, and how it is printed: text for people, JSON for machines, failures on standard error.

use crate::config::ConfigError;
use portcullis_oci::text::is_harmful;
use portcullis_tenancy::{StoreError, TenancyError};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

/// Refused or failed.
const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub(super) const WRONG_USAGE: u8 = 2;

/// A command's answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// For people, with the end of line.
    pub(super) text: String,
    /// For machines; nothing is printed where it is null.
    pub(super) json: Value,
    /// Whether the command did its work and the finding is bad (`doctor`).
    pub(super) failed: bool,
}

impl Answer {
    pub(super) fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, failed: false }
    }

    /// Nothing to say.
    pub(super) fn silent() -> Self {
        Self::new("", Value::Null)
    }
}

/// Why a command was not done. The message says what happened, why, and what to do next.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Refused or failed.
    #[error("{0}")]
    Refused(String),
    /// Asked wrongly.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<ConfigError>),
}

impl From<TenancyError> for Failure {
    fn from(error: TenancyError) -> Self {
        match error {
            TenancyError::Store(error) => error.into(),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(format!("{}; `portcullis doctor` says more", with_sources(&error)))
    }
}

/// An error with its causes, as far as its own text does not name them already.
pub(super) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Prints an answer.
pub(super) fn print(answer: &Answer, json: bool) -> ExitCode {
    let text = match (&answer.json, json) {
        (Value::Null, true) => String::new(),
        (value, true) => format!("{value:#}\n"),
        (_, false) => harmless(&answer.text),
    };
    // Whoever closed the pipe does not want to read it.
    let _ = stdout().lock().write_all(text.as_bytes());
    if answer.failed { FAILED.into() } else { ExitCode::SUCCESS }
}

/// Prints a failure.
pub(super) fn print_failure(failure: &Failure, json: bool) -> ExitCode {
    let text =
        if json { format!("{}\n", failure_json(failure)) } else { format!("{}\n", harmless(&failure_text(failure))) };
    let _ = stderr().lock().write_all(text.as_bytes());
    match failure {
        Failure::Refused(_) => FAILED.into(),
        Failure::Usage(_) | Failure::Config(_) => WRONG_USAGE.into(),
    }
}

/// A configuration's errors stand for themselves, so that an editor can jump to them.
fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::Config(_) => failure.to_string(),
        _ => format!("error: {failure}"),
    }
}

pub(super) fn failure_json(failure: &Failure) -> Value {
    let mut error = json!({ "message": failure.to_string() });
    if let (Failure::Config(errors), Some(error)) = (failure, error.as_object_mut()) {
        let errors: Vec<Value> = errors
            .iter()
            .map(|error| json!({ "file": error.file.display().to_string(), "line": error.line, "key": error.key, "message": error.message }))
            .collect();
        error.insert("configuration".to_owned(), errors.into());
    }
    json!({ "error": error })
}

/// Says something in passing, to people who watch.
pub(super) fn note(text: &str) {
    if stderr().is_terminal() {
        line(text);
    }
}

/// Says something in passing, whoever reads it.
pub(super) fn line(text: &str) {
    let _ = writeln!(stderr().lock(), "{}", harmless(text));
}

/// Foreign text may stand in here (an upstream's message, a repository's name): of what steers a terminal, ends of lines alone reach
/// it, which are our own.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_harmful(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_json_of_one_form() {
        let refused = Failure::Refused("there is no project `acme`".into());
        assert_eq!(failure_json(&refused), json!({ "error": { "message": "there is no project `acme`" } }));
        let wrong =
            ConfigError { file: "p.toml".into(), line: 3, key: "server.listen".into(), message: "is missing".into() };
        let config = Failure::Config(vec![wrong]);
        assert_eq!(
            failure_json(&config),
            json!({ "error": {
                "message": "p.toml:3: server.listen: is missing",
                "configuration": [{ "file": "p.toml", "line": 3, "key": "server.listen", "message": "is missing" }],
            } })
        );
    }

    #[test]
    fn a_cause_is_named_once() {
        let error = StoreError::Failed("no route to host".into());
        assert_eq!(with_sources(&error), "the store failed: no route to host");
        assert_eq!(with_sources(&TenancyError::Store(error)), "the store failed: no route to host");
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_printed() {
        assert_eq!(harmless("a\u{1b}[2J\u{202e}\r\nb\u{9b}"), "a\u{fffd}[2J\u{fffd}\u{fffd}\nb\u{fffd}");
        assert_eq!(harmless("→ a\u{200b}b\u{61c}\u{feff}\u{e0041}"), "→ a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}");
    }
}

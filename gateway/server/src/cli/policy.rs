//! `policy`: each tenant's own rules, attached to projects or to the platform.

mod artifact;
mod attach;
mod push;
mod record;
mod scan;
mod status;

use super::output::{Answer, Failure};
use super::session::Session;
use clap::Subcommand;

/// What can be done with policies where a gateway is.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Attach a policy to a project or to the platform, or change one that is attached
    Attach(attach::Attach),
    /// Take a policy away from a project or from the platform
    Detach(attach::Detach),
    /// Show what is attached, and what the running gateway counted of it
    Status(status::Arguments),
    /// Keep real questions about a project, with what policies said, as cases
    Record(record::Arguments),
    /// Say what policies would say of everything that a project has stored
    Scan(scan::Arguments),
}

/// Does it.
pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    match command {
        Command::Attach(wanted) => attach::attach(wanted, session).await,
        Command::Detach(wanted) => attach::detach(wanted, session).await,
        Command::Status(wanted) => status::run(&wanted, session).await,
        Command::Record(wanted) => record::run(&wanted, session).await,
        Command::Scan(wanted) => scan::run(&wanted, session).await,
    }
}

/// A file of settings, YAML or JSON, as JSON.
fn settings(file: &std::path::Path) -> Result<String, Failure> {
    let read = |error: &dyn std::fmt::Display| Failure::Refused(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| read(&error))?;
    let value: serde_json::Value = yaml_serde::from_str(&text).map_err(|error| read(&error))?;
    let value = if value.is_null() { serde_json::json!({}) } else { value };
    Ok(value.to_string())
}

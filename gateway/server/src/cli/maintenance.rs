//! `maintenance`: nothing is written upstream while its own garbage is collected.

use super::output::{Answer, Failure};
use super::session::Session;
use super::show;
use crate::quota::LEASE;
use clap::Subcommand;
use portcullis_tenancy::Store;
use portcullis_tenancy::audit::Kind;
use serde_json::json;

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Command {
    /// Answer pushes and deletions with 503 until `off`; pulls go on
    On,
    /// Take pushes and deletions again
    Off,
    /// Say whether it is on, and since when
    Status,
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    let before = session.store.maintenance().await?;
    let since = match command {
        Command::On => Some(before.unwrap_or(session.now)),
        Command::Off => None,
        Command::Status => before,
    };
    if since != before {
        let kind = if since.is_some() { Kind::MaintenanceOn } else { Kind::MaintenanceOff };
        session.audited(Session::note(kind)).await?.set_maintenance(since).await?;
    }
    let seen = session.now.checked_sub(LEASE).unwrap_or(session.now);
    let under_way = session.store.under_way(seen).await?;
    let text = match since {
        Some(since) => format!(
            "Maintenance is on since {}: within {} s every gateway answers pushes and deletions with 503. Writes under way: {under_way}. Next: wait that long, and until `portcullis maintenance status` says 0; collect the upstream's garbage; then `portcullis maintenance off`.\n",
            show::minute(since),
            session.config.store.stale_max.as_secs()
        ),
        None => "Maintenance is off: pushes and deletions are taken.\n".to_owned(),
    };
    let json = json!({ "maintenance": since.is_some(), "writes_under_way": under_way, "since": since.map(|since| since.to_string()) });
    Ok(Answer::new(text, json))
}

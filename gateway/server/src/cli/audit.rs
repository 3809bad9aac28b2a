//! `audit`: what happened, and whether what is told of it is what was written down.

mod show;
mod verify;
mod when;

use super::output::{Answer, Failure};
use super::session::Session;
use crate::audit::read_checkpoint;
use clap::{Args, Subcommand};
use portcullis_tenancy::audit::{AuditKeys, Entry, Head, Kind, Search as Wanted, advance};
use portcullis_tenancy::{Store, Timestamp};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{Write, stdout};
use std::time::Duration;
use verify::Verify;
use when::When;

/// Records that one page of an export takes.
const PAGE: u32 = 1000;
/// How often `tail --follow` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the newest records
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        lines: u32,
        /// Go on with those that come, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
    },
    /// Find records
    Search(Search),
    /// Say whether the trail is what was written down; exit code 1, and the first record at which it is not, where it is not
    Verify(Verify),
    /// Sign how far every chain has got: keep what it prints where nobody who can write the store can write
    Checkpoint,
    /// Write records as lines of JSON, chain by chain, with a checkpoint behind each
    Export {
        /// Only from then on: 2026-11-27, 2026-11-27T08:00:00Z, or 12h for twelve hours ago
        #[arg(long, value_name = "TIME", value_parser = When::parse)]
        since: Option<When>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Search {
    /// In this project
    #[arg(long)]
    project: Option<String>,
    /// By this robot, such as acme+ci
    #[arg(long, value_name = "PROJECT+NAME")]
    robot: Option<String>,
    /// Of this kind, such as push, login-failure or robot-create
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// From this address
    #[arg(long)]
    address: Option<std::net::IpAddr>,
    /// From then on: 2026-11-27, 2026-11-27T08:00:00Z, or 12h for twelve hours ago
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: Option<When>,
    /// Before then
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    until: Option<When>,
    /// The newest so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl Command {
    /// What needs no deployment: an auditor has none.
    pub(super) fn offline(&self) -> Option<Result<Answer, Failure>> {
        match self {
            Self::Verify(wanted) => wanted.offline(),
            _ => None,
        }
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::parse(name).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("there is no such kind; write one of {}", names.join(", "))
    })
}

pub(super) async fn run(command: Command, session: &Session, json: bool) -> Result<Answer, Failure> {
    let keys = session.audit_keys().await?;
    settle(session, &keys).await?;
    match command {
        Command::Tail { lines, follow } => tail(lines, follow, session, json).await,
        Command::Search(wanted) => search(wanted, session).await,
        Command::Verify(wanted) => verify::run(&wanted, session, &keys, json).await,
        Command::Checkpoint => checkpoint(session, &keys).await,
        Command::Export { since } => export(since.map(|when| when.at(session.now)), session, &keys).await,
    }
}

/// Gives what commands have left at this node its places, as a gateway does twice a second. A chain that does not go on is
/// `verify`'s to tell of.
async fn settle(session: &Session, keys: &AuditKeys) -> Result<(), Failure> {
    let node = session.node()?;
    let known = read_checkpoint(&session.config.data_dir)
        .filter(|checkpoint| checkpoint.node == node && keys.witness().has_checkpoint(checkpoint))
        .map(|checkpoint| (checkpoint.count, checkpoint.link));
    while let Ok(step) = advance(&session.store, keys, &node, known).await {
        if step.chained.is_empty() {
            break;
        }
    }
    Ok(())
}

async fn search(wanted: Search, session: &Session) -> Result<Answer, Failure> {
    let wanted = Wanted {
        project: wanted.project,
        actor: wanted.robot,
        kind: wanted.kind.map(|kind| kind.name().to_owned()),
        address: wanted.address.map(|address| address.to_canonical().to_string()),
        since: wanted.since.map(|when| when.at(session.now)),
        until: wanted.until.map(|when| when.at(session.now)),
        limit: wanted.limit,
    };
    let found = session.store.search_records(&wanted).await?;
    let text = if found.is_empty() {
        "There is no such record.\n".to_owned()
    } else {
        show::table(&found, session.width, true)
    };
    Ok(Answer::new(text, found.iter().map(show::json).collect()))
}

async fn tail(lines: u32, follow: bool, session: &Session, json: bool) -> Result<Answer, Failure> {
    // Whatever comes meanwhile is shown by the one or by the other.
    let mut reached: HashMap<Box<str>, u64> =
        heads(session).await?.into_iter().map(|head| (head.node, head.count)).collect();
    let mut newest = session.store.search_records(&Wanted { limit: lines, ..Wanted::default() }).await?;
    newest.reverse();
    if !follow {
        let text = if newest.is_empty() {
            "There is no record yet.\n".to_owned()
        } else {
            show::table(&newest, session.width, true)
        };
        return Ok(Answer::new(text, newest.iter().map(show::json).collect()));
    }
    newest.retain(|entry| {
        entry.sequence.is_some_and(|sequence| reached.get(&entry.record.node).is_some_and(|end| sequence <= *end))
    });
    let mut told = write_lines(&newest, session, json, true);
    while told.is_ok() {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut fresh = Vec::new();
        for head in heads(session).await? {
            let after = reached.insert(head.node.clone(), head.count).unwrap_or_default();
            if after < head.count {
                let page = session.store.chained_records(&head.node, after, PAGE).await?;
                if let Some(last) = page.last().and_then(|entry| entry.sequence) {
                    reached.insert(head.node, last);
                }
                fresh.extend(page);
            }
        }
        fresh.sort_by_key(|entry| entry.record.at);
        told = write_lines(&fresh, session, json, false);
    }
    // Whoever closed the pipe does not want to read it.
    Ok(Answer::silent())
}

fn write_lines(entries: &[Entry], session: &Session, json: bool, with_titles: bool) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if json {
        for entry in entries {
            writeln!(out, "{}", entry.to_json())?;
        }
    } else if !entries.is_empty() {
        out.write_all(super::output::harmless(&show::table(entries, session.width, with_titles)).as_bytes())?;
    }
    out.flush()
}

async fn heads(session: &Session) -> Result<Vec<Head>, Failure> {
    Ok(session.store.audit_heads().await?.into_iter().map(|(head, _)| head).collect())
}

async fn checkpoint(session: &Session, keys: &AuditKeys) -> Result<Answer, Failure> {
    let witness = keys.witness();
    let mut lines = Vec::new();
    for head in heads(session).await? {
        if !witness.has_head(&head) {
            return Err(Failure::Refused(format!(
                "the chain of node {} does not end as it was written down, and is not signed; `portcullis audit verify` says more",
                head.node
            )));
        }
        lines.push(keys.checkpoint(&head.node, head.count, head.link, Timestamp::now(), false).to_json());
    }
    let json: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(Answer::new(lines.iter().map(|line| format!("{line}\n")).collect::<String>(), json.into()))
}

/// As it goes: a trail may be longer than memory.
async fn export(since: Option<Timestamp>, session: &Session, keys: &AuditKeys) -> Result<Answer, Failure> {
    let witness = keys.witness();
    let failed = |error: std::io::Error| Failure::Refused(format!("standard output: {error}"));
    for head in heads(session).await? {
        let mut after = head.base.as_ref().map_or(0, |base| base.count);
        if let Some(base) = &head.base {
            writeln!(stdout().lock(), "{}", base.to_json()).map_err(failed)?;
        }
        let mut has_begun = since.is_none();
        while after < head.count {
            let page = session.store.chained_records(&head.node, after, PAGE).await?;
            let Some(last) = page.last().and_then(|entry| entry.sequence) else { break };
            let mut out = stdout().lock();
            for entry in page.iter().filter(|entry| entry.sequence.is_some_and(|sequence| sequence <= head.count)) {
                has_begun = has_begun || since.is_some_and(|since| entry.record.at >= since);
                if has_begun {
                    writeln!(out, "{}", entry.to_json()).map_err(failed)?;
                }
            }
            after = last;
        }
        if witness.has_head(&head) {
            let checkpoint = keys.checkpoint(&head.node, head.count, head.link, Timestamp::now(), false);
            writeln!(stdout().lock(), "{}", checkpoint.to_json()).map_err(failed)?;
        }
    }
    Ok(Answer::silent())
}

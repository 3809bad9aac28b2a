//! `audit verify`: the store, or an export, against the deployment's key and whatever checkpoints there are.

mod export;
mod lines;
#[cfg(test)]
mod tests;

use super::Session;
use crate::audit::{checkpoint_path, read_checkpoint};
use crate::cli::output::{Answer, Failure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lines::read_checkpoints;
use portcullis_tenancy::Store;
use portcullis_tenancy::audit::{AuditKeys, Checkpoint, Fault, Head, Verified, Verifier, Witness, Wrong};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Records that are read at a time.
const PAGE: u32 = 1000;
/// Records without a place that are looked at: a gateway that runs leaves few.
const WAITING: u32 = 10_000;

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// Compare with the checkpoints in this file, too; may be given several times
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Verify an export instead of the store; parts of one are given in their order
    #[arg(long = "file", value_name = "EXPORT")]
    files: Vec<PathBuf>,
    /// The export is of this node alone, as a gateway's audit.export_file is: checkpoints of others are left out; may be given several times
    #[arg(long = "node", value_name = "NODE", requires = "files")]
    nodes: Vec<Box<str>>,
    /// With the checkpoints' public key alone, as an auditor does: no deployment is needed
    #[arg(long, value_name = "KEY", requires = "files")]
    public_key: Option<String>,
}

/// What was found.
#[derive(Default)]
struct Findings {
    verified: Vec<Verified>,
    faults: Vec<Fault>,
    /// Records in no place that are not what was written down, by id.
    waiting: Vec<Box<str>>,
    /// Lines of an export that cannot be read.
    unreadable: Vec<String>,
    /// Records that nothing was there to verify them with.
    unverified: Vec<String>,
    notes: Vec<String>,
}

impl Verify {
    /// Without a deployment.
    pub(super) fn offline(&self) -> Option<Result<Answer, Failure>> {
        let key = self.public_key.as_ref()?;
        let verify = || {
            let witness =
                Witness::of_public_key(key).map_err(|error| Failure::Usage(format!("--public-key: {error}")))?;
            Ok(self.export(&read_checkpoints(&self.checkpoints)?, &witness)?.answer(&witness))
        };
        Some(verify())
    }

    fn export(&self, checkpoints: &[Checkpoint], witness: &Witness) -> Result<Findings, Failure> {
        export::verify(&self.files, &self.nodes, checkpoints, witness)
    }
}

pub(super) async fn run(wanted: &Verify, session: &Session, keys: &AuditKeys, json: bool) -> Result<Answer, Failure> {
    let witness = keys.witness();
    let mut checkpoints = read_checkpoints(&wanted.checkpoints)?;
    if !wanted.files.is_empty() {
        return Ok(wanted.export(&checkpoints, &witness)?.answer(&witness));
    }
    // What this node keeps beside the store.
    checkpoints.extend(read_checkpoint(&session.config.data_dir));
    let mut answer = store(session, &checkpoints, &witness, json).await?.answer(&witness);
    if answer.failed {
        answer.text.push_str(&format!(
            "If a backup was put back on purpose, records after it are gone: move {} and {} away, and a new chain begins.\n",
            crate::node_id::path(&session.config.data_dir).display(),
            checkpoint_path(&session.config.data_dir).display()
        ));
    }
    Ok(answer)
}

async fn store(
    session: &Session,
    checkpoints: &[Checkpoint],
    witness: &Witness,
    json: bool,
) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let heads = session.store.audit_heads().await?;
    let bar = progress(json, &heads);
    for node in session.store.headless_nodes().await? {
        findings.faults.push(Fault { node, sequence: 1, record: None, wrong: Wrong::Head });
    }
    for checkpoint in checkpoints {
        let is_known = heads.iter().any(|(head, _)| head.node == checkpoint.node)
            || findings.faults.iter().any(|fault| fault.node == checkpoint.node);
        if !is_known && checkpoint.count > 0 {
            findings.faults.push(missed(checkpoint, witness));
        }
    }
    for (head, highest) in &heads {
        match chain(session, head, *highest, checkpoints, witness, &bar).await? {
            Ok(verified) => findings.verified.push(verified),
            Err(fault) => findings.faults.push(fault),
        }
    }
    let waiting = session.store.waiting_records(None, WAITING).await?;
    if waiting.len() >= usize::try_from(WAITING).unwrap_or(usize::MAX) {
        findings.notes.push(format!(
            "more than {WAITING} records have no place yet, and the others were not looked at: start the gateways, and verify again"
        ));
    }
    let broken = waiting.into_iter().filter(|entry| !witness.has_sealed(entry));
    findings.waiting.extend(broken.map(|entry| entry.record.id));
    bar.finish_and_clear();
    Ok(findings)
}

/// There is a checkpoint of a chain, and nothing else.
fn missed(checkpoint: &Checkpoint, witness: &Witness) -> Fault {
    let wrong =
        if witness.has_checkpoint(checkpoint) { Wrong::Cut { of: checkpoint.count } } else { Wrong::Checkpoint };
    Fault { node: checkpoint.node.clone(), sequence: 1, record: None, wrong }
}

/// One chain, page by page.
async fn chain(
    session: &Session,
    head: &Head,
    highest: u64,
    checkpoints: &[Checkpoint],
    witness: &Witness,
    bar: &ProgressBar,
) -> Result<Result<Verified, Fault>, Failure> {
    let mut verifier = match Verifier::new(witness, &head.node, head.base.as_ref(), checkpoints) {
        Ok(verifier) => verifier,
        Err(fault) => return Ok(Err(fault)),
    };
    'pages: while verifier.count() < head.count {
        let page = session.store.chained_records(&head.node, verifier.count(), PAGE).await?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            // What was written after the head was read is not looked at.
            if verifier.count() >= head.count {
                break 'pages;
            }
            if let Err(fault) = verifier.take(entry) {
                return Ok(Err(fault));
            }
            bar.inc(1);
        }
    }
    let ended = verifier.end(Some(head));
    if ended.is_ok() && highest > head.count {
        let sequence = head.count.saturating_add(1);
        return Ok(Err(Fault { node: head.node.clone(), sequence, record: None, wrong: Wrong::Beyond }));
    }
    Ok(ended)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(json: bool, heads: &[(Head, u64)]) -> ProgressBar {
    let kept = |head: &Head| head.count.saturating_sub(head.base.as_ref().map_or(0, |base| base.count));
    let all = heads.iter().fold(0_u64, |sum, (head, _)| sum.saturating_add(kept(head)));
    let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(all) };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} records, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

impl Findings {
    fn answer(self, witness: &Witness) -> Answer {
        let mut text = String::new();
        for one in &self.verified {
            text.push_str(&format!(
                "node {}: {} records up to {} are what was written down, compared with {} checkpoints{}\n",
                one.node,
                one.seen,
                one.count,
                one.checkpoints,
                if one.older > 0 { format!(" ({} are older than what is kept)", one.older) } else { String::new() }
            ));
        }
        for note in &self.notes {
            text.push_str(&format!("{note}\n"));
        }
        for fault in &self.faults {
            text.push_str(&format!("NOT WHOLE: {fault}\n"));
        }
        for id in &self.waiting {
            text.push_str(&format!("NOT WHOLE: the record {id}, which has no place yet, was changed\n"));
        }
        for line in &self.unreadable {
            text.push_str(&format!("NOT WHOLE: {line}\n"));
        }
        for records in &self.unverified {
            text.push_str(&format!("NOT VERIFIED: {records}\n"));
        }
        let is_wrong = !self.faults.is_empty() || !self.waiting.is_empty() || !self.unreadable.is_empty();
        let failed = is_wrong || !self.unverified.is_empty() || (self.verified.is_empty() && !self.notes.is_empty());
        if is_wrong {
            text.push_str(
                "Next: keep the store as it is now (`portcullis backup FILE`, or pg_dump), compare with what audit.export_file and the log have, and find out who can write the store.\n",
            );
        } else if self.verified.is_empty() && !failed {
            text.push_str("There is no record yet.\n");
        } else if !witness.has_key() {
            text.push_str(
                "Without the deployment's key, what follows the last checkpoint is not vouched for by anybody.\n",
            );
        }
        let json = json!({
            "whole": !failed,
            "chains": self.verified.iter().map(chain_json).collect::<Vec<_>>(),
            "faults": self.faults.iter().map(fault_json).collect::<Vec<_>>(),
            "changed_while_waiting": self.waiting,
            "unreadable_lines": self.unreadable,
            "unverified": self.unverified,
            "notes": self.notes,
        });
        Answer { text, json, failed }
    }
}

fn chain_json(one: &Verified) -> Value {
    json!({ "node": one.node, "count": one.count, "verified": one.seen, "checkpoints": one.checkpoints })
}

fn fault_json(fault: &Fault) -> Value {
    json!({
        "node": fault.node,
        "sequence": fault.sequence,
        "record": fault.record.as_ref().map(|record| record.id.clone()),
        "message": fault.to_string(),
    })
}

//! The audit trail: whether its chains end as they were written down, and where checkpoints and the export go. Whether each record
//! is what was written down is for `audit verify` to say, which reads them all.

use super::Finding;
use crate::audit::read_checkpoint;
use crate::cli::output::with_sources;
use crate::config::Config;
use portcullis_store::{SqlStore, sqlite_file};
use portcullis_tenancy::audit::{AuditKeys, Checkpoint, Head, Witness};
use portcullis_tenancy::key::MasterKey;
use portcullis_tenancy::{Store, StoreError, Timestamp};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const ABOUT: &str = "audit";
const CHECKPOINTS: &str = "checkpoints";

pub(super) async fn examine(config: &Config, store: &SqlStore, master: &MasterKey, now: Timestamp) -> Vec<Finding> {
    // Read first: a chain that goes on meanwhile ends behind it.
    let checkpoint = read_checkpoint(&config.data_dir);
    let read = async { Ok::<_, StoreError>((store.audit_heads().await?, store.headless_nodes().await?)) };
    let (heads, headless) = match read.await {
        Ok(read) => read,
        Err(error) => {
            let advice = "no change is made that cannot be written down: `portcullis audit verify` says more";
            return vec![Finding::error(ABOUT, with_sources(&error), advice)];
        }
    };
    let witness = AuditKeys::new(master).witness();
    let mut findings = judge_chains(&heads, &headless, checkpoint.as_ref(), &witness);
    findings.push(judge_checkpoint(config, &heads, checkpoint.as_ref(), is_beside_the_store(config), now));
    findings.extend(config.audit.export_file.as_deref().map(examine_export));
    findings
}

/// By their ends alone, which is quick however long they are.
pub(super) fn judge_chains(
    heads: &[(Head, u64)],
    headless: &[Box<str>],
    checkpoint: Option<&Checkpoint>,
    witness: &Witness,
) -> Vec<Finding> {
    let wrong = |found: String| {
        Finding::error(ABOUT, found, "run `portcullis audit verify`: it names the first record that is not what it was")
    };
    let mut findings: Vec<Finding> = heads
        .iter()
        .filter(|(head, highest)| !ends_well(head, *highest, witness))
        .map(|(head, _)| wrong(format!("the chain of node {} does not end as it was written down", head.node)))
        .collect();
    findings.extend(headless.iter().map(|node| wrong(format!("the head of node {node}'s chain is gone"))));
    findings.extend(checkpoint.and_then(|checkpoint| contradiction(checkpoint, heads, witness)).map(wrong));
    if findings.is_empty() {
        let records = heads.iter().fold(0_u64, |sum, (head, _)| sum.saturating_add(head.count));
        let found = if heads.is_empty() {
            "nothing is written down yet".to_owned()
        } else {
            format!("{records} records; each node's chain ends as it was written down")
        };
        findings.push(Finding::ok(ABOUT, found));
    }
    findings
}

/// Where all records were forgotten, the base is the end.
fn ends_well(head: &Head, highest: u64, witness: &Witness) -> bool {
    let base = head.base.as_ref().map_or(0, |base| base.count);
    witness.has_head(head) && highest.max(base) == head.count
}

/// What the checkpoint in `data_dir` and the store do not agree on.
fn contradiction(checkpoint: &Checkpoint, heads: &[(Head, u64)], witness: &Witness) -> Option<String> {
    let (node, count) = (&checkpoint.node, checkpoint.count);
    if !witness.has_checkpoint(checkpoint) {
        return Some(format!(
            "the checkpoint of node {node} at record {count} was changed, or is another deployment's"
        ));
    }
    let head = heads.iter().map(|(head, _)| head).find(|head| head.node == *node);
    let agrees =
        head.map_or(count == 0, |head| head.count > count || (head.count, head.link) == (count, checkpoint.link));
    (!agrees)
        .then(|| format!("the chain of node {node} was signed up to record {count}, and does not go so far any more"))
}

/// How old it is, and whether it would be lost together with the store.
pub(super) fn judge_checkpoint(
    config: &Config,
    heads: &[(Head, u64)],
    checkpoint: Option<&Checkpoint>,
    is_beside_the_store: bool,
    now: Timestamp,
) -> Finding {
    let place = config.data_dir.display();
    let Some(checkpoint) = checkpoint else {
        return located(is_beside_the_store, format!("there is none in {place} yet"));
    };
    let age = now.duration_since(checkpoint.at).unsigned_abs();
    let found = format!("the last in {place} is {} old, at record {}", rough(age), checkpoint.count);
    let head = heads.iter().map(|(head, _)| head).find(|head| head.node == checkpoint.node);
    let unsigned = head.map_or(0, |head| head.count.saturating_sub(checkpoint.count));
    if unsigned > 0 && age > config.audit.checkpoint_every.saturating_mul(2) {
        return Finding::warning(
            CHECKPOINTS,
            format!("{found}, and as many since are not signed: {unsigned}"),
            "see that a gateway runs with this data_dir; if one does, its log says what keeps it from signing",
        );
    }
    located(is_beside_the_store, found)
}

fn located(is_beside_the_store: bool, found: String) -> Finding {
    if is_beside_the_store {
        let found = format!("{found}; they are on the store's disk: whoever turns that back turns back both");
        let advice = "let audit.export_file lead to another disk, or keep the log elsewhere: it has them, too";
        return Finding::warning(CHECKPOINTS, found, advice);
    }
    Finding::ok(CHECKPOINTS, found)
}

/// Whether the store is a file, and all checkpoints that files keep are on its disk.
fn is_beside_the_store(config: &Config) -> bool {
    let disk = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let Some(store) = sqlite_file(&config.store.url).and_then(|file| disk(&file)) else { return false };
    let export = config.audit.export_file.as_deref();
    let export = export.and_then(|file| disk(file).or_else(|| disk(file.parent()?)));
    disk(&config.data_dir) == Some(store) && export.is_none_or(|export| export == store)
}

fn examine_export(file: &Path) -> Finding {
    const ABOUT: &str = "audit.export_file";
    if !file.is_dir() && (file.exists() || file.parent().is_some_and(Path::is_dir)) {
        return Finding::ok(ABOUT, format!("records and checkpoints go to {}, too", file.display()));
    }
    let found = format!("{} is a directory, or there is none that it could be in", file.display());
    Finding::warning(ABOUT, found, "nothing is exported until this is mended; then all that is missing is")
}

/// A length of time for people.
fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

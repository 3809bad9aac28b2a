//! `[audit]`: how the audit trail is kept, and where it goes.

use super::DAY;
use super::reader::Section;
use std::path::PathBuf;
use std::time::Duration;

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// `checkpoint_every_s`: how often it is signed how far this node's chain has got.
    pub checkpoint_every: Duration,
    /// `export_file`: where records and checkpoints of this node go as lines of JSON, too.
    pub export_file: Option<PathBuf>,
    /// `keep_days`: how long records are kept; zero is for ever.
    pub keep_days: u64,
    /// `queue_records`: most records of denials and failed logins that wait in memory to be written.
    pub queue_records: usize,
}

pub(super) fn read(mut section: Section<'_>) -> Option<Audit> {
    let checkpoint_every = section.seconds(
        "checkpoint_every_s",
        300,
        1..=DAY,
        "what was taken away since the last checkpoint is harder to see",
    );
    let export_file = section.path("export_file", "audit.jsonl");
    let keep_days = section.number("keep_days", 400, 0..=36_500, "0 is for ever");
    let queue_records =
        section.number("queue_records", 10_000, 1..=1_000_000, "what does not fit is counted and not kept");
    section.finish();
    Some(Audit { checkpoint_every, export_file, keep_days: keep_days?, queue_records: queue_records? })
}

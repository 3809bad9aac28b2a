//! What keeps the trail: it writes down what waits, gives records their places, signs how far they have got, exports them, and
//! forgets what is old. Where one of these fails, it is tried again half a second later (what is about other nodes a minute later),
//! and readiness tells.

mod others;
#[cfg(test)]
mod tests;

use super::{Audit, export, locked};
use crate::app::App;
use crate::config;
use others::Others;
use portcullis_store::CachedStore;
use portcullis_tenancy::audit::{AdvanceError, AuditKeys, Head, Link, Step, advance};
use portcullis_tenancy::{Store, StoreError, Timestamp};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, timeout};

const STEP: Duration = Duration::from_millis(500);
/// Records that one write takes, and one page of the export.
const BATCH: usize = 500;
/// How long the last records may take at the end.
const LAST: Duration = Duration::from_secs(10);

/// How far the keeper has got.
pub struct Keeper {
    /// Where this node's chain ended when it was seen last: it never ends before that.
    known: Option<(u64, Link)>,
    head: Option<Head>,
    /// Records of this node that can get no place.
    stuck: u64,
    exported: u64,
    signed: u64,
    signed_at: Option<Instant>,
    /// A checkpoint that is not in the export yet.
    unexported: Option<String>,
    others: Others,
}

/// Why the trail does not go on.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Advance(#[from] AdvanceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
    #[error(
        "{records} records of node {node:?} wait for places that they cannot get: somebody wrote what cannot be read in their place; `portcullis audit verify` says more"
    )]
    Stuck { node: Box<str>, records: u64 },
    #[error(
        "what follows record {after} cannot be exported: its place cannot be read; `portcullis audit verify` says more"
    )]
    NoPlace { after: u64 },
    /// It failed before, and was not tried again yet.
    #[error("{0}")]
    Earlier(Box<str>),
}

/// What it works with.
#[derive(Clone, Copy)]
struct Room<'a> {
    audit: &'a Arc<Audit>,
    store: &'a CachedStore,
    config: &'a config::Audit,
}

/// Runs until it is aborted.
pub async fn run(app: Arc<App>) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        step_of(&app, false).await;
    }
}

/// The gateway ends: what waits is written down, or counted as lost.
pub async fn close(app: &App) {
    let _ = timeout(LAST, step_of(app, true)).await;
    let left = locked(&app.audit.queue).len();
    if left > 0 {
        tracing::error!(records = left, "audit records were not written before the end, and are lost");
        app.audit.metrics.lost(u64::try_from(left).unwrap_or(u64::MAX));
    }
}

async fn step_of(app: &App, is_end: bool) {
    let settings = app.settings.load_full();
    step(Room { audit: &app.audit, store: &app.store, config: &settings.config.audit }, is_end).await;
}

async fn step(room: Room<'_>, is_end: bool) {
    let mut keeper = room.audit.keeper.lock().await;
    let done = keeper.step(room, is_end).await;
    room.audit.metrics.waiting(locked(&room.audit.queue).len());
    room.audit.failing(done.as_ref().err().map(|error| error as &dyn std::fmt::Display));
}

impl Keeper {
    /// Goes on behind the checkpoint that lies in `data_dir`.
    pub fn new(data_dir: &Path, export_file: Option<&Path>, node: &str, keys: &AuditKeys) -> Self {
        let last = export::read_checkpoint(data_dir)
            .filter(|checkpoint| *checkpoint.node == *node && keys.witness().has_checkpoint(checkpoint));
        Self {
            known: last.as_ref().map(|checkpoint| (checkpoint.count, checkpoint.link)),
            head: None,
            stuck: 0,
            exported: export::read_position(data_dir, export_file, node),
            signed: last.map_or(0, |checkpoint| checkpoint.count),
            signed_at: None,
            unexported: None,
            others: Others::default(),
        }
    }

    async fn step(&mut self, room: Room<'_>, is_end: bool) -> Result<(), KeepError> {
        write(room, is_end).await?;
        self.chain(room).await?;
        // An export that fails keeps nothing from being signed.
        let exported = self.export(room).await;
        let signed = self.sign(room, is_end).await;
        exported.and(signed)?;
        self.export_checkpoint(room).await?;
        if !is_end {
            self.others.look(room).await;
        }
        self.others.is_well()?;
        stuck(&room.audit.node, self.stuck)
    }

    async fn chain(&mut self, room: Room<'_>) -> Result<(), KeepError> {
        loop {
            let step = one_step(room, room.audit.node.clone(), self.known).await?;
            self.known = step.head.as_ref().map(|head| (head.count, head.link));
            self.head = step.head;
            self.stuck = step.stuck;
            if step.chained.is_empty() {
                return Ok(());
            }
        }
    }

    async fn export(&mut self, room: Room<'_>) -> Result<(), KeepError> {
        let Some(file) = room.config.export_file.clone() else { return Ok(()) };
        let end = self.head.as_ref().map_or(0, |head| head.count);
        while self.exported < end {
            let (node, after) = (room.audit.node.clone(), self.exported);
            let read = move |store: Arc<dyn Store>| async move {
                store.chained_records(&node, after, u32::try_from(BATCH).unwrap_or(u32::MAX)).await
            };
            let page = room.store.run(read).await?;
            if page.is_empty() {
                return Ok(());
            }
            let Some(last) = page.iter().filter_map(|entry| entry.sequence).max() else {
                return Err(KeepError::NoPlace { after: self.exported });
            };
            // What was put before the first place is none of the chain.
            let placed = page.iter().filter(|entry| entry.sequence.is_some());
            let lines: String = placed.map(|entry| entry.to_json() + "\n").collect();
            append(file.clone(), lines).await?;
            self.exported = last;
            let (data_dir, node) = (room.audit.data_dir.clone(), room.audit.node.clone());
            let path = export::position_path(&data_dir);
            in_background(path, move |_| export::note_position(&data_dir, &node, last)).await?;
        }
        Ok(())
    }

    /// Signs how far the chain has got, where that has changed.
    async fn sign(&mut self, room: Room<'_>, is_end: bool) -> Result<(), KeepError> {
        let every = room.config.checkpoint_every;
        let Some(head) = self.head.as_ref().filter(|head| head.count != self.signed) else { return Ok(()) };
        if !is_end && self.signed_at.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        let audit = Arc::clone(room.audit);
        let checkpoint = audit.keys.checkpoint(&head.node, head.count, head.link, Timestamp::now(), false);
        let line = checkpoint.to_json();
        let count = head.count;
        let path = export::checkpoint_path(&audit.data_dir);
        in_background(path, move |_| export::write_checkpoint(&audit.data_dir, &checkpoint)).await?;
        // Where the log goes elsewhere, this is kept elsewhere.
        tracing::info!(checkpoint = %line, "the audit chain was signed");
        self.signed = count;
        self.signed_at = Some(Instant::now());
        self.unexported = Some(line);
        Ok(())
    }

    /// The last checkpoint follows the records that it is about.
    async fn export_checkpoint(&mut self, room: Room<'_>) -> Result<(), KeepError> {
        let file = room.config.export_file.clone();
        if let (Some(file), Some(line)) = (file, &self.unexported) {
            append(file, format!("{line}\n")).await?;
        }
        self.unexported = None;
        Ok(())
    }
}

/// Writes down what waits in memory.
async fn write(room: Room<'_>, is_end: bool) -> Result<(), StoreError> {
    let audit = room.audit;
    {
        let mut queue = locked(&audit.queue);
        for sum in queue.sums(Instant::now(), is_end) {
            let times = sum.times;
            if !queue.push(audit.seal(sum)) {
                audit.lost(times);
            }
        }
    }
    loop {
        let batch = locked(&audit.queue).first(BATCH);
        if batch.is_empty() {
            return Ok(());
        }
        let written = batch.len();
        room.store.run(move |store| async move { store.add_records(&batch).await }).await?;
        locked(&audit.queue).written(written);
    }
}

/// One step of a node's chain.
async fn one_step(room: Room<'_>, node: Box<str>, known: Option<(u64, Link)>) -> Result<Step, KeepError> {
    let audit: Arc<Audit> = Arc::clone(room.audit);
    let step = move |store: Arc<dyn Store>| async move { Ok(advance(&*store, &audit.keys, &node, known).await) };
    let step = room.store.run(step).await??;
    room.audit.metrics.chained(&step.chained);
    room.audit.changed(step.changed);
    Ok(step)
}

fn stuck(node: &str, records: u64) -> Result<(), KeepError> {
    if records > 0 { Err(KeepError::Stuck { node: node.into(), records }) } else { Ok(()) }
}

async fn append(file: PathBuf, lines: String) -> Result<(), KeepError> {
    in_background(file, move |file| export::append(file, &lines)).await
}

/// Files are nothing that a runtime's thread should wait for.
async fn in_background(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
) -> Result<(), KeepError> {
    let of = path.clone();
    let done =
        tokio::task::spawn_blocking(move || work(&of)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| KeepError::File { path, error })
}

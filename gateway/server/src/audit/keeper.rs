//! What keeps the trail: it writes down what waits, gives records their places, signs how far they have got, exports them, and
//! forgets what is old. Where one of these fails, it is tried again half a second later (what is about other nodes a minute later),
//! and readiness tells.

use super::{Audit, export, locked};
use crate::app::App;
use portcullis_tenancy::audit::{AdvanceError, AuditKeys, Head, Link, advance, forget};
use portcullis_tenancy::{Store, StoreError, Timestamp};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, timeout};

const STEP: Duration = Duration::from_millis(500);
/// Records that one write takes, and one page of the export.
const BATCH: usize = 500;
/// After how long another node's waiting records are this one's business: that one is gone.
const ORPHANED: Duration = Duration::from_secs(60);
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// After how long it is tried again where it failed.
const FORGET_AGAIN: Duration = Duration::from_secs(60);
/// How long the last records may take at the end.
const LAST: Duration = Duration::from_secs(10);

/// How far the keeper has got.
pub struct Keeper {
    /// Where this node's chain ended when it was seen last: it never ends before that.
    known: Option<(u64, Link)>,
    head: Option<Head>,
    exported: u64,
    signed: u64,
    signed_at: Option<Instant>,
    /// A checkpoint that is not in the export yet.
    unexported: Option<String>,
    looked_at: Option<Instant>,
    /// Why records of nodes that are gone have no places, where that failed the last time.
    unadopted: Option<Box<str>>,
    forgot_at: Option<Instant>,
    /// Why old records were not forgotten, where that failed the last time.
    unforgotten: Option<Box<str>>,
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
    /// It failed before, and was not tried again yet.
    #[error("{0}")]
    Earlier(Box<str>),
}

/// Runs until it is aborted.
pub async fn run(app: Arc<App>) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        step(&app, false).await;
    }
}

/// The gateway ends: what waits is written down, or counted as lost.
pub async fn close(app: &App) {
    let _ = timeout(LAST, step(app, true)).await;
    let left = locked(&app.audit.queue).len();
    if left > 0 {
        tracing::error!(records = left, "audit records were not written before the end, and are lost");
        app.audit.metrics.lost(u64::try_from(left).unwrap_or(u64::MAX));
    }
}

async fn step(app: &App, is_end: bool) {
    let mut keeper = app.audit.keeper.lock().await;
    let done = keeper.step(app, is_end).await;
    app.audit.metrics.waiting(locked(&app.audit.queue).len());
    app.audit.failing(done.as_ref().err().map(|error| error as &dyn std::fmt::Display));
}

impl Keeper {
    /// Goes on behind the checkpoint that lies in `data_dir`.
    pub fn new(data_dir: &Path, export_file: Option<&Path>, node: &str, keys: &AuditKeys) -> Self {
        let last = export::read_checkpoint(data_dir)
            .filter(|checkpoint| *checkpoint.node == *node && keys.witness().has_checkpoint(checkpoint));
        Self {
            known: last.as_ref().map(|checkpoint| (checkpoint.count, checkpoint.link)),
            head: None,
            exported: export::read_position(data_dir, export_file, node),
            signed: last.map_or(0, |checkpoint| checkpoint.count),
            signed_at: None,
            unexported: None,
            looked_at: None,
            unadopted: None,
            forgot_at: None,
            unforgotten: None,
        }
    }

    async fn step(&mut self, app: &App, is_end: bool) -> Result<(), KeepError> {
        write(app, is_end).await?;
        self.chain(app).await?;
        // An export that fails keeps nothing from being signed.
        let exported = self.export(app).await;
        let signed = self.sign(app, is_end).await;
        exported.and(signed)?;
        self.export_checkpoint(app).await?;
        if !is_end && is_due(&mut self.looked_at, ORPHANED) {
            self.unadopted = adopt(app).await.err().map(|error| error.to_string().into());
        }
        let every = if self.unforgotten.is_some() { FORGET_AGAIN } else { FORGET_EVERY };
        if !is_end && is_due(&mut self.forgot_at, every) {
            self.unforgotten = forget_old(app).await.err().map(|error| error.to_string().into());
        }
        match self.unadopted.as_ref().or(self.unforgotten.as_ref()) {
            Some(why) => Err(KeepError::Earlier(why.clone())),
            None => Ok(()),
        }
    }

    async fn chain(&mut self, app: &App) -> Result<(), KeepError> {
        loop {
            let (chained, head) = one_step(app, app.audit.node.clone(), self.known).await?;
            self.known = head.as_ref().map(|head| (head.count, head.link));
            self.head = head;
            if !chained {
                return Ok(());
            }
        }
    }

    async fn export(&mut self, app: &App) -> Result<(), KeepError> {
        let Some(file) = app.settings.load().config.audit.export_file.clone() else { return Ok(()) };
        let end = self.head.as_ref().map_or(0, |head| head.count);
        while self.exported < end {
            let (node, after) = (app.audit.node.clone(), self.exported);
            let read = move |store: Arc<dyn Store>| async move {
                store.chained_records(&node, after, u32::try_from(BATCH).unwrap_or(u32::MAX)).await
            };
            let page = app.store.run(read).await?;
            let Some(last) = page.last().and_then(|entry| entry.sequence) else { return Ok(()) };
            let lines: String = page.iter().map(|entry| entry.to_json() + "\n").collect();
            append(file.clone(), lines).await?;
            self.exported = last;
            let (data_dir, node) = (app.audit.data_dir.clone(), app.audit.node.clone());
            let path = export::position_path(&data_dir);
            in_background(path, move |_| export::note_position(&data_dir, &node, last)).await?;
        }
        Ok(())
    }

    /// Signs how far the chain has got, where that has changed.
    async fn sign(&mut self, app: &App, is_end: bool) -> Result<(), KeepError> {
        let settings = app.settings.load();
        let every = settings.config.audit.checkpoint_every;
        let Some(head) = self.head.as_ref().filter(|head| head.count != self.signed) else { return Ok(()) };
        if !is_end && self.signed_at.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        let audit = Arc::clone(&app.audit);
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
    async fn export_checkpoint(&mut self, app: &App) -> Result<(), KeepError> {
        let file = app.settings.load().config.audit.export_file.clone();
        if let (Some(file), Some(line)) = (file, &self.unexported) {
            append(file, format!("{line}\n")).await?;
        }
        self.unexported = None;
        Ok(())
    }
}

/// Whether it is time again.
fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let is_due = last.is_none_or(|at| at.elapsed() >= every);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

/// Writes down what waits in memory.
async fn write(app: &App, is_end: bool) -> Result<(), StoreError> {
    let audit = &app.audit;
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
        app.store.run(move |store| async move { store.add_records(&batch).await }).await?;
        locked(&audit.queue).written(written);
    }
}

/// One step of a node's chain: whether there may be more, and where it ends.
async fn one_step(app: &App, node: Box<str>, known: Option<(u64, Link)>) -> Result<(bool, Option<Head>), KeepError> {
    let audit: Arc<Audit> = Arc::clone(&app.audit);
    let step = move |store: Arc<dyn Store>| async move { Ok(advance(&*store, &audit.keys, &node, known).await) };
    let (chained, head) = app.store.run(step).await??;
    app.audit.metrics.chained(&chained);
    Ok((!chained.is_empty(), head))
}

/// Gives the records of nodes that are gone their places. One that fails stops none of the others.
async fn adopt(app: &App) -> Result<(), KeepError> {
    let now = Timestamp::now();
    let before = now.checked_sub(ORPHANED).unwrap_or(now);
    let mut done = Ok(());
    for node in app.store.run(move |store| async move { store.waiting_nodes(before).await }).await? {
        if node != app.audit.node {
            done = done.and(adopt_node(app, &node).await);
        }
    }
    done
}

async fn adopt_node(app: &App, node: &str) -> Result<(), KeepError> {
    while one_step(app, node.into(), None).await?.0 {}
    Ok(())
}

/// Forgets what is older than `audit.keep_days`, in all chains. One that fails stops none of the others.
async fn forget_old(app: &App) -> Result<(), KeepError> {
    let days = app.settings.load().config.audit.keep_days;
    if days == 0 {
        return Ok(());
    }
    let now = Timestamp::now();
    let before = now.checked_sub(Duration::from_secs(days.saturating_mul(86_400))).unwrap_or(Timestamp::MIN);
    let mut done = Ok(());
    for (head, _) in app.store.run(|store| async move { store.audit_heads().await }).await? {
        let audit = Arc::clone(&app.audit);
        let forgetting =
            move |store: Arc<dyn Store>| async move { Ok(forget(&*store, &audit.keys, &head, before, now).await) };
        match app.store.run(forgetting).await.map_err(KeepError::from).and_then(|gone| Ok(gone?)) {
            Ok(0) => {}
            Ok(gone) => tracing::info!(records = gone, "audit records older than audit.keep_days were forgotten"),
            Err(error) => done = done.and(Err(error)),
        }
    }
    done
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

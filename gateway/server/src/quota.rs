//! Room for what goes upstream: it is reserved before the bytes go, grows with those whose number nobody knows, and is turned
//! into what is committed once the upstream has them. A reservation lasts while somebody shows that he is at work at it.

mod counted;
mod hold;
mod metrics;

pub use counted::Counted;
pub use hold::Hold;
pub use metrics::QuotaMetrics;

use crate::app::{App, Worker, random};
use crate::pipeline::respond::Refusal;
use crate::upload_location::Session;
use crate::upstream::{Call, Pool, UpstreamError};
use http::Method;
use portcullis_oci::{Digest, ErrorCode, ProtocolError, RepositoryName};
use portcullis_store::CachedStore;
use portcullis_tenancy::ledger::JournalEntry;
use portcullis_tenancy::quota::{Account, Lease, Purpose, Size};
use portcullis_tenancy::{Project, ProjectId, RobotId, Store, StoreError, Timestamp, random_id};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Mutex as Turns;
use tokio::time::sleep;

/// Without a sign of life for so long, somebody else finds out what became of a journalled write.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often signs of life are given.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long is waited for the end of an upload's request before.
pub const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How often another node's request of the upload is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// All that this node is at work at.
pub struct Holds {
    store: Arc<CachedStore>,
    /// How long a reservation lasts without a sign of life.
    life: Duration,
    /// This node's name: by it, it knows its own leases after a crash as well.
    node: Box<str>,
    at_work: Mutex<HashMap<Box<str>, Weak<Hold>>>,
    /// Refusals of one project stand in a row: each sees what the one before has released.
    turns: Mutex<HashMap<ProjectId, Weak<Turns<()>>>>,
    /// What is counted of it.
    pub metrics: QuotaMetrics,
}

/// What is asked for.
pub struct Wanted {
    /// The upload's or the operation's id.
    pub id: Box<str>,
    /// Who brings the bytes.
    pub robot: Option<RobotId>,
    /// What for.
    pub purpose: Purpose,
    /// What of it is there already: how far the upload has got.
    pub base: u64,
    /// How many bytes come; none where nobody knows.
    pub length: Option<u64>,
    /// Blobs that must stay.
    pub pins: Vec<Digest>,
    /// The manifest that names them, and its size: what of it and of them the project is not charged with comes as well.
    pub manifest: Option<(Digest, u64)>,
    /// Written down along with it.
    pub journal: Option<JournalEntry>,
    /// Whether the tags in the journal are to be locked along with it, by its id.
    pub locks_tags: bool,
    /// How much of what is deleted may still be upstream, in percent of the quota; none where nobody knows how much it is.
    pub waiting_percent: Option<u32>,
    /// How long is waited until no other node is at work at the upload; none where no other one can know of it.
    pub alone_within: Option<Duration>,
}

impl Holds {
    /// At work at nothing.
    pub fn new(store: Arc<CachedStore>, life: Duration, node: &str) -> Arc<Self> {
        let metrics = QuotaMetrics::default();
        Arc::new(Self { store, life, node: node.into(), at_work: Mutex::default(), turns: Mutex::default(), metrics })
    }

    /// Reserves room. Where there is none, the hold has the shortage: whoever has released what it stands for drops it.
    pub async fn take(self: &Arc<Self>, project: &Arc<Project>, wanted: &Wanted) -> Result<Arc<Hold>, TakeError> {
        let hold = Hold::new(self, project, wanted);
        // Two requests of one upload at once would each count as if they were alone. One that its client has broken off may take
        // a moment to end.
        let begun = Instant::now();
        while !self.enter(&hold) {
            if begun.elapsed() > PATIENCE {
                return Err(TakeError::AtWork);
            }
            sleep(POLL).await;
        }
        let least = wanted.base.saturating_add(wanted.length.unwrap_or_default());
        let takes_ahead = wanted.length.is_none() && !self.is_scarce(&project.id);
        let most = if takes_ahead { least.saturating_add(hold::FIRST_STEP) } else { least };
        // Nor are there two nodes at work at it.
        let patience = wanted.alone_within.unwrap_or_default();
        loop {
            match hold.ask(least, most, Some(wanted)).await {
                Err(TakeError::AtWork) if begun.elapsed() < patience => sleep(LOOK).await,
                asked => return asked.map(|()| hold),
            }
        }
    }

    /// Shows that somebody is at work, for as long as it is let run.
    pub async fn renew(&self) {
        let ids: Vec<Box<str>> = locked(&self.at_work).keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let ((now, until), lease) = (self.times(), self.lease());
        let renew = move |store: Arc<dyn Store>| async move { store.renew(&ids, now, until, Some(&lease)).await };
        if let Err(error) = self.store.run(renew).await {
            tracing::warn!(%error, "reservations were not renewed; it is tried again");
        }
    }

    /// Puts a hold among those at work, where no other one of its id is: both in one step.
    fn enter(&self, hold: &Arc<Hold>) -> bool {
        // Dropped after the lock is given back, which its own drop may need.
        let before: Option<Arc<Hold>>;
        let mut at_work = locked(&self.at_work);
        before = at_work.get(&hold.id).and_then(Weak::upgrade);
        if before.as_ref().is_some_and(|before| !before.is_over()) {
            return false;
        }
        at_work.insert(hold.id.clone(), Arc::downgrade(hold));
        true
    }

    /// Whether a request of this upload is under way here.
    pub fn is_at_work(&self, id: &str) -> bool {
        let hold = locked(&self.at_work).get(id).cloned();
        hold.and_then(|hold| hold.upgrade()).is_some_and(|hold| !hold.is_over())
    }

    /// Somebody is at work at a journalled write that needs no room.
    pub fn at_work(self: &Arc<Self>, id: &str) -> AtWork {
        locked(&self.at_work).insert(id.into(), Weak::new());
        AtWork { holds: Arc::clone(self), id: id.into() }
    }

    fn times(&self) -> (Timestamp, Timestamp) {
        let now = Timestamp::now();
        (now, now.checked_add(self.life).unwrap_or(now))
    }

    fn lease(&self) -> Lease {
        let now = Timestamp::now();
        Lease { holder: self.node.clone(), until: now.checked_add(LEASE).unwrap_or(now) }
    }

    /// Whether somebody of the project's is looking for room that others took ahead.
    fn is_scarce(&self, project: &ProjectId) -> bool {
        let turn = locked(&self.turns).get(project).and_then(Weak::upgrade);
        turn.is_some_and(|turn| turn.try_lock().is_err())
    }

    fn turn(&self, project: &ProjectId) -> Arc<Turns<()>> {
        let mut turns = locked(&self.turns);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(project).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turns::default());
        turns.insert(project.clone(), Arc::downgrade(&turn));
        turn
    }

    /// The project's other holds on this node.
    fn neighbours(&self, of: &Hold) -> Vec<Arc<Hold>> {
        // One that its owner lets go of this moment is dropped here, and needs the lock for that.
        let all: Vec<Arc<Hold>> = locked(&self.at_work).values().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|hold| hold.id != of.id && hold.project.id == of.project.id).collect()
    }
}

/// Why room was not even asked for.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Another request of the same upload is under way.
    #[error("another request of this upload is under way; send one after the other")]
    AtWork,
    /// A blob that must stay is being taken away this moment.
    #[error("a blob that the manifest names is being taken away this moment; push it again")]
    Unlinking,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TakeError> for Refusal {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::AtWork => ProtocolError::new(ErrorCode::BlobUploadInvalid, error.to_string()).into(),
            TakeError::Unlinking => Self::unavailable(error.to_string()),
            TakeError::Store(error) => error.into(),
        }
    }
}

/// Somebody is at work until this is dropped.
pub struct AtWork {
    holds: Arc<Holds>,
    id: Box<str>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        locked(&self.holds.at_work).remove(&self.id);
    }
}

/// Gives an upload up: what the upstream has of it goes, and so does the room that it had. Where the upstream does not answer
/// for it, the upload keeps its room until the sweeper gives it up. Whether it is over.
pub async fn abandon(worker: &Worker, project: &Project, repository: &RepositoryName, session: &Session) -> bool {
    if let Err(error) = end_upload(&worker.app, &worker.pool, project, repository, &session.upstream).await {
        tracing::warn!(project = %project.name, %repository, %error, "an upload was not given up upstream; it is tried again");
        return false;
    }
    let id = session.upload.clone();
    let closed = worker.app.store.run(|store| async move { store.close_upload(&id).await }).await;
    closed
        .inspect_err(|error| tracing::warn!(%error, "an upload that was given up is still on record; it runs out"))
        .is_ok()
}

/// Ends an upload upstream, where it lies there: what the upstream has of it takes up storage that nobody is charged with. One
/// that it does not know, or finds elsewhere than it was left, has nothing more to give up.
pub async fn end_upload(
    app: &App,
    pool: &Arc<Pool>,
    project: &Project,
    repository: &RepositoryName,
    location: &str,
) -> Result<(), UpstreamError> {
    let scope = format!("repository:{}:pull,push,delete", project.upstream_name(repository));
    let status = app.upstream.call(pool, Call::new(Method::DELETE, location, scope)).await?.whole().await?.0.status;
    if status.is_server_error() {
        return Err(UpstreamError::Odd(format!("it answered {} to the end of an upload", status.as_u16())));
    }
    Ok(())
}

/// A new operation's id.
pub fn operation_id() -> Box<str> {
    random_id(&random)
}

/// What a client is told who is past the soft limit; none where he is not.
pub fn soft_warning(project: &Project, account: &Account) -> Option<String> {
    if !account.is_past_soft() {
        return None;
    }
    let (used, quota) = (Size(account.used()), Size(account.quota?));
    Some(format!(
        "project {}: {used} of {quota} used, past its soft limit of {} %",
        project.name, account.soft_percent?
    ))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

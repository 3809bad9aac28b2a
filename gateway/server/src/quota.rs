//! Room for what goes upstream: it is reserved before the bytes go, grows with those whose number nobody knows, and is turned
//! into what is committed once the upstream has them. A reservation lasts while somebody shows that he is at work at it.

mod counted;
mod metrics;

pub use counted::Counted;
pub use metrics::QuotaMetrics;

use crate::app::{App, Worker, random};
use crate::pipeline::respond::Refusal;
use crate::tag_lock;
use crate::upload_location::Session;
use crate::upstream::{Call, Pool, UpstreamError};
use http::Method;
use portcullis_oci::{Digest, ErrorCode, ProtocolError, RepositoryName};
use portcullis_store::CachedStore;
use portcullis_tenancy::ledger::JournalEntry;
use portcullis_tenancy::quota::{Account, Admission, Claim, Lease, Purpose, Shortage, Size};
use portcullis_tenancy::{Project, ProjectId, RobotId, Store, StoreError, Timestamp, random_id};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};
use tokio::time::sleep;

/// Without a sign of life for so long, somebody else finds out what became of a journalled write.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often signs of life are given.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// First step by which room for bytes of unknown number grows; it doubles.
const FIRST_STEP: u64 = 1024 * 1024;
/// Longest step.
const LONGEST_STEP: u64 = 64 * 1024 * 1024;
/// How long is waited for the end of an upload's request before.
pub const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How often another node's request of the upload is looked after.
const LOOK: Duration = Duration::from_millis(200);
/// How long is waited for what other nodes may release, before a refusal is final.
const SECOND_LOOKS: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(600)];

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
    /// Written down along with it.
    pub journal: Option<JournalEntry>,
    /// Whether the tags in the journal are to be locked along with it, by its id.
    pub locks_tags: bool,
    /// How much of what is deleted may still be upstream, in percent of the quota; none where nobody knows how much it is.
    pub waiting_percent: Option<u32>,
    /// How long is waited until no other node is at work at the upload; none where no other one can know of it.
    pub alone_within: Option<Duration>,
}

/// Room for one upload's request, or for one operation.
pub struct Hold {
    holds: Arc<Holds>,
    project: Arc<Project>,
    id: Box<str>,
    robot: Option<RobotId>,
    purpose: Purpose,
    base: u64,
    is_exact: bool,
    locks_tags: bool,
    waiting_percent: Option<u32>,
    room: Mutex<Room>,
    /// Held over each question to the store, so that its answers come in their order.
    asking: Turns<()>,
    outcome: Mutex<Outcome>,
    /// Its request is over, though its body may still be held by a connection that ends.
    is_over: AtomicBool,
}

/// What may pass, counted from `base`.
#[derive(Default)]
struct Room {
    allowed: u64,
    passed: u64,
    step: u64,
}

#[derive(Default)]
struct Outcome {
    shortage: Option<Shortage>,
    failure: Option<TakeError>,
    /// Its tags are locked.
    locked: bool,
    lease: Leased,
    /// Nobody else is refused before what this one holds is released.
    turn: Option<OwnedMutexGuard<()>>,
}

/// How a hold stands to its upload's lease.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Leased {
    /// It needs none, or has left it.
    #[default]
    No,
    /// It goes along with the first claim.
    Wanted,
    /// It has it.
    Yes,
}

impl Holds {
    /// At work at nothing.
    pub fn new(store: Arc<CachedStore>, life: Duration, node: &str) -> Arc<Self> {
        let metrics = QuotaMetrics::default();
        Arc::new(Self { store, life, node: node.into(), at_work: Mutex::default(), turns: Mutex::default(), metrics })
    }

    /// Reserves room. Where there is none, the hold has the shortage: whoever has released what it stands for drops it.
    pub async fn take(self: &Arc<Self>, project: &Arc<Project>, wanted: Wanted) -> Result<Arc<Hold>, TakeError> {
        let hold = Arc::new(Hold {
            holds: Arc::clone(self),
            project: Arc::clone(project),
            id: wanted.id,
            robot: wanted.robot,
            purpose: wanted.purpose,
            base: wanted.base,
            is_exact: wanted.length.is_some(),
            locks_tags: wanted.locks_tags,
            waiting_percent: wanted.waiting_percent,
            room: Mutex::new(Room { step: FIRST_STEP, ..Room::default() }),
            asking: Turns::default(),
            outcome: Mutex::new(Outcome {
                lease: if wanted.alone_within.is_some() { Leased::Wanted } else { Leased::No },
                ..Outcome::default()
            }),
            is_over: AtomicBool::new(false),
        });
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
        let most = if takes_ahead { least.saturating_add(FIRST_STEP) } else { least };
        // Nor are there two nodes at work at it.
        let patience = wanted.alone_within.unwrap_or_default();
        loop {
            match hold.ask(least, most, &wanted.pins, wanted.journal.clone()).await {
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
        if before.as_ref().is_some_and(|before| !before.is_over.load(Ordering::Acquire)) {
            return false;
        }
        at_work.insert(hold.id.clone(), Arc::downgrade(hold));
        true
    }

    /// Whether a request of this upload is under way here.
    pub fn is_at_work(&self, id: &str) -> bool {
        let hold = locked(&self.at_work).get(id).cloned();
        hold.and_then(|hold| hold.upgrade()).is_some_and(|hold| !hold.is_over.load(Ordering::Acquire))
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

impl Hold {
    /// The upload's or the operation's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its request is over: the next one of its upload may begin, here and, where its lease is still held, then elsewhere.
    pub fn end(self: &Arc<Self>) {
        let is_leased = locked(&self.outcome).lease == Leased::Yes;
        match Handle::try_current() {
            Ok(runtime) if is_leased => {
                let hold = Arc::clone(self);
                runtime.spawn(async move {
                    if let Err(error) = hold.leave(None).await {
                        tracing::warn!(%error, "an upload's lease was not given back; it runs out");
                    }
                    hold.is_over.store(true, Ordering::Release);
                });
            }
            _ => self.is_over.store(true, Ordering::Release),
        }
    }

    /// Gives the lease back: another node may go on with the upload, which has moved upstream if that is told.
    pub async fn leave(&self, moved: Option<Box<str>>) -> Result<(), StoreError> {
        let (id, node) = (self.id.clone(), self.holds.node.clone());
        let leave = |store: Arc<dyn Store>| async move { store.leave_upload(&id, &node, moved.as_deref()).await };
        self.holds.store.run(leave).await?;
        self.forget_lease();
        Ok(())
    }

    /// The upload is over, and its lease with it.
    pub fn forget_lease(&self) {
        locked(&self.outcome).lease = Leased::No;
    }

    /// Whether the number of bytes was known.
    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Whether the tags in its journal were free, and are locked by its id.
    pub fn has_locked(&self) -> bool {
        locked(&self.outcome).locked
    }

    /// Why there was no room, or why nobody could tell.
    pub fn refusal(&self) -> Option<Refusal> {
        let mut outcome = locked(&self.outcome);
        if let Some(error) = outcome.failure.take() {
            return Some(error.into());
        }
        let shortage = outcome.shortage?;
        Some(Refusal::Quota(shortage.message(self.project.name.as_str(), self.purpose.name())))
    }

    /// Whether the store failed.
    fn has_failed(&self) -> bool {
        locked(&self.outcome).failure.is_some()
    }

    /// Whether there was no room.
    pub fn is_short(&self) -> bool {
        locked(&self.outcome).shortage.is_some()
    }

    /// A request has ended, and this is how far the upload has got: room for more is given back, and what is left waits for the
    /// next request.
    pub async fn keep(&self, passed: u64) {
        let _order = self.asking.lock().await;
        let bytes = self.base.saturating_add(passed);
        self.shrink(bytes).await;
    }

    /// Nothing is upstream: room and journal entry go.
    pub async fn release(&self) {
        let _order = self.asking.lock().await;
        let id = self.id.clone();
        match self.holds.store.run(|store| async move { store.release(&id).await }).await {
            Ok(()) => self.forget_lease(),
            Err(error) => tracing::warn!(%error, "a reservation was not released; it runs out"),
        }
    }

    async fn shrink(&self, bytes: u64) {
        let (id, until) = (self.id.clone(), self.holds.times().1);
        let shrink = self.holds.store.run(move |store| async move { store.shrink(&id, bytes, until).await });
        if let Err(error) = shrink.await {
            tracing::warn!(%error, "a reservation was not lowered; it runs out");
        }
    }

    /// Lets bytes pass that there is room for.
    fn pass(&self, bytes: u64) -> bool {
        let mut room = locked(&self.room);
        let passed = room.passed.saturating_add(bytes);
        if passed > room.allowed {
            return false;
        }
        room.passed = passed;
        true
    }

    /// Whether it is time to ask for more, so that nobody has to wait for it.
    fn runs_low(&self) -> bool {
        let room = locked(&self.room);
        room.allowed.saturating_sub(room.passed) < room.step / 2
    }

    /// Asks for room for so many bytes more than have passed; zero is whatever there is.
    async fn grow(&self, bytes: u64) {
        let is_scarce = self.holds.is_scarce(&self.project.id);
        if is_scarce && bytes == 0 {
            return;
        }
        let (least, most) = {
            let mut room = locked(&self.room);
            room.step = if is_scarce { 0 } else { room.step.max(FIRST_STEP / 2).saturating_mul(2).min(LONGEST_STEP) };
            let reached = self.base.saturating_add(room.passed);
            let least = if bytes == 0 { 0 } else { reached.saturating_add(bytes) };
            (least, self.base.saturating_add(room.allowed).max(least).saturating_add(room.step))
        };
        match self.ask(least, most, &[], None).await {
            Ok(()) => locked(&self.outcome).failure = None,
            // What was only to be had ahead is asked for again once it is needed.
            Err(_) if bytes == 0 => {}
            Err(error) => locked(&self.outcome).failure = Some(error),
        }
    }

    async fn ask(
        &self,
        least: u64,
        most: u64,
        pins: &[Digest],
        journal: Option<JournalEntry>,
    ) -> Result<(), TakeError> {
        let _order = self.asking.lock().await;
        let Err(first) = self.claim(least, most, pins, journal.clone()).await? else { return Ok(()) };
        // Nobody is refused while what is in the way may be given back, and from here on nobody takes any ahead.
        let turn = self.holds.turn(&self.project.id).lock_owned().await;
        let mut shortage = first;
        for pause in [Duration::ZERO].into_iter().chain(SECOND_LOOKS) {
            // What is reserved here and now is in use; another node's, or what a client left behind, may be on its way back, and
            // so may what a neighbour was asking for just now.
            let neighbours = self.holds.neighbours(self);
            let here: u64 = neighbours.iter().map(|neighbour| neighbour.held()).sum();
            let is_in_use = neighbours.iter().all(|neighbour| neighbour.spare() == 0);
            if !pause.is_zero() && is_in_use && shortage.account.reserved <= here.saturating_add(self.held()) {
                break;
            }
            sleep(pause).await;
            for neighbour in neighbours {
                neighbour.give_back_spare().await;
            }
            match self.claim(least, most, pins, journal.clone()).await? {
                Ok(()) => return Ok(()),
                Err(still) => shortage = still,
            }
        }
        self.holds.metrics.refused(self.project.name.as_str(), &shortage);
        let mut outcome = locked(&self.outcome);
        outcome.shortage = Some(shortage);
        outcome.turn = Some(turn);
        Ok(())
    }

    async fn claim(
        &self,
        at_least: u64,
        at_most: u64,
        pins: &[Digest],
        journal: Option<JournalEntry>,
    ) -> Result<Result<(), Shortage>, TakeError> {
        let claim = Claim {
            id: self.id.clone(),
            project: self.project.id.clone(),
            robot: self.robot.clone(),
            purpose: self.purpose,
            at_least,
            at_most,
            now: self.holds.times().0,
            expires_at: self.holds.times().1,
            pins: pins.to_vec(),
            journal,
            waiting_percent: self.waiting_percent,
            lock_until: self.locks_tags.then(tag_lock::lease),
            lease: (locked(&self.outcome).lease == Leased::Wanted).then(|| self.holds.lease()),
        };
        let takes_lease = claim.lease.is_some();
        let began = Instant::now();
        let admission = self.holds.store.run(move |store| async move { store.reserve(&claim).await }).await?;
        self.holds.metrics.took("reserve", began);
        match admission {
            Admission::Granted { held, locked: has_locked, .. } => {
                locked(&self.room).allowed = held.saturating_sub(self.base);
                let mut outcome = locked(&self.outcome);
                outcome.locked |= has_locked;
                if takes_lease {
                    outcome.lease = Leased::Yes;
                }
                Ok(Ok(()))
            }
            Admission::Refused(shortage) => Ok(Err(shortage)),
            Admission::Busy if takes_lease => Err(TakeError::AtWork),
            Admission::Busy => Err(TakeError::Unlinking),
        }
    }

    fn held(&self) -> u64 {
        self.base.saturating_add(locked(&self.room).allowed)
    }

    /// What was taken ahead and has not been used.
    fn spare(&self) -> u64 {
        if self.is_exact {
            return 0;
        }
        let room = locked(&self.room);
        room.allowed.saturating_sub(room.passed)
    }

    /// Gives back what was taken ahead and has not been used. Whoever is asking the store this moment keeps what he has.
    async fn give_back_spare(&self) {
        let Ok(_order) = self.asking.try_lock() else { return };
        if self.is_exact {
            return;
        }
        let reached = {
            let mut room = locked(&self.room);
            if room.allowed == room.passed {
                return;
            }
            room.allowed = room.passed;
            room.step = FIRST_STEP;
            self.base.saturating_add(room.passed)
        };
        self.shrink(reached).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut at_work = locked(&self.holds.at_work);
        // Another request of the same upload may be at work by now.
        if at_work.get(&self.id).is_some_and(|hold| hold.strong_count() == 0) {
            at_work.remove(&self.id);
        }
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

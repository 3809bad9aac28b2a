//! Room for one request or operation: what may pass of it, what it is refused, and how it ends.

mod asking;

use super::{Holds, TakeError, Wanted, locked};
use crate::pipeline::respond::Refusal;
use portcullis_oci::Digest;
use portcullis_tenancy::quota::{Purpose, Shortage};
use portcullis_tenancy::{Project, RobotId, Store, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};

/// First step by which room for bytes of unknown number grows; it doubles.
pub(super) const FIRST_STEP: u64 = 1024 * 1024;

/// Room for one upload's request, or for one operation.
pub struct Hold {
    holds: Arc<Holds>,
    pub(super) project: Arc<Project>,
    pub(super) id: Box<str>,
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
    /// Blobs that its manifest names and the ledger does not know.
    unknown: Vec<Digest>,
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

impl Hold {
    /// One that has no room yet.
    pub(super) fn new(holds: &Arc<Holds>, project: &Arc<Project>, wanted: &Wanted) -> Arc<Self> {
        Arc::new(Self {
            holds: Arc::clone(holds),
            project: Arc::clone(project),
            id: wanted.id.clone(),
            robot: wanted.robot.clone(),
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
        })
    }

    /// Whether its request is over.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

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

    /// Blobs that its manifest names and the ledger does not know: it has no room for them.
    pub fn unknown(&self) -> Vec<Digest> {
        locked(&self.outcome).unknown.clone()
    }

    /// Why there was no room, or why nobody could tell.
    pub fn refusal(&self) -> Option<Refusal> {
        let mut outcome = locked(&self.outcome);
        if let Some(error) = outcome.failure.take() {
            return Some(error.into());
        }
        let mut shortage = outcome.shortage?;
        if self.purpose == Purpose::Manifest && !shortage.waits {
            // What a first step got of it goes back with the refusal.
            let held = self.held();
            shortage.account.reserved = shortage.account.reserved.saturating_sub(held);
            shortage.asked = shortage.asked.saturating_add(held);
        }
        Some(Refusal::Quota(shortage.message(self.project.name.as_str(), self.purpose.name())))
    }

    /// Whether the store failed.
    pub(super) fn has_failed(&self) -> bool {
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
        let (id, node, until) = (self.id.clone(), self.holds.node.clone(), self.holds.times().1);
        let shrink = self.holds.store.run(move |store| async move { store.shrink(&id, &node, bytes, until).await });
        if let Err(error) = shrink.await {
            tracing::warn!(%error, "a reservation was not lowered; it runs out");
        }
    }

    /// Lets bytes pass that there is room for.
    pub(super) fn pass(&self, bytes: u64) -> bool {
        let mut room = locked(&self.room);
        let passed = room.passed.saturating_add(bytes);
        if passed > room.allowed {
            return false;
        }
        room.passed = passed;
        true
    }

    /// Whether it is time to ask for more, so that nobody has to wait for it.
    pub(super) fn runs_low(&self) -> bool {
        let room = locked(&self.room);
        room.allowed.saturating_sub(room.passed) < room.step / 2
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

//! One lock on each (project, repository, tag), in the store, so that it holds across nodes: from the facts of a
//! check-then-write on a tag to its commit. A holder renews it while it works; one that dies loses it when the lease ends.

use crate::app::random;
use portcullis_oci::{RepositoryName, Tag};
use portcullis_store::CachedStore;
use portcullis_tenancy::{ProjectId, Store, StoreError, Timestamp, random_id};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a lock is held without a sign of life.
pub const LEASE: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How long is waited for somebody else's lock.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(25);

/// Locks that are held. [`TagLocks::release`] waits until they are given back; dropped, they are given back in the background.
pub struct TagLocks {
    locks: Arc<Locks>,
    renewal: JoinHandle<()>,
    /// Dropped, it ends the renewal after the one that is under way.
    renewing: Option<oneshot::Sender<()>>,
    /// When they were taken along with a reservation, by whose id: then what ends it gives them back.
    claimed: Option<Instant>,
}

/// Until when a lock is held that is taken now.
pub fn lease() -> Timestamp {
    let now = Timestamp::now();
    now.checked_add(LEASE).unwrap_or(now)
}

/// One owner's locks.
struct Locks {
    store: Arc<CachedStore>,
    project: ProjectId,
    repository: RepositoryName,
    owner: Box<str>,
    tags: Vec<Tag>,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("another push or deletion of this tag is under way")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TagLocks {
    /// Takes the locks on all these tags, always in the same order, and waits a while for those that somebody else holds.
    pub async fn take(
        store: &Arc<CachedStore>,
        project: &ProjectId,
        repository: &RepositoryName,
        mut tags: Vec<Tag>,
    ) -> Result<Self, LockError> {
        tags.sort();
        tags.dedup();
        let locks = Arc::new(Locks {
            store: Arc::clone(store),
            project: project.clone(),
            repository: repository.clone(),
            owner: random_id(&random),
            tags,
        });
        if let Err(error) = locks.take_all().await {
            let _ = locks.give_back().await;
            return Err(error);
        }
        Ok(Self::held(locks, None))
    }

    /// The locks that were taken along with a reservation, by its id.
    pub fn claimed(
        store: &Arc<CachedStore>,
        project: &ProjectId,
        repository: &RepositoryName,
        mut tags: Vec<Tag>,
        id: &str,
    ) -> Self {
        tags.sort();
        tags.dedup();
        let (store, project, repository) = (Arc::clone(store), project.clone(), repository.clone());
        Self::held(Arc::new(Locks { store, project, repository, owner: id.into(), tags }), Some(Instant::now()))
    }

    fn held(locks: Arc<Locks>, claimed: Option<Instant>) -> Self {
        let (renewing, over) = oneshot::channel();
        let renewal = tokio::spawn(Arc::clone(&locks).renew(over));
        Self { locks, renewal, renewing: Some(renewing), claimed }
    }

    /// Whether the lock on this tag is among them.
    pub fn holds(&self, tag: &Tag) -> bool {
        self.locks.tags.binary_search(tag).is_ok()
    }

    /// What was done under them is on record, and its reservation has ended.
    pub async fn end(mut self) {
        // A renewal beside the end of the reservation may have taken back what that gave back.
        if self.claimed.is_some_and(|since| since.elapsed() < RENEW_EVERY) {
            self.renewing = None;
            return;
        }
        self.release().await;
    }

    /// Gives all locks back. What was done under them is done: where the store fails now, they run out.
    pub async fn release(mut self) {
        // A renewal that is cut off may still reach the store, and take back what is given back here.
        self.renewing = None;
        let _ = (&mut self.renewal).await;
        if let Err(error) = self.locks.give_back().await {
            tracing::warn!(%error, "locks on tags were not given back; they run out");
        }
    }
}

/// Whoever went away in the middle of his work keeps nobody waiting.
impl Drop for TagLocks {
    fn drop(&mut self) {
        if self.renewing.take().is_none() {
            return;
        }
        let locks = Arc::clone(&self.locks);
        let renewal = std::mem::replace(&mut self.renewal, tokio::spawn(async {}));
        tokio::spawn(async move {
            let _ = renewal.await;
            let _ = locks.give_back().await;
        });
    }
}

impl Locks {
    async fn take_all(&self) -> Result<(), LockError> {
        let start = Instant::now();
        for tag in &self.tags {
            while !self.take_one(tag).await? {
                if start.elapsed() > PATIENCE {
                    return Err(LockError::Busy);
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Takes a lock, or renews it where it is this owner's already.
    async fn take_one(&self, tag: &Tag) -> Result<bool, StoreError> {
        let (project, repository, owner, tag) =
            (self.project.clone(), self.repository.clone(), self.owner.clone(), tag.clone());
        let (now, until) = (Timestamp::now(), lease());
        let take = move |store: Arc<dyn Store>| async move {
            store.lock_tag(&project, &repository, &tag, &owner, now, until).await
        };
        self.store.run(take).await
    }

    async fn renew(self: Arc<Self>, mut over: oneshot::Receiver<()>) {
        if self.tags.is_empty() {
            return;
        }
        loop {
            if timeout(RENEW_EVERY, &mut over).await.is_ok() {
                return;
            }
            for tag in &self.tags {
                if !self.take_one(tag).await.is_ok_and(|taken| taken) {
                    tracing::warn!(project = %self.project.0, repository = %self.repository, %tag, "a tag's lock was not renewed");
                }
            }
        }
    }

    async fn give_back(&self) -> Result<(), StoreError> {
        if self.tags.is_empty() {
            return Ok(());
        }
        let (project, repository, owner, tags) =
            (self.project.clone(), self.repository.clone(), self.owner.clone(), self.tags.clone());
        let give_back = move |store: Arc<dyn Store>| async move {
            for tag in &tags {
                store.unlock_tag(&project, &repository, tag, &owner).await?;
            }
            Ok(())
        };
        self.store.run(give_back).await
    }
}

//! The store as the data path sees it: its calls run on the control runtime, and what it said is remembered for as long as
//! it is true.
//!
//! Every remembered rule carries the generation that was known *before* it was read, and counts only while that is the
//! generation: what was read before a change, but put away after it, is never seen. While the generation itself has not
//! been heard of for `stale_max`, nothing that is remembered counts.

#[cfg(test)]
mod tests;

use crate::sql::failure;
use crate::watch::{self, Observer};
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::audit::Entry;
use portcullis_tenancy::key::StoredKey;
use portcullis_tenancy::ledger::Standing;
use portcullis_tenancy::store::{Generation, Result};
use portcullis_tenancy::{Project, ProjectId, Robot, RobotId, Store, Timestamp};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

/// How often the generation is asked for.
const POLL: Duration = Duration::from_millis(500);
/// How long a link counts without being asked for again: another node may have removed it.
const LINK_LIFE: Duration = Duration::from_secs(1);
/// Longest name that is looked up: none in the store is longer, what is was made up.
const MAX_NAME_BYTES: usize = 255;

/// Most projects, robots and links that are remembered.
const PROJECTS: usize = 4096;
const ROBOTS: usize = 16_384;
const LINKS: usize = 16_384;

/// A store with a memory, shared by all data runtimes of a node.
pub struct CachedStore {
    store: Arc<dyn Store>,
    control: Handle,
    stale_max: Duration,
    born: Instant,
    generation: AtomicI64,
    /// When the last good poll was sent, in µs after `born`, plus one; none has been while it is zero.
    polled: AtomicU64,
    projects: Cache<Box<str>, Tagged<Option<Arc<Project>>>>,
    robots: Cache<RobotId, Tagged<Option<Arc<Robot>>>>,
    /// Of those that there are: what nobody is called is not remembered.
    robot_names: Cache<FullName, Tagged<RobotId>>,
    keys: Mutex<Option<Tagged<Arc<[StoredKey]>>>>,
    maintenance: Mutex<Option<Tagged<Option<Timestamp>>>>,
    links: Cache<Link, Remembered>,
    /// Digests that may be read as manifests.
    readable: Cache<Link, Instant>,
    /// Counts the links forgotten here: what was being asked for meanwhile is not remembered.
    forgotten: AtomicU64,
    observer: OnceLock<Observer>,
}

#[derive(Clone)]
struct Tagged<V> {
    generation: Generation,
    value: V,
}

/// A blob's place, as it was when it was asked for.
#[derive(Clone, Copy)]
struct Remembered {
    asked: Instant,
    /// How many had been forgotten before.
    forgotten: u64,
    standing: Standing,
}

/// A robot's name, after its project's.
type FullName = (Box<str>, Box<str>);

#[derive(PartialEq, Eq, Hash)]
struct Link {
    project: ProjectId,
    repository: RepositoryName,
    digest: Digest,
}

/// A [`Link`] by reference, so that a hit copies nothing.
#[derive(Hash)]
struct LinkRef<'a> {
    project: &'a ProjectId,
    repository: &'a RepositoryName,
    digest: &'a Digest,
}

/// A [`FullName`] by reference.
#[derive(Hash)]
struct NameRef<'a>(&'a str, &'a str);

/// The control runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("the control runtime dropped the call")]
struct Dropped;

impl CachedStore {
    /// A store with an empty memory. It is stale until its first [`refresh`](Self::refresh).
    pub fn new(store: Arc<dyn Store>, control: Handle, stale_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            store,
            control,
            stale_max,
            born: Instant::now(),
            generation: AtomicI64::new(0),
            polled: AtomicU64::new(0),
            projects: Cache::new(PROJECTS),
            robots: Cache::new(ROBOTS),
            robot_names: Cache::new(ROBOTS),
            keys: Mutex::new(None),
            maintenance: Mutex::new(None),
            links: Cache::new(LINKS),
            readable: Cache::new(LINKS),
            forgotten: AtomicU64::new(0),
            observer: OnceLock::new(),
        })
    }

    /// From now on this observer hears of all calls; it is the only one, for ever.
    pub fn observe(&self, observer: Observer) {
        let _ = self.observer.set(observer);
    }

    /// Runs any call of the store on the control runtime. It runs to its end even where the caller goes away.
    pub async fn run<T, F>(&self, call: impl FnOnce(Arc<dyn Store>) -> F + Send + 'static) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let store = Arc::clone(&self.store);
        let watch = self.observer.get().map(|observer| observer());
        let errand = watch::watched(watch, async move { call(store).await });
        self.control.spawn(errand).await.map_err(|_| failure(Dropped))?
    }

    /// The generation as last polled.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Whether the last good poll is longer ago than `stale_max`, or there was none: then everything is denied.
    pub fn is_stale(&self) -> bool {
        match self.polled.load(Ordering::Acquire) {
            0 => true,
            polled => Duration::from_micros(self.clock().saturating_sub(polled)) > self.stale_max,
        }
    }

    /// Asks for the generation now.
    pub async fn refresh(&self) -> Result<Generation> {
        // The answer is at least as new as the question.
        let asked = self.clock();
        let generation = self.run(|store| async move { store.generation().await }).await?;
        self.generation.store(generation.0, Ordering::Release);
        self.polled.store(asked, Ordering::Release);
        Ok(generation)
    }

    /// Asks for the generation every 500 ms for as long as it is let run. It belongs on the control runtime.
    pub async fn poll(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let answer = self.refresh().await;
            match &answer {
                Ok(_) if failing => tracing::info!("the store answers again"),
                Err(error) if !failing => {
                    tracing::warn!(%error, "the store does not answer; requests are denied after store.stale_max")
                }
                Ok(_) | Err(_) => {}
            }
            failing = answer.is_err();
        }
    }

    /// A living project by name.
    pub async fn project(&self, name: &str) -> Result<Option<Arc<Project>>> {
        if name.len() > MAX_NAME_BYTES {
            return Ok(None);
        }
        let known = self.known();
        if let Some(project) = recall(&self.projects, name, known) {
            return Ok(project);
        }
        let key: Box<str> = name.into();
        let asked = key.clone();
        let found = self.run(|store| async move { store.project(&asked).await }).await?;
        let project = found.filter(|project| project.deleted_at.is_none()).map(Arc::new);
        remember(&self.projects, key, known, &project);
        Ok(project)
    }

    /// A robot of a living project by id.
    pub async fn robot(&self, id: &RobotId) -> Result<Option<Arc<Robot>>> {
        let known = self.known();
        if let Some(robot) = recall(&self.robots, id, known) {
            return Ok(robot);
        }
        let asked = id.clone();
        let robot = self.run(|store| async move { store.robot(&asked).await }).await?.map(Arc::new);
        remember(&self.robots, id.clone(), known, &robot);
        Ok(robot)
    }

    /// A robot of a living project by the project's name and its own: the one that is remembered where that `suffices`, else as the
    /// store has it now. Whoever is told no has been looked up there every time: neither how often a name was tried nor whether it
    /// is anybody's can be told by how long that took.
    pub async fn robot_named(
        &self,
        project: &str,
        name: &str,
        suffices: impl Fn(Option<&Robot>) -> bool,
    ) -> Result<Option<Arc<Robot>>> {
        if project.len() > MAX_NAME_BYTES || name.len() > MAX_NAME_BYTES {
            return Ok(None);
        }
        let known = self.known();
        let id = recall(&self.robot_names, &NameRef(project, name), known);
        let remembered = id.and_then(|id| recall(&self.robots, &id, known)).flatten();
        if suffices(remembered.as_deref()) {
            return Ok(remembered);
        }
        let key: FullName = (project.into(), name.into());
        let asked = key.clone();
        let robot = self.run(|store| async move { store.robot_named(&asked.0, &asked.1).await }).await?.map(Arc::new);
        if let Some(robot) = &robot {
            remember(&self.robots, robot.id.clone(), known, &Some(Arc::clone(robot)));
            remember(&self.robot_names, key, known, &robot.id);
        }
        Ok(robot)
    }

    /// All signing keys, newest first.
    pub async fn keys(&self) -> Result<Arc<[StoredKey]>> {
        let known = self.known();
        let kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(|kept| Some(kept.generation) == known) {
            return Ok(kept.value);
        }
        let keys: Arc<[StoredKey]> = self.run(|store| async move { store.keys().await }).await?.into();
        if let Some(generation) = known {
            let value = Arc::clone(&keys);
            *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tagged { generation, value });
        }
        Ok(keys)
    }

    /// Since when nothing is written upstream; none where it is.
    pub async fn maintenance(&self) -> Result<Option<Timestamp>> {
        let known = self.known();
        let kept = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(|kept| Some(kept.generation) == known) {
            return Ok(kept.value);
        }
        let value = self.run(|store| async move { store.maintenance().await }).await?;
        if let Some(generation) = known {
            *self.maintenance.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tagged { generation, value });
        }
        Ok(value)
    }

    /// Whether the repository holds the blob, and the blob is charged.
    pub async fn has_link(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        Ok(matches!(self.standing(project, repository, digest).await?, Standing::Held { .. }))
    }

    /// A blob's place in a repository. Only that it is held is remembered, and for a second: a push must see its own links at
    /// once.
    pub async fn standing(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Standing> {
        let life = LINK_LIFE.min(self.stale_max);
        let (asked, forgotten) = (Instant::now(), self.forgotten.load(Ordering::Acquire));
        if let Some(kept) = self.links.get(&LinkRef { project, repository, digest })
            && kept.asked.elapsed() < life
            && kept.forgotten == forgotten
        {
            return Ok(kept.standing);
        }
        let link = Link { project: project.clone(), repository: repository.clone(), digest: digest.clone() };
        let (standing, link) = self
            .run(
                |store| async move { Ok((store.standing(&link.project, &link.repository, &link.digest).await?, link)) },
            )
            .await?;
        if matches!(standing, Standing::Held { .. }) {
            self.links.insert(link, Remembered { asked, forgotten, standing });
        }
        Ok(standing)
    }

    /// Whether a digest came here as a blob and never as a manifest: such a blob was not looked at as one, and is none, whatever
    /// the upstream makes of it. Only a no is remembered, and for a second.
    pub async fn is_blob_alone(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool> {
        let life = LINK_LIFE.min(self.stale_max);
        if self.readable.get(&LinkRef { project, repository, digest }).is_some_and(|asked| asked.elapsed() < life) {
            return Ok(false);
        }
        let asked = Instant::now();
        let link = Link { project: project.clone(), repository: repository.clone(), digest: digest.clone() };
        let (alone, link) = self
            .run(|store| async move {
                let one = std::slice::from_ref(&link.digest);
                let unknown = !store.missing_manifests(&link.project, &link.repository, one).await?.is_empty();
                let alone = unknown && store.has_link(&link.project, &link.repository, &link.digest).await?;
                Ok((alone, link))
            })
            .await?;
        if !alone {
            self.readable.insert(link, asked);
        }
        Ok(alone)
    }

    /// Removes a link from the store and from what is remembered, and leaves a record of it; returns the bytes that come back.
    pub async fn remove_link(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
        record: Entry,
    ) -> Result<u64> {
        let link = Link { project: project.clone(), repository: repository.clone(), digest: digest.clone() };
        let remove = |store: Arc<dyn Store>| async move {
            store.audited(record).remove_link(&link.project, &link.repository, &link.digest).await
        };
        let removed = self.run(remove).await;
        // Whatever the answer says: it may have been lost on the way.
        self.forget_links();
        removed
    }

    /// Forgets which blobs are held, after the store has removed or uncharged some. It is known again a moment later.
    pub fn forget_links(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    /// The generation that may be remembered by; none while it is too old to trust.
    fn known(&self) -> Option<Generation> {
        (!self.is_stale()).then(|| self.generation())
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

fn recall<K, Q, V>(cache: &Cache<K, Tagged<V>>, key: &Q, known: Option<Generation>) -> Option<V>
where
    K: Eq + Hash,
    Q: Hash + Equivalent<K> + ?Sized,
    V: Clone,
{
    let generation = known?;
    cache.get(key).filter(|kept| kept.generation == generation).map(|kept| kept.value)
}

fn remember<K, V>(cache: &Cache<K, Tagged<V>>, key: K, known: Option<Generation>, value: &V)
where
    K: Eq + Hash,
    V: Clone,
{
    if let Some(generation) = known {
        cache.insert(key, Tagged { generation, value: value.clone() });
    }
}

impl Equivalent<Link> for LinkRef<'_> {
    fn equivalent(&self, link: &Link) -> bool {
        *self.project == link.project && *self.repository == link.repository && *self.digest == link.digest
    }
}

impl Equivalent<FullName> for NameRef<'_> {
    fn equivalent(&self, (project, name): &FullName) -> bool {
        *self.0 == **project && *self.1 == **name
    }
}

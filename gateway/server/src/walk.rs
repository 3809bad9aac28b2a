//! A walk over what lies upstream under a project's prefix: to learn what is there, or to compare it with the record. It sees
//! tags and what they reach, and asks for what is on record besides. What is under way meanwhile is left to whoever is at it.

mod background;
mod drift;
mod mend;
mod place;
mod second_look;
mod seen;
mod sources;
mod tags;

pub use background::run as run_in_background;
pub use drift::{Fact, Finding, Kind, Subject};
pub use sources::{Sources, meant};

use crate::config::Isolation;
use crate::throwaway::Throwaways;
use crate::upstream_admin::UpstreamAdmin;
use futures_util::{StreamExt, stream};
use mend::Tally;
use place::Place;
use portcullis_oci::{Digest, RepositoryName};
use portcullis_store::CachedStore;
use portcullis_tenancy::ledger::Walk;
use portcullis_tenancy::quota::Account;
use portcullis_tenancy::{Project, Store, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests upstream at once.
const AT_ONCE: usize = 8;
/// What is waited before each request of a slow walk.
const PAUSE: Duration = Duration::from_millis(50);

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To put on record what is there.
    Import,
    /// To find where the record is wrong.
    Reconcile {
        /// And to mend it.
        repair: bool,
    },
}

/// Whoever walks.
pub struct Walker<'a> {
    store: Arc<dyn Store>,
    /// The same store, for the locks on tags.
    cached: Arc<CachedStore>,
    upstream: UpstreamAdmin,
    throwaways: &'a Throwaways,
    isolation: Isolation,
    at_once: usize,
    turns: Semaphore,
    /// Whether it goes on where it was cut off.
    remembers: bool,
}

/// Who is shown how far a walk is.
pub trait Watch: Sync {
    /// So many repositories of a project are walked, those after the named one if it goes on there.
    fn begins(&self, _project: &Project, _repositories: usize, _after: Option<&str>) {}
    /// A repository is done, and this was found there.
    fn finished(&self, _repository: &RepositoryName, _found: &[Finding]) {}
}

/// Nobody.
pub struct Unwatched;

impl Watch for Unwatched {}

/// What a walk over a project came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The repositories that were walked.
    pub repositories: usize,
    /// The repository after which it went on, where an earlier walk was cut off.
    pub resumed_after: Option<Box<str>>,
    /// What was put on record.
    pub recorded: Recorded,
    /// Where the record is, or was, wrong.
    pub findings: Vec<Finding>,
    /// What looked wrong, and somebody is at work at.
    pub under_way: usize,
    /// What is upstream and cannot be recorded, and why.
    pub unreadable: Vec<(RepositoryName, Digest, String)>,
    /// The project's account afterwards.
    pub account: Account,
}

/// What was put on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Manifests, counted in each repository.
    pub manifests: u64,
    /// Blobs, counted in each repository.
    pub blobs: u64,
    /// Tags.
    pub tags: u64,
    /// What the project is charged with for it.
    pub bytes: u64,
}

/// What a walk over a repository came to.
#[derive(Default)]
struct Outcome {
    findings: Vec<Finding>,
    under_way: usize,
    unreadable: Vec<(RepositoryName, Digest, String)>,
}

impl Task {
    const fn walk(self) -> Walk {
        match self {
            Self::Import => Walk::Import,
            Self::Reconcile { .. } => Walk::Reconcile,
        }
    }
}

impl<'a> Walker<'a> {
    /// One that works on its own and goes on where it was cut off.
    pub fn new(
        store: Arc<dyn Store>,
        cached: Arc<CachedStore>,
        upstream: UpstreamAdmin,
        throwaways: &'a Throwaways,
        isolation: Isolation,
    ) -> Self {
        let turns = Semaphore::new(AT_ONCE);
        Self { store, cached, upstream, throwaways, isolation, at_once: AT_ONCE, turns, remembers: true }
    }

    /// The same, but in nobody's way: one request at a time with a pause before each, from the beginning each time.
    #[must_use]
    pub fn slowly(self) -> Self {
        let upstream = self.upstream.paced(PAUSE);
        Self { upstream, at_once: 1, turns: Semaphore::new(1), remembers: false, ..self }
    }

    /// The upstream that is walked.
    pub fn upstream(&self) -> &UpstreamAdmin {
        &self.upstream
    }

    /// Walks over a project. Where it fails, the next walk goes on after the last repository that was done.
    pub async fn project(
        &self,
        project: &Project,
        sources: &Sources,
        task: Task,
        watch: &dyn Watch,
    ) -> anyhow::Result<Report> {
        let mut left: Vec<RepositoryName> = sources.of(project, &*self.store).await?.into_iter().collect();
        let resumed_after =
            if self.remembers { self.store.walk_position(&project.id, task.walk()).await? } else { None };
        if let Some(after) = &resumed_after {
            left.retain(|repository| repository.as_str() > &**after);
        }
        watch.begins(project, left.len(), resumed_after.as_deref());
        let (repositories, tally) = (left.len(), Tally::default());
        let (mut findings, mut under_way, mut unreadable) = (Vec::new(), 0_usize, Vec::new());
        let walk = |repository: RepositoryName| {
            let place = Place::new(self, project, repository.clone(), &tally);
            async move { (repository, place.walk(task).await) }
        };
        let mut walked = stream::iter(left).map(walk).buffered(self.at_once);
        while let Some((repository, outcome)) = walked.next().await {
            let outcome = outcome?;
            watch.finished(&repository, &outcome.findings);
            if self.remembers {
                let at = Some(&repository);
                self.store.set_walk_position(&project.id, task.walk(), at, Timestamp::now()).await?;
            }
            findings.extend(outcome.findings);
            under_way = under_way.saturating_add(outcome.under_way);
            unreadable.extend(outcome.unreadable);
        }
        drop(walked);
        if let Task::Reconcile { repair } = task {
            findings.extend(self.counter(project, repair).await?);
        }
        if self.remembers {
            self.store.set_walk_position(&project.id, task.walk(), None, Timestamp::now()).await?;
        }
        let account = self.store.account(&project.id).await?;
        let recorded = tally.into_recorded();
        Ok(Report { repositories, resumed_after, recorded, findings, under_way, unreadable, account })
    }

    async fn counter(&self, project: &Project, repair: bool) -> anyhow::Result<Option<Finding>> {
        let (counted, sum) = self.store.recount(&project.id, repair).await?;
        Ok(Finding::of_counter(counted, sum).map(|finding| Finding { is_mended: repair, ..finding }))
    }

    /// Leave to make one request upstream.
    async fn turn(&self) -> anyhow::Result<SemaphorePermit<'_>> {
        Ok(self.turns.acquire().await?)
    }
}

impl Place<'_> {
    async fn walk(&self, task: Task) -> anyhow::Result<Outcome> {
        let record = self.record().await?;
        let seen = self.see(&record, task).await?;
        let mut outcome = match task {
            Task::Import => self.import(&record, &seen).await?,
            Task::Reconcile { repair } => self.reconcile(seen.compare(self, &record), repair).await?,
        };
        let unreadable = seen.unreadable.into_iter();
        outcome.unreadable.extend(unreadable.map(|(digest, why)| (self.repository.clone(), digest, why)));
        Ok(outcome)
    }
}

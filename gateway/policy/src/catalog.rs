//! Who has attached what: an immutable generation, swapped as a whole. A request keeps the generation that it started with.
//! What an answer is worth is not decided here.

mod attached;
mod status;

pub(crate) use attached::{Attached, Load};
pub use status::Status;

use crate::engine::Engine;
use crate::error::LoadError;
use crate::evaluate::{Counters, Verdicts};
use crate::limits::CallLimits;
use crate::policy::{Policy, Reuse};
use crate::program::Program;
use crate::question::{FactSet, Hook, HookSet};
use arc_swap::ArcSwap;
use portcullis_oci::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Whose policies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The operator's: asked first, for every project.
    Platform,
    /// A project's, by its id.
    Project(Arc<str>),
}

/// Whether a verdict counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is told and counted, and everything passes.
    Monitor,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The request is refused.
    #[default]
    Deny,
    /// The request passes.
    Allow,
}

/// A policy as it is attached.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    /// Its name, unique for its owner.
    pub name: String,
    /// Its place in the chain; equal ones go by name.
    pub order: i32,
    /// The component's digest.
    pub digest: Digest,
    /// Its settings, JSON.
    pub settings: String,
    /// Whether its verdicts count.
    pub mode: Mode,
    /// What its failures mean.
    pub on_error: OnError,
    /// Whether an instance may serve more than one call.
    pub reuse: Option<Reuse>,
    /// Other limits than its class's.
    pub limits: Option<CallLimits>,
}

/// A component's bytes, or why they cannot be had.
pub type Fetched = Result<Arc<[u8]>, String>;
/// Gives the bytes of a digest.
pub type Fetch<'a> = &'a dyn Fn(&Digest) -> Fetched;

/// A policy that could not be loaded as it is attached.
#[derive(Debug)]
pub struct Problem {
    /// The attachment's name.
    pub name: String,
    /// Why.
    pub error: Arc<LoadError>,
    /// Whether the last good one goes on; else its `on_error` answers.
    pub last_good: bool,
}

/// What is attached now. Shared by everything that asks.
pub struct Catalog {
    engine: Engine,
    current: ArcSwap<Generation>,
    /// Held while a new generation is put together, never while a policy is loaded.
    writing: Mutex<()>,
    /// Programs by digest, so that what is attached a thousand times is loaded once.
    programs: Mutex<HashMap<Digest, Weak<Program>>>,
    serial: AtomicU64,
}

/// One generation of everything that is attached.
pub struct Generation {
    pub(crate) number: u64,
    pub(crate) engine: Engine,
    pub(crate) platform: Chain,
    pub(crate) projects: HashMap<Arc<str>, Chain>,
    pub(crate) verdicts: Arc<Verdicts>,
}

/// One owner's policies, in order.
#[derive(Clone, Default)]
pub(crate) struct Chain {
    pub(crate) attached: Arc<[Arc<Attached>]>,
    hooks: HookSet,
    wants: [FactSet; Hook::ALL.len()],
    pub(crate) load: Arc<Load>,
}

impl Catalog {
    /// A catalog in which nothing is attached.
    pub fn new(engine: Engine) -> Self {
        let verdicts = Arc::new(Verdicts::new(&engine.limits().chain));
        let generation = Generation {
            number: 0,
            engine: engine.clone(),
            platform: Chain::default(),
            projects: HashMap::new(),
            verdicts,
        };
        Self {
            engine,
            current: ArcSwap::from_pointee(generation),
            writing: Mutex::default(),
            programs: Mutex::default(),
            serial: AtomicU64::new(0),
        }
    }

    /// What is attached now. Keep it for as long as one request lasts.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Makes these all that `owner` has attached. What has not changed is not loaded again; what cannot be loaded keeps its
    /// last good version, and is told. Blocks while it compiles. Call it for one owner from one place at a time.
    ///
    /// `fetch` gives a component's bytes, and is asked only for what is neither loaded nor compiled yet.
    pub fn replace(&self, owner: &Owner, mut attachments: Vec<Attachment>, fetch: Fetch<'_>) -> Vec<Problem> {
        let most = self.engine.limits().chain.attachments;
        attachments.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        let before = self.current();
        let known = before.chain_of(owner);
        let mut problems = Vec::new();
        let mut attached = Vec::with_capacity(attachments.len());
        for (place, attachment) in attachments.into_iter().enumerate() {
            let old = known.and_then(|chain| chain.attached.iter().find(|old| old.attachment.name == attachment.name));
            // What is too much is not left out: nobody may pass for want of a place.
            let new = if place < most {
                self.attach(owner, attachment, old, fetch)
            } else {
                self.not_loaded(owner, attachment, LoadError::TooMany(most))
            };
            if let Some(error) = &new.problem {
                let (name, last_good) = (new.attachment.name.clone(), new.policy.is_some());
                problems.push(Problem { name, error: Arc::clone(error), last_good });
            }
            attached.push(new);
        }
        let load = known.map(|chain| Arc::clone(&chain.load)).unwrap_or_default();
        self.swap(owner, Chain::new(attached, load));
        problems
    }

    /// Loads a component, or finds it loaded. Its bytes are asked for only where they have to be compiled.
    pub fn program(&self, digest: &Digest, bytes: impl FnOnce() -> Fetched) -> Result<Arc<Program>, LoadError> {
        let known = || self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = known().get(digest).and_then(Weak::upgrade) {
            return Ok(program);
        }
        let program = match Program::cached(&self.engine, digest) {
            Some(program) => program?,
            None => {
                let bytes = bytes().map_err(LoadError::Unavailable)?;
                if Digest::sha256(&bytes) != *digest {
                    let problem = "the component's bytes are not those of its digest";
                    return Err(LoadError::Internal(problem.to_owned()));
                }
                Program::compiled(&self.engine, &bytes, digest)?
            }
        };
        let program = Arc::new(program);
        let mut programs = known();
        programs.retain(|_, program| program.strong_count() > 0);
        programs.insert(digest.clone(), Arc::downgrade(&program));
        Ok(program)
    }

    fn attach(
        &self,
        owner: &Owner,
        attachment: Attachment,
        old: Option<&Arc<Attached>>,
        fetch: Fetch<'_>,
    ) -> Arc<Attached> {
        if let Some(old) = old.filter(|old| old.problem.is_none() && old.attachment == attachment) {
            return Arc::clone(old);
        }
        let last_good = old.and_then(|old| old.policy.as_ref().map(|policy| (old, policy)));
        // Only what runs is loaded anew: a change of mode or order is none of the guest's business.
        let same = last_good.filter(|(old, _)| old.problem.is_none() && old.attachment.runs_like(&attachment));
        let loaded = match same {
            Some((_, policy)) => Ok(Arc::clone(policy)),
            None => self
                .program(&attachment.digest, || fetch(&attachment.digest))
                .and_then(|program| {
                    Policy::new(program, &attachment.settings, attachment.limits.clone(), attachment.reuse)
                })
                .map(Arc::new),
        };
        let (policy, problem) = match loaded {
            Ok(policy) => (Some(policy), None),
            Err(error) => (last_good.map(|(_, policy)| Arc::clone(policy)), Some(Arc::new(error))),
        };
        let counters = old.map_or_else(|| Arc::new(Counters::default()), |old| Arc::clone(&old.counters));
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        Arc::new(Attached::new(owner.clone(), attachment, policy, problem, counters, serial))
    }

    /// A policy whose `on_error` answers.
    fn not_loaded(&self, owner: &Owner, attachment: Attachment, error: LoadError) -> Arc<Attached> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (problem, counters) = (Some(Arc::new(error)), Arc::new(Counters::default()));
        Arc::new(Attached::new(owner.clone(), attachment, None, problem, counters, serial))
    }

    fn swap(&self, owner: &Owner, chain: Chain) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let mut next = Generation {
            number: before.number.saturating_add(1),
            engine: self.engine.clone(),
            platform: before.platform.clone(),
            projects: before.projects.clone(),
            verdicts: Arc::clone(&before.verdicts),
        };
        match owner {
            Owner::Platform => next.platform = chain,
            Owner::Project(id) if chain.attached.is_empty() => {
                next.projects.remove(id);
            }
            Owner::Project(id) => {
                next.projects.insert(Arc::clone(id), chain);
            }
        }
        self.current.store(Arc::new(next));
    }
}

impl Attachment {
    fn runs_like(&self, other: &Self) -> bool {
        self.digest == other.digest
            && self.settings == other.settings
            && self.reuse == other.reuse
            && self.limits == other.limits
    }
}

impl Generation {
    /// Its number, counted from the start of the process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether anybody wants to be asked at this hook about this project. Where not, nothing else need be done.
    pub fn asks(&self, project: &str, hook: Hook) -> bool {
        self.platform.hooks.contains(hook) || self.projects.get(project).is_some_and(|chain| chain.hooks.contains(hook))
    }

    /// What must be looked up before the question is asked.
    pub fn wants(&self, project: &str, hook: Hook) -> FactSet {
        let own = self.projects.get(project).map(|chain| chain.wants_at(hook)).unwrap_or_default();
        self.platform.wants_at(hook).union(own)
    }

    /// What there is to say of each policy that is attached.
    pub fn status(&self) -> Vec<Status> {
        let chains = std::iter::once(&self.platform).chain(self.projects.values());
        chains.flat_map(|chain| chain.attached.iter()).map(|attached| attached.status()).collect()
    }

    fn chain_of(&self, owner: &Owner) -> Option<&Chain> {
        match owner {
            Owner::Platform => Some(&self.platform),
            Owner::Project(id) => self.projects.get(id),
        }
    }
}

impl Chain {
    fn new(attached: Vec<Arc<Attached>>, load: Arc<Load>) -> Self {
        let hooks = attached.iter().fold(HookSet::default(), |hooks, one| hooks.union(one.hooks()));
        let wants = Hook::ALL.map(|hook| {
            let asked = attached.iter().filter(|one| one.hooks().contains(hook));
            asked.fold(FactSet::default(), |wants, one| wants.union(one.wants()))
        });
        Self { attached: attached.into(), hooks, wants, load }
    }

    pub(crate) fn asks(&self, hook: Hook) -> bool {
        self.hooks.contains(hook)
    }

    fn wants_at(&self, hook: Hook) -> FactSet {
        self.wants.get(hook as usize).copied().unwrap_or_default()
    }
}

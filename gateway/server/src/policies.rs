//! The policies of this node: what the store says is attached is loaded here and kept up to date, and guests whose project
//! has used up its share of the request cores get a thread of their own. Whom to ask about what is `screen`'s business.

mod compiler;
mod loading;
mod metrics;
mod recorder;
mod thread;

pub use compiler::run as run_compiler;
pub use metrics::PolicyMetrics;
pub use recorder::{Recorded, Recorder};

use crate::config;
use anyhow::Context;
use arc_swap::ArcSwap;
use loading::{Load, Loading, Outcome};
use portcullis_oci::Digest;
use portcullis_policy::question::{Hook, Question};
use portcullis_policy::{
    Answer, Attachment, Catalog, CompileCache, Engine, Generation, Mode, OnError, Options, Owner, Reuse,
};
use portcullis_store::CachedStore;
use portcullis_tenancy::key::{MasterKey, Purpose};
use portcullis_tenancy::{ProjectId, StoreError, policy};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thread::PolicyThread;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// How often is looked whether the rules have changed.
const LOOK: Duration = Duration::from_millis(200);
/// Owners whose policies are loaded at once.
const LOADS: usize = 4;

/// This node's policies.
pub struct Policies {
    catalog: Catalog,
    thread: PolicyThread,
    /// For those that only observe: they keep no question waiting.
    observers: PolicyThread,
    loading: Mutex<Loading>,
    loads: Semaphore,
    /// The names of the projects that have policies, by id.
    names: ArcSwap<HashMap<Arc<str>, Box<str>>>,
    /// Real questions, for whoever records them.
    pub recorder: Recorder,
}

/// The policy thread has more to do than it can.
#[derive(Debug, thiserror::Error)]
#[error("too many questions wait for the project's policies")]
pub struct Busy;

impl Policies {
    /// With nothing loaded.
    pub fn new(limits: &config::Policies, data_dir: &Path, master: &MasterKey) -> anyhow::Result<Self> {
        let engine = engine(limits, data_dir, master)?;
        Ok(Self {
            catalog: Catalog::new(engine),
            thread: PolicyThread::start("policy")?,
            observers: PolicyThread::start("policy-observer")?,
            loading: Mutex::default(),
            loads: Semaphore::new(LOADS),
            names: ArcSwap::default(),
            recorder: Recorder::default(),
        })
    }

    /// What is attached now. A request keeps it to its end.
    pub fn current(&self) -> Arc<Generation> {
        self.catalog.current()
    }

    /// The name of a project that has policies.
    pub fn project_name(&self, id: &str) -> Option<Box<str>> {
        self.names.load().get(id).cloned()
    }

    /// Asks everybody who wants to be asked: here, or on the policy thread where the project has used up its share.
    pub async fn ask(
        &self,
        generation: &Arc<Generation>,
        project: &ProjectId,
        question: Question,
    ) -> Result<Answer, Busy> {
        let now = Instant::now();
        let recorded = self.recorder.is_on(project).then(|| question.clone());
        let answer = if generation.needs_thread(&project.0, question.hook(), now) {
            let (generation, of) = (Arc::clone(generation), project.clone());
            let load = thread::Load { project: &project.0, bytes: question.bytes() };
            let ask = move || generation.ask(&of.0, &question, Instant::now());
            self.thread.run(load, ask).await.ok_or(Busy)?
        } else {
            generation.ask(&project.0, &question, now)
        };
        if let Some(question) = recorded {
            self.recorder.record(project, question, &answer);
        }
        Ok(answer)
    }

    /// Shows policies that observe what became of a request. Nobody waits for it; where there is too much to see, some is not
    /// seen.
    pub fn observe(
        &self,
        generation: Arc<Generation>,
        project: ProjectId,
        question: Question,
        heard: impl FnOnce(&Answer) + Send + 'static,
    ) {
        debug_assert!(question.hook() == Hook::Response);
        let of = project.clone();
        let load = thread::Load { project: &of.0, bytes: question.bytes() };
        self.observers.observe(load, move || heard(&generation.ask(&project.0, &question, Instant::now())));
    }

    /// Questions that no thread had room for.
    pub fn unasked(&self) -> u64 {
        self.thread.turned_away().saturating_add(self.observers.turned_away())
    }

    /// Loads what the store says is attached, and waits for it.
    pub async fn load_all(self: &Arc<Self>, store: &Arc<CachedStore>) -> Result<(), StoreError> {
        for load in self.refresh(store).await? {
            // It says itself what it could not load.
            let _ = load.await;
        }
        Ok(())
    }

    /// Begins to load what the store says is attached, where a rule has changed since the last time, or where it is time to try
    /// again: one owner's policies beside the other's, so that nobody waits for what another one attaches.
    async fn refresh(self: &Arc<Self>, store: &Arc<CachedStore>) -> Result<Vec<JoinHandle<()>>, StoreError> {
        let generation = store.generation();
        if !self.loading().is_due(generation, Instant::now()) {
            return Ok(Vec::new());
        }
        let mut attached: HashMap<Owner, Vec<policy::Attachment>> = HashMap::new();
        for attachment in store.run(|store| async move { store.attachments().await }).await? {
            attached.entry(owner(attachment.project.as_ref())).or_default().push(attachment);
        }
        self.learn_names(store, &attached).await?;
        let loads = self.loading().begin(generation, attached, Instant::now());
        let begin = |load| tokio::spawn(Arc::clone(self).load(Arc::clone(store), load));
        Ok(loads.into_iter().map(begin).collect())
    }

    async fn load(self: Arc<Self>, store: Arc<CachedStore>, load: Load) {
        let place = self.loads.acquire().await;
        let outcome = self.replace(&store, load.owner.clone(), load.attachments).await;
        drop(place);
        self.loading().end(&load.owner, outcome, Instant::now());
    }

    fn loading(&self) -> MutexGuard<'_, Loading> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn learn_names(
        &self,
        store: &Arc<CachedStore>,
        wanted: &HashMap<Owner, Vec<policy::Attachment>>,
    ) -> Result<(), StoreError> {
        if wanted.keys().all(|owner| *owner == Owner::Platform) && self.names.load().is_empty() {
            return Ok(());
        }
        let projects = store.run(|store| async move { store.projects().await }).await?;
        let named = projects.into_iter().map(|project| (Arc::from(&*project.id.0), project.name.as_str().into()));
        self.names
            .store(Arc::new(named.filter(|(id, _)| wanted.contains_key(&Owner::Project(Arc::clone(id)))).collect()));
        Ok(())
    }

    /// Looks again and again whether a rule has changed, for as long as it is let run.
    pub async fn keep_up(self: Arc<Self>, store: Arc<CachedStore>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.refresh(&store).await {
                tracing::warn!(%error, "what is attached could not be read; it is tried again");
            }
        }
    }

    /// Puts an owner's attachments into force. Compiling takes its time, so it happens where nobody waits.
    async fn replace(
        self: &Arc<Self>,
        store: &Arc<CachedStore>,
        owner: Owner,
        wanted: Vec<policy::Attachment>,
    ) -> Outcome {
        let (policies, store) = (Arc::clone(self), Arc::clone(store));
        let control = tokio::runtime::Handle::current();
        let load = move || {
            let fetch = |digest: &Digest| {
                let wanted = digest.clone();
                let component = control.block_on(store.run(|store| async move { store.component(&wanted).await }));
                match component {
                    Ok(Some(bytes)) => Ok(bytes.into()),
                    Ok(None) => Err("the store does not have the component".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            };
            let attachments = wanted.iter().map(attachment).collect();
            let problems = policies.catalog.replace(&owner, attachments, &fetch);
            for problem in &problems {
                let (policy, last_good) = (problem.name.as_str(), problem.last_good);
                let error = &problem.error;
                tracing::error!(owner = told(&owner), policy, last_good, %error, "a policy cannot be loaded");
            }
            match problems.iter().any(|problem| problem.error.is_transient()) {
                true => Outcome::Later,
                false if problems.is_empty() => Outcome::Whole,
                false => Outcome::Broken,
            }
        };
        tokio::task::spawn_blocking(load).await.unwrap_or(Outcome::Broken)
    }
}

/// The engine with the configured limits, its compile cache, and a compiler that runs in a process of its own.
pub fn engine(limits: &config::Policies, data_dir: &Path, master: &MasterKey) -> anyhow::Result<Engine> {
    let key = master.mac_key_bytes(Purpose::CompiledPolicies);
    let cache = CompileCache::open(&data_dir.join("policy-cache"), &key, limits.cache_bytes)
        .context("policies: the compile cache")?;
    let options = Options { cache: Some(cache), compiler: Some(compiler::in_a_child(limits)?), fuel: false };
    Engine::new(limits.host.clone(), options).context("policies: the engine")
}

/// Whose policies these are, as the host says it.
pub fn owner(project: Option<&ProjectId>) -> Owner {
    project.map_or(Owner::Platform, |project| Owner::Project(Arc::from(&*project.0)))
}

fn told(owner: &Owner) -> &str {
    match owner {
        Owner::Platform => "platform",
        Owner::Project(id) => id,
    }
}

/// An attachment, as the host wants it.
pub fn attachment(kept: &policy::Attachment) -> Attachment {
    Attachment {
        name: kept.name.as_str().to_owned(),
        order: kept.order,
        digest: kept.digest.clone(),
        settings: kept.settings.to_string(),
        mode: match kept.mode {
            policy::Mode::Enforce => Mode::Enforce,
            policy::Mode::Monitor => Mode::Monitor,
        },
        on_error: match kept.on_error {
            policy::OnError::Deny => OnError::Deny,
            policy::OnError::Allow => OnError::Allow,
        },
        reuse: kept.reuse.map(|reuse| Reuse { calls: reuse.calls, life: Duration::from_secs(reuse.seconds.into()) }),
        limits: None,
    }
}

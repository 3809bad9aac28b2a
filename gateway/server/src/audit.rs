//! The audit trail as a gateway keeps it. Changes take their records along in their own transactions; denials and failed logins go
//! through a bounded queue, so that nobody waits for them; a keeper gives all of them their places. It never decides anything.

mod denial;
mod export;
mod keeper;
mod metrics;
mod queue;

pub use denial::of as denial;
pub use export::{checkpoint_path, position_path, read_checkpoint};
pub use keeper::{close, run};
pub use metrics::AuditMetrics;

use crate::app::random;
use crate::config::Config;
use crate::node_id;
use keeper::Keeper;
use portcullis_tenancy::audit::{AuditKeys, Entry, Kind, Note};
use portcullis_tenancy::key::MasterKey;
use portcullis_tenancy::quota::{Account, Size};
use portcullis_tenancy::{Project, ProjectId, Timestamp};
use queue::Queue;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long readiness remembers that something was lost, or changed before it had its place.
const REMEMBER: Duration = Duration::from_secs(600);

/// The trail of this node.
pub struct Audit {
    /// What is counted of it.
    pub metrics: AuditMetrics,
    keys: AuditKeys,
    node: Box<str>,
    data_dir: PathBuf,
    queue: Mutex<Queue>,
    /// Projects past their soft limits, as far as this node has seen.
    past_soft: Mutex<HashSet<ProjectId>>,
    is_failing: AtomicBool,
    lost_at: Mutex<Option<Instant>>,
    changed_at: Mutex<Option<Instant>>,
    keeper: tokio::sync::Mutex<Keeper>,
}

impl Audit {
    /// The trail of the node that keeps its things there.
    pub fn new(config: &Config, master: &MasterKey) -> anyhow::Result<Arc<Self>> {
        let (keys, node) = (AuditKeys::new(master), node_id::open(&config.data_dir)?);
        let keeper = Keeper::new(&config.data_dir, config.audit.export_file.as_deref(), &node, &keys);
        Ok(Arc::new(Self {
            metrics: AuditMetrics::default(),
            keys,
            node,
            data_dir: config.data_dir.clone(),
            queue: Mutex::new(Queue::new(config.audit.queue_records)),
            past_soft: Mutex::default(),
            is_failing: AtomicBool::new(false),
            lost_at: Mutex::default(),
            changed_at: Mutex::default(),
            keeper: tokio::sync::Mutex::new(keeper),
        }))
    }

    /// A record for the transaction of the change that it is about.
    pub fn seal(&self, note: Note) -> Entry {
        self.keys.seal(note, &self.node, Timestamp::now(), &random)
    }

    /// Writes down what belongs to no change, a moment later. It waits for nothing.
    pub fn tell(&self, note: Note) {
        let times = note.times;
        let mut queue = locked(&self.queue);
        let Some(note) = queue.tell(note, Instant::now()) else { return };
        if !queue.push(self.seal(note)) {
            self.lost(times);
        }
    }

    /// Writes down that a push has taken a project past its soft limit: once, until it is below again.
    pub fn soft_limit(&self, project: &Project, account: &Account, note: impl FnOnce() -> Note) {
        let mut past = locked(&self.past_soft);
        if !account.is_past_soft() {
            past.remove(&project.id);
            return;
        }
        if past.insert(project.id.clone()) {
            drop(past);
            let (used, quota) = (Size(account.used()), Size(account.quota.unwrap_or_default()));
            let percent = account.soft_percent.unwrap_or_default();
            let mut note = note();
            note.kind = Kind::SoftLimit;
            self.tell(note.because(&format!("{used} of {quota} used, past {percent} %")));
        }
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether all that should be written down is, as far as this node knows.
    pub fn is_whole(&self) -> bool {
        let is_recent = |at: &Mutex<Option<Instant>>| locked(at).is_some_and(|at| at.elapsed() < REMEMBER);
        !is_recent(&self.lost_at) && !is_recent(&self.changed_at) && !self.is_failing.load(Ordering::Relaxed)
    }

    /// Brings what is only told when it is asked for among the metrics up to date.
    pub fn measure(&self) {
        self.metrics.whole(self.is_whole());
    }

    fn lost(&self, records: u64) {
        let mut lost_at = locked(&self.lost_at);
        if lost_at.is_none_or(|at| at.elapsed() > REMEMBER) {
            tracing::error!("audit records are lost: too many wait to be written (audit.queue_records)");
        }
        *lost_at = Some(Instant::now());
        self.metrics.lost(records);
    }

    /// Records were changed while they waited, or put in: they have got their places, and nobody vouches for them.
    fn changed(&self, records: u64) {
        if records > 0 {
            tracing::error!(
                records,
                "audit records were changed before they had their places; `portcullis audit verify` names the first"
            );
            *locked(&self.changed_at) = Some(Instant::now());
            self.metrics.changed(records);
        }
    }

    /// Says when it begins to fail, and when it is over.
    fn failing(&self, why: Option<&dyn std::fmt::Display>) {
        let was_failing = self.is_failing.swap(why.is_some(), Ordering::Relaxed);
        match why {
            Some(error) if !was_failing => {
                tracing::error!(%error, "the audit trail cannot be written; what waits is kept as long as there is room");
            }
            None if was_failing => tracing::info!("the audit trail is written again"),
            Some(_) | None => {}
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One attached policy, and what is known of it while it runs.

use super::{Attachment, Owner};
use crate::error::LoadError;
use crate::evaluate::{Breakers, Budget, Counters, LogShare};
use crate::policy::Policy;
use crate::question::{FactSet, Hook, HookSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub(crate) struct Attached {
    pub(crate) owner: Owner,
    pub(crate) attachment: Attachment,
    /// What runs: as attached, or the last good one; none where none was ever good.
    pub(crate) policy: Option<Arc<Policy>>,
    /// Why it does not run as attached.
    pub(crate) problem: Option<Arc<LoadError>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) breakers: Breakers,
    /// Unlike every other of this process.
    pub(crate) serial: u64,
    /// Whether it ever gave an answer that may be remembered.
    pub(crate) gives_life: AtomicBool,
}

impl Attached {
    pub(super) fn new(
        owner: Owner,
        attachment: Attachment,
        policy: Option<Arc<Policy>>,
        problem: Option<Arc<LoadError>>,
        counters: Arc<Counters>,
        serial: u64,
    ) -> Self {
        let (breakers, gives_life) = (Breakers::default(), AtomicBool::new(false));
        Self { owner, attachment, policy, problem, counters, breakers, serial, gives_life }
    }

    /// Where it wants to be asked. Where it could not be loaded nobody knows, so that its `on_error` answers wherever something
    /// can be refused.
    pub(crate) fn hooks(&self) -> HookSet {
        match &self.policy {
            Some(policy) => policy.program().hooks(),
            None => [Hook::Token, Hook::Request, Hook::ManifestPush, Hook::Pull]
                .into_iter()
                .fold(HookSet::default(), HookSet::with),
        }
    }

    pub(crate) fn wants(&self) -> FactSet {
        self.policy.as_ref().map(|policy| policy.program().wants()).unwrap_or_default()
    }
}

/// What one owner's policies use now.
#[derive(Default)]
pub(crate) struct Load {
    calls: AtomicU32,
    pub(crate) budget: Budget,
    pub(crate) log: LogShare,
}

impl Load {
    /// A place for one call, given back when it is dropped.
    pub(crate) fn enter(&self, most: u32) -> Option<Place<'_>> {
        let more = |calls: u32| (calls < most).then(|| calls.saturating_add(1));
        self.calls.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Place(self))
    }
}

pub(crate) struct Place<'a>(&'a Load);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

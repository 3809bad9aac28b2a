//! Instances kept for reuse: by one policy alone, for so many calls and so long, and never after an error.

use crate::program::Parts;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How an instance may be used again. What a guest keeps in its memory it then finds in the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Most calls of one instance.
    pub calls: u32,
    /// Longest life of one instance.
    pub life: Duration,
}

/// How many idle instances of one class the whole process may keep.
#[derive(Clone)]
pub(crate) struct IdleBudget {
    kept: Arc<AtomicUsize>,
    most: usize,
}

impl IdleBudget {
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: Arc::default(), most }
    }

    fn enter(&self) -> bool {
        let more = |kept: usize| (kept < self.most).then(|| kept.saturating_add(1));
        self.kept.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn leave(&self, instances: usize) {
        self.kept.fetch_sub(instances, Ordering::AcqRel);
    }
}

/// One policy's idle instances.
pub(crate) struct Idle {
    reuse: Reuse,
    most: usize,
    budget: IdleBudget,
    kept: Mutex<Vec<Kept>>,
}

pub(crate) struct Kept {
    pub(crate) parts: Parts,
    pub(crate) calls: u32,
    pub(crate) born: Instant,
}

impl Idle {
    pub(crate) fn new(reuse: Reuse, most: usize, budget: IdleBudget) -> Self {
        Self { reuse, most, budget, kept: Mutex::default() }
    }

    /// An instance that may be used again. What is too old is dropped on the way.
    pub(crate) fn take(&self, now: Instant) -> Option<Kept> {
        let mut expired = Vec::new();
        let taken = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match kept.pop() {
                    Some(one) if now.saturating_duration_since(one.born) >= self.reuse.life => expired.push(one),
                    other => break other,
                }
            }
        };
        self.budget.leave(expired.len().saturating_add(usize::from(taken.is_some())));
        taken
    }

    /// Keeps an instance whose last call went well, if it has calls left and there is room.
    pub(crate) fn give_back(&self, one: Kept) {
        if one.calls >= self.reuse.calls {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.most && self.budget.enter() {
            kept.push(one);
        }
    }

    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        self.budget.leave(dropped.len());
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.clear();
    }
}

//! What of each owner's policies is loaded, is being loaded, and is to be tried again: owners do not wait for each other.

use portcullis_policy::Owner;
use portcullis_tenancy::{policy::Attachment, store::Generation};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// After how long what failed for want of a slot, or of an answer of the store, is tried again; each time twice as long.
const SOON: Duration = Duration::from_secs(1);
/// After how long everything else is.
const LATE: Duration = Duration::from_secs(30);

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is in force.
    Whole,
    /// Some of it is not, for a reason that may be gone in a moment.
    Later,
    /// Some of it is not.
    Broken,
}

/// What is loaded.
#[derive(Default)]
pub struct Loading {
    /// The rules' generation at the last look.
    generation: Option<Generation>,
    owners: HashMap<Owner, Kept>,
}

#[derive(Default)]
struct Kept {
    attachments: Vec<Attachment>,
    is_loading: bool,
    /// Whether something else was attached while it was loaded.
    is_outdated: bool,
    /// How often in a row it failed for a reason that may be gone in a moment.
    failures: u32,
    retry_at: Option<Instant>,
}

/// One owner's policies to be loaded.
#[derive(Debug, PartialEq)]
pub struct Load {
    /// Whose.
    pub owner: Owner,
    /// All of them.
    pub attachments: Vec<Attachment>,
}

impl Loading {
    /// Whether there may be something to load.
    pub fn is_due(&self, generation: Generation, now: Instant) -> bool {
        self.generation != Some(generation)
            || self.owners.values().any(|kept| kept.retry_at.is_some_and(|at| at <= now))
    }

    /// What is to be loaded now, of all that is attached at this generation. Whose policies are just being loaded is looked at
    /// again when that has ended.
    pub fn begin(
        &mut self,
        generation: Generation,
        mut attached: HashMap<Owner, Vec<Attachment>>,
        now: Instant,
    ) -> Vec<Load> {
        self.generation = Some(generation);
        for owner in self.owners.keys() {
            attached.entry(owner.clone()).or_default();
        }
        let mut loads = Vec::new();
        for (owner, attachments) in attached {
            let kept = self.owners.entry(owner.clone()).or_default();
            let is_same = kept.attachments == attachments;
            if is_same && kept.retry_at.is_none_or(|at| at > now) {
                continue;
            }
            if kept.is_loading {
                kept.is_outdated = true;
                continue;
            }
            let failures = if is_same { kept.failures } else { 0 };
            *kept = Kept { attachments: attachments.clone(), is_loading: true, failures, ..Kept::default() };
            loads.push(Load { owner, attachments });
        }
        loads
    }

    /// An owner's load has ended.
    pub fn end(&mut self, owner: &Owner, outcome: Outcome, now: Instant) {
        let Some(kept) = self.owners.get_mut(owner) else { return };
        kept.is_loading = false;
        if std::mem::take(&mut kept.is_outdated) {
            self.generation = None;
        }
        (kept.failures, kept.retry_at) = match outcome {
            Outcome::Whole => (0, None),
            Outcome::Later => {
                let wait = SOON.saturating_mul(2_u32.saturating_pow(kept.failures)).min(LATE);
                (kept.failures.saturating_add(1), now.checked_add(wait))
            }
            Outcome::Broken => (0, now.checked_add(LATE)),
        };
        if kept.attachments.is_empty() && outcome == Outcome::Whole {
            self.owners.remove(owner);
        }
    }
}

#[cfg(test)]
mod tests;

//! What a node does for the others on its store: whose records wait when it is gone, whether a chain was turned back, what is old.

#[cfg(test)]
mod tests;

use super::{KeepError, Room, one_step, stuck};
use portcullis_tenancy::audit::{AdvanceError, Head, Link, Witness, forget};
use portcullis_tenancy::{Store, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After how long another node's waiting records are this one's business: that one is gone.
const ORPHANED: Duration = Duration::from_secs(60);
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// After how long it is tried again where it failed.
const FORGET_AGAIN: Duration = Duration::from_secs(60);

/// What is known of the others.
#[derive(Default)]
pub(super) struct Others {
    /// Where each chain ended when it was seen last.
    seen: HashMap<Box<str>, (u64, Link)>,
    looked_at: Option<Instant>,
    forgot_at: Option<Instant>,
    /// Why a chain is not what it was, records of nodes that are gone have no places, or old ones were not forgotten, where that was
    /// so the last time.
    failed: [Option<Box<str>>; 3],
}

impl Others {
    /// Once a minute; what is old goes once an hour.
    pub(super) async fn look(&mut self, room: Room<'_>) {
        let why = |done: Result<(), KeepError>| done.err().map(|error| error.to_string().into());
        if is_due(&mut self.looked_at, ORPHANED) {
            self.failed[0] = why(self.compare(room).await);
            self.failed[1] = why(self.adopt(room).await);
        }
        let every = if self.failed[2].is_some() { FORGET_AGAIN } else { FORGET_EVERY };
        if is_due(&mut self.forgot_at, every) {
            self.failed[2] = why(forget_old(room).await);
        }
    }

    /// What was wrong when it was looked at last.
    pub(super) fn is_well(&self) -> Result<(), KeepError> {
        let failed = self.failed.iter().flatten().next();
        failed.map_or(Ok(()), |why| Err(KeepError::Earlier(why.clone())))
    }

    /// A chain that ends before where it did is not the one that it was: an older copy of the store took its place.
    async fn compare(&mut self, room: Room<'_>) -> Result<(), KeepError> {
        let heads = room.store.run(|store| async move { store.audit_heads().await }).await?;
        let heads = heads.into_iter().map(|(head, _)| head).filter(|head| head.node != room.audit.node);
        Ok(self.see(heads, &room.audit.keys.witness())?)
    }

    fn see(&mut self, heads: impl Iterator<Item = Head>, witness: &Witness) -> Result<(), AdvanceError> {
        let mut missing = self.seen.clone();
        let mut turned_back = None;
        for head in heads {
            let known = missing.remove(&head.node);
            let goes_on =
                known.is_none_or(|(count, link)| head.count > count || (head.count, head.link) == (count, link));
            if goes_on && witness.has_head(&head) {
                self.seen.insert(head.node, (head.count, head.link));
            } else {
                turned_back = Some((head.node, known.map_or(head.count, |known| known.0)));
            }
        }
        let gone = missing.into_iter().map(|(node, known)| (node, known.0)).next();
        match turned_back.or(gone) {
            Some((node, known)) => Err(AdvanceError::Broken { node, known }),
            None => Ok(()),
        }
    }

    /// Gives the records of nodes that are gone their places. One that fails stops none of the others.
    async fn adopt(&mut self, room: Room<'_>) -> Result<(), KeepError> {
        let now = Timestamp::now();
        let before = now.checked_sub(ORPHANED).unwrap_or(now);
        let mut done = Ok(());
        for node in room.store.run(move |store| async move { store.waiting_nodes(before).await }).await? {
            if node != room.audit.node {
                done = done.and(self.adopt_node(room, &node).await);
            }
        }
        done
    }

    async fn adopt_node(&mut self, room: Room<'_>, node: &str) -> Result<(), KeepError> {
        if !node.is_ascii() {
            // What cannot be read is nobody's.
            return stuck(node, 1);
        }
        loop {
            let step = one_step(room, node.into(), self.seen.get(node).copied()).await?;
            if let Some(head) = step.head {
                self.seen.insert(head.node, (head.count, head.link));
            }
            if step.chained.is_empty() {
                return stuck(node, step.stuck);
            }
        }
    }
}

/// Forgets what is older than `audit.keep_days`, in all chains. One that fails stops none of the others.
async fn forget_old(room: Room<'_>) -> Result<(), KeepError> {
    if room.config.keep_days == 0 {
        return Ok(());
    }
    let now = Timestamp::now();
    let kept = Duration::from_secs(room.config.keep_days.saturating_mul(86_400));
    let before = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
    let mut done = Ok(());
    for (head, _) in room.store.run(|store| async move { store.audit_heads().await }).await? {
        let audit = Arc::clone(room.audit);
        let forgetting =
            move |store: Arc<dyn Store>| async move { Ok(forget(&*store, &audit.keys, &head, before, now).await) };
        match room.store.run(forgetting).await.map_err(KeepError::from).and_then(|gone| Ok(gone?)) {
            Ok(0) => {}
            Ok(gone) => tracing::info!(records = gone, "audit records older than audit.keep_days were forgotten"),
            Err(error) => done = done.and(Err(error)),
        }
    }
    done
}

/// Whether it is time again.
fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let is_due = last.is_none_or(|at| at.elapsed() >= every);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

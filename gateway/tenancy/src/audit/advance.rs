//! A chain goes on, and its oldest records are forgotten: never over something that is not what was written down.

use super::Entry;
use super::chain::{AuditKeys, Head, Link};
use super::verify::{Fault, Verifier};
use crate::Timestamp;
use crate::store::{Store, StoreError};

/// Records that one step takes.
const BATCH: u32 = 500;
/// How often a step is tried that somebody else was faster with.
const TRIES: usize = 5;

/// Why a chain does not go on.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The store failed; it is tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain's end is not what was written down. To go on would vouch for it.
    #[error(
        "the audit chain of node {node} ended at record {known} once, and does not any more; `portcullis audit verify` says what is wrong with it"
    )]
    Broken {
        /// Whose.
        node: Box<str>,
        /// Where it ended, as far as is known.
        known: u64,
    },
    /// A record is not what was written down.
    #[error("{0}; `portcullis audit verify` says more")]
    Fault(#[from] Fault),
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Records that have their places now; none wait any more where there are none.
    pub chained: Vec<Entry>,
    /// Where the chain ends.
    pub head: Option<Head>,
    /// How many of them are not what was written down: they were changed or put in while they waited, and `verify` names them.
    pub changed: u64,
    /// How many still wait because their ids cannot be read: somebody put them in.
    pub stuck: u64,
}

/// Gives records that wait at a node their places in its chain, at most so many as one step takes. `known` is how far the chain had
/// got when it was seen last: a chain that was cut since, or written anew, does not go on. A record that was changed stops none.
pub async fn advance(
    store: &dyn Store,
    keys: &AuditKeys,
    node: &str,
    known: Option<(u64, Link)>,
) -> Result<Step, AdvanceError> {
    for _ in 0..TRIES {
        let before = store.audit_head(node).await?;
        check(store, keys, node, before.as_ref(), known).await?;
        // The store leaves them out: set aside here, a page of them would keep all others from their places.
        let stuck = store.stuck_records(node).await?;
        let waiting = store.waiting_records(Some(node), BATCH).await?;
        if waiting.is_empty() {
            return Ok(Step { head: before, stuck, ..Step::default() });
        }
        let witness = keys.witness();
        let changed = count(waiting.iter().filter(|entry| !witness.has_sealed(entry)).count());
        let (chained, after) = keys.chain(node, before.as_ref(), waiting);
        match store.chain_records(before.as_ref(), &after, &chained).await {
            // Another process of this node, or a node that takes this one for gone.
            Err(StoreError::Changed) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(Step { chained, head: Some(after), changed, stuck }),
        }
    }
    Err(StoreError::Changed.into())
}

fn count(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
}

async fn check(
    store: &dyn Store,
    keys: &AuditKeys,
    node: &str,
    head: Option<&Head>,
    known: Option<(u64, Link)>,
) -> Result<(), AdvanceError> {
    let (count, link) = known.unwrap_or((0, Link::first(node)));
    let is_it = match head {
        None => count == 0,
        Some(head) if head.count == count => head.link == link && keys.witness().has_head(head),
        Some(head) if head.count < count || !keys.witness().has_head(head) => false,
        Some(head) => known.is_none() || goes_on(store, keys, head, count, link).await?,
    };
    let known = count.max(head.map_or(0, |head| head.count));
    if is_it { Ok(()) } else { Err(AdvanceError::Broken { node: node.into(), known }) }
}

/// Whether a chain's records lead from where it was seen last, or from its base where that lies further on, to its head.
async fn goes_on(
    store: &dyn Store,
    keys: &AuditKeys,
    head: &Head,
    mut count: u64,
    mut link: Link,
) -> Result<bool, StoreError> {
    if let Some(base) = head.base.as_ref().filter(|base| base.count > count) {
        if !base.is_base || base.node != head.node || !keys.witness().has_checkpoint(base) {
            return Ok(false);
        }
        (count, link) = (base.count, base.link);
    }
    while count < head.count {
        let page = store.chained_records(&head.node, count, BATCH).await?;
        if page.is_empty() {
            return Ok(false);
        }
        for entry in &page {
            // What got its place after the head was read is not looked at.
            if count == head.count {
                break;
            }
            count = count.saturating_add(1);
            if entry.sequence != Some(count) {
                return Ok(false);
            }
            link = link.then(count, &entry.record);
        }
    }
    Ok(count == head.count && link == head.link)
}

/// Forgets a chain's records from before a time; a signed checkpoint stays as the base of those that follow. Returns how many
/// went; none where somebody else is at it.
pub async fn forget(
    store: &dyn Store,
    keys: &AuditKeys,
    head: &Head,
    before: Timestamp,
    now: Timestamp,
) -> Result<u64, AdvanceError> {
    let witness = keys.witness();
    let mut verifier = Verifier::new(&witness, &head.node, head.base.as_ref(), &[])?;
    let begun = verifier.count();
    let mut end = (begun, verifier.link());
    'pages: while verifier.count() < head.count {
        let page = store.chained_records(&head.node, verifier.count(), BATCH).await?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            // The first that stays is looked at as well: its time may be what was changed.
            if let Err(fault) = verifier.take(entry) {
                // Somebody else may have forgotten it meanwhile.
                let now = store.audit_head(&head.node).await?;
                return if now.is_some_and(|now| now.base != head.base) { Ok(0) } else { Err(fault.into()) };
            }
            if entry.record.at >= before {
                break 'pages;
            }
            end = (verifier.count(), verifier.link());
        }
    }
    if end.0 > begun {
        let base = keys.checkpoint(&head.node, end.0, end.1, now, true);
        match store.set_audit_base(head.base.as_ref(), &base).await {
            // Whoever was faster forgets them.
            Err(StoreError::Changed) => return Ok(0),
            set => set?,
        }
    }
    if end.0 == 0 {
        return Ok(0);
    }
    // What a crash left behind the base goes as well.
    let mut gone = 0_u64;
    loop {
        match store.forget_records(&head.node, end.0, BATCH).await? {
            0 => return Ok(gone),
            more => gone = gone.saturating_add(more),
        }
    }
}

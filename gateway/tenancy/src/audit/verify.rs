//! Whether a chain is what was written down. It names the first record at which it is not.

use super::chain::{Head, Link, Witness};
use super::checkpoint::Checkpoint;
use super::{Entry, Record};
use std::fmt;

/// The first thing that is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// Whose chain.
    pub node: Box<str>,
    /// The record's place.
    pub sequence: u64,
    /// What stands there, where something does.
    pub record: Option<Box<Record>>,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It was changed, or put here from elsewhere.
    Changed,
    /// It is not there, and later ones are.
    Gone,
    /// The place is taken already: it was put in, or put elsewhere.
    OutOfPlace,
    /// It and all after it are not there; so many there were.
    Cut {
        /// Records that were there.
        of: u64,
    },
    /// It was put behind the chain's end.
    Beyond,
    /// The chain's head is not the one that was written down.
    Head,
    /// The chain up to here is not the one that was signed.
    Rewritten {
        /// When it was signed.
        signed: crate::Timestamp,
    },
    /// A checkpoint is not this deployment's, or was changed.
    Checkpoint,
    /// Records before it were taken away, and nothing vouches for that.
    Base,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, sequence) = (&self.node, self.sequence);
        match &self.wrong {
            Wrong::Changed => write!(f, "record {sequence} of node {node} was changed, or moved there"),
            Wrong::Gone => write!(f, "record {sequence} of node {node} is gone"),
            Wrong::OutOfPlace => {
                write!(f, "record {sequence} of node {node} was put in or moved: its place was taken already")
            }
            Wrong::Cut { of } => write!(f, "records {sequence} to {of} of node {node} are gone from the chain's end"),
            Wrong::Beyond => write!(f, "record {sequence} of node {node} stands behind the chain's end"),
            Wrong::Head => write!(f, "the head of node {node}'s chain, at record {sequence}, was changed"),
            Wrong::Rewritten { signed } => write!(
                f,
                "the chain of node {node} was written anew: up to record {sequence} it is not what was signed at {signed}"
            ),
            Wrong::Checkpoint => write!(
                f,
                "the checkpoint of node {node} at record {sequence} was not signed by this deployment, or was changed"
            ),
            Wrong::Base => {
                write!(f, "what came before record {sequence} of node {node} was taken away by nobody who may")
            }
        }?;
        match &self.record {
            Some(record) => write!(f, " ({} by {} at {}, id {})", record.kind, record.actor, record.at, record.id),
            None => Ok(()),
        }
    }
}

/// A chain that is what was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose.
    pub node: Box<str>,
    /// How far it goes.
    pub count: u64,
    /// Records that were looked at.
    pub seen: u64,
    /// Checkpoints that it was compared with.
    pub checkpoints: u64,
    /// Checkpoints from before what is kept.
    pub older: u64,
}

/// A chain under verification, record by record.
pub struct Verifier<'w> {
    witness: &'w Witness,
    node: Box<str>,
    count: u64,
    link: Link,
    seen: u64,
    /// Not compared yet, in order.
    checkpoints: std::iter::Peekable<std::vec::IntoIter<Checkpoint>>,
    compared: u64,
    older: u64,
}

impl<'w> Verifier<'w> {
    /// Begins at a node's first record, or behind its base. Checkpoints of other nodes are left out.
    pub fn new(
        witness: &'w Witness,
        node: &str,
        base: Option<&Checkpoint>,
        checkpoints: &[Checkpoint],
    ) -> Result<Self, Fault> {
        let (count, link) = match base {
            None => (0, Link::first(node)),
            Some(base) if base.is_base && *base.node == *node && witness.has_checkpoint(base) => {
                (base.count, base.link)
            }
            Some(base) => {
                let sequence = base.count.saturating_add(1);
                return Err(Fault { node: node.into(), sequence, record: None, wrong: Wrong::Base });
            }
        };
        Self::begin(witness, node, count, link, checkpoints)
    }

    /// Begins behind any checkpoint, where a part of a chain is at hand alone.
    pub fn behind(witness: &'w Witness, begin: &Checkpoint, checkpoints: &[Checkpoint]) -> Result<Self, Fault> {
        Self::begin(witness, &begin.node, begin.count, begin.link, checkpoints)
    }

    fn begin(
        witness: &'w Witness,
        node: &str,
        count: u64,
        link: Link,
        checkpoints: &[Checkpoint],
    ) -> Result<Self, Fault> {
        let fault = |sequence, wrong| Fault { node: node.into(), sequence, record: None, wrong };
        let mut own: Vec<Checkpoint> = checkpoints.iter().filter(|one| *one.node == *node).cloned().collect();
        own.sort_by_key(|one| one.count);
        if let Some(forged) = own.iter().find(|one| !witness.has_checkpoint(one)) {
            return Err(fault(forged.count, Wrong::Checkpoint));
        }
        let mut verifier = Self {
            witness,
            node: node.into(),
            count,
            link,
            seen: 0,
            checkpoints: own.into_iter().peekable(),
            compared: 0,
            older: 0,
        };
        while verifier.checkpoints.next_if(|one| one.count < count).is_some() {
            verifier.older = verifier.older.saturating_add(1);
        }
        verifier.compare(None)?;
        Ok(verifier)
    }

    /// How far it has got.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What the records up to there come to.
    pub fn link(&self) -> Link {
        self.link
    }

    /// The next record.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Fault> {
        let next = self.count.saturating_add(1);
        let sequence = entry.sequence.unwrap_or_default();
        if sequence > next {
            return Err(self.fault(next, None, Wrong::Gone));
        }
        if sequence < next {
            return Err(self.fault(sequence, Some(&entry.record), Wrong::OutOfPlace));
        }
        let link = self.link.then(next, &entry.record);
        if entry.record.node != self.node || !self.witness.has_linked(link, &entry.mac) {
            return Err(self.fault(next, Some(&entry.record), Wrong::Changed));
        }
        self.count = next;
        self.link = link;
        self.seen = self.seen.saturating_add(1);
        self.compare(Some(&entry.record))
    }

    /// All records were taken. Without a head, as in an export, the end is where they end.
    pub fn end(mut self, head: Option<&Head>) -> Result<Verified, Fault> {
        let next = self.count.saturating_add(1);
        if let Some(head) = head {
            if !self.witness.has_head(head) {
                return Err(self.fault(self.count, None, Wrong::Head));
            }
            if head.count > self.count {
                return Err(self.fault(next, None, Wrong::Cut { of: head.count }));
            }
            if head.count < self.count {
                return Err(self.fault(head.count.saturating_add(1), None, Wrong::Beyond));
            }
            if head.link != self.link {
                return Err(self.fault(self.count, None, Wrong::Head));
            }
        }
        if let Some(further) = self.checkpoints.next() {
            return Err(self.fault(next, None, Wrong::Cut { of: further.count }));
        }
        Ok(Verified {
            node: self.node,
            count: self.count,
            seen: self.seen,
            checkpoints: self.compared,
            older: self.older,
        })
    }

    fn compare(&mut self, record: Option<&Record>) -> Result<(), Fault> {
        let count = self.count;
        while let Some(checkpoint) = self.checkpoints.next_if(|one| one.count <= count) {
            if checkpoint.link != self.link {
                return Err(self.fault(count, record, Wrong::Rewritten { signed: checkpoint.at }));
            }
            self.compared = self.compared.saturating_add(1);
        }
        Ok(())
    }

    fn fault(&self, sequence: u64, record: Option<&Record>, wrong: Wrong) -> Fault {
        Fault { node: self.node.clone(), sequence, record: record.cloned().map(Box::new), wrong }
    }
}

/// Verifies a whole chain.
pub fn verify(
    witness: &Witness,
    head: &Head,
    entries: impl IntoIterator<Item = Entry>,
    checkpoints: &[Checkpoint],
) -> Result<Verified, Fault> {
    let mut verifier = Verifier::new(witness, &head.node, head.base.as_ref(), checkpoints)?;
    for entry in entries {
        verifier.take(&entry)?;
    }
    verifier.end(Some(head))
}

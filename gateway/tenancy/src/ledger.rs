//! The record of what passes: which blobs, manifests, tags and uploads belong to which project's repository.

use crate::{ProjectId, RobotId, Timestamp};
use portcullis_oci::manifest::Manifest;
use portcullis_oci::{Digest, RepositoryName, Tag};

/// Who did it, as it is written down: `acme+ci`.
pub type Actor = Box<str>;

/// A manifest that was pushed and that the upstream took.
#[derive(Clone, Debug, PartialEq)]
pub struct PushedManifest {
    /// The project.
    pub project: ProjectId,
    /// The repository, by its public name.
    pub repository: RepositoryName,
    /// The manifest's facts.
    pub manifest: Manifest,
    /// The tags that it was pushed under.
    pub tags: Vec<Tag>,
    /// When.
    pub pushed_at: Timestamp,
    /// By whom.
    pub pushed_by: Actor,
}

/// What is known of a recorded manifest, as a referrers list wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its artifact type.
    pub artifact_type: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Its annotations, in the document's order.
    pub annotations: Vec<(String, String)>,
    /// When it was pushed last.
    pub pushed_at: Timestamp,
}

/// An upload session under way. The row is what lets a push that began under a valid token finish (T6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Random identity, sealed into the upload's location.
    pub id: Box<str>,
    /// The project.
    pub project: ProjectId,
    /// The repository, by its public name.
    pub repository: RepositoryName,
    /// The robot that began it.
    pub robot: RobotId,
    /// Path and query of where it goes on upstream; none of an upload from before that was kept.
    pub upstream: Option<Box<str>>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
}

/// A blob that the upstream took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// The project.
    pub project: ProjectId,
    /// The repository, by its public name.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as the upstream states it.
    pub size: u64,
    /// When.
    pub at: Timestamp,
}

/// A blob that a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as it is recorded.
    pub size: u64,
    /// Whether it is charged, and so served.
    pub is_charged: bool,
}

/// How what was done upstream becomes what is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge<'a> {
    /// By this upload or operation: its reservation is turned into it, its upload closed, and its journal entry struck out. More
    /// than it has reserved must have room.
    By(&'a str),
    /// By this operation, after a crash: the same, whatever room there is. What is there can be pulled, so it counts.
    Found(&'a str),
    /// Whatever room there is: it was there before it was counted.
    Anyway,
}

impl<'a> Charge<'a> {
    /// The upload or operation that it is by, and whose reservation it ends.
    pub fn operation(self) -> Option<&'a str> {
        match self {
            Self::By(id) | Self::Found(id) => Some(id),
            Self::Anyway => None,
        }
    }
}

/// What a deletion took off the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The tags that went along.
    pub tags: Vec<Tag>,
    /// The bytes that the project gets back.
    pub reclaimed: u64,
    /// Blobs that nothing refers to any more: from now on they are not served.
    pub uncharged: Vec<Digest>,
}

/// A blob that is to be taken away upstream, from each of these repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlinkable {
    /// The project.
    pub project: ProjectId,
    /// The blob.
    pub digest: Digest,
    /// Who holds it.
    pub repositories: Vec<RepositoryName>,
}

/// A blob's place in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The ledger does not know it there.
    Unknown,
    /// It is held and charged; since when no manifest names it, if none does.
    Held {
        /// Its orphanage.
        orphan_since: Option<Timestamp>,
    },
    /// It is not charged, and so not served.
    Uncharged,
}

/// A write to the upstream that a crash may cut off: written down before it, struck out once it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Random identity; that of its reservation, where it has one.
    pub id: Box<str>,
    /// The project.
    pub project: ProjectId,
    /// The repository, by its public name.
    pub repository: RepositoryName,
    /// What is being done.
    pub step: JournalStep,
    /// By whom.
    pub actor: Actor,
    /// When it began.
    pub started_at: Timestamp,
}

/// What a journal entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalStep {
    /// A tag is deleted by pushing a throw-away manifest under it and deleting that.
    DeleteTag {
        /// The tag.
        tag: Tag,
        /// The throw-away's digest.
        throwaway: Digest,
    },
    /// A blob comes, by an upload's end or by a mount.
    PutBlob {
        /// The blob.
        digest: Digest,
    },
    /// A manifest comes.
    PutManifest {
        /// The manifest.
        digest: Digest,
        /// The tags that it is to stand under.
        tags: Vec<Tag>,
    },
    /// A manifest goes.
    DeleteManifest {
        /// The manifest.
        digest: Digest,
    },
    /// A blob goes from a repository.
    DeleteBlob {
        /// The blob.
        digest: Digest,
    },
}

/// What a walk over the upstream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// To learn what is there.
    Import,
    /// To compare it with the record.
    Reconcile,
}

impl Walk {
    /// As it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Reconcile => "reconcile",
        }
    }
}

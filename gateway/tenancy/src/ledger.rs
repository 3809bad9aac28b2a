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
    /// When it began.
    pub started_at: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
}

/// A write to the upstream in two steps that a crash may cut: written down before the first, struck out after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Random identity.
    pub id: Box<str>,
    /// The project.
    pub project: ProjectId,
    /// The repository, by its public name.
    pub repository: RepositoryName,
    /// What is being done.
    pub step: JournalStep,
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
}

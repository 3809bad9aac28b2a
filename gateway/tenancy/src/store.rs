//! What the rules need to be kept. Every change of a rule (projects, robots, grants, keys) bumps the generation in its own
//! transaction; records of what passes (links, manifests, tags, uploads) do not.

use crate::grant::{Consent, ForeignGrant};
use crate::key::StoredKey;
use crate::ledger::{JournalEntry, PushedManifest, RecordedManifest, Upload};
use crate::policy::{Attachment, PolicyName};
use crate::token::ScopeSet;
use crate::{Project, ProjectId, Robot, RobotId, Timestamp};
use portcullis_oci::{Digest, RepositoryName, Tag};

/// A store failed or refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique name, prefix or id is taken; which one.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// What should change is not there (any more).
    #[error("it is not in the store (any more)")]
    Missing,
    /// What should change is not what it was any more: somebody else was faster.
    #[error("it was changed meanwhile")]
    Changed,
    /// The store cannot be reached or answered with an error.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row holds what this version cannot read.
    #[error("the store holds something unreadable: {0}")]
    Unreadable(String),
}

/// A generation of the rules: equal generations mean equal rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub i64);

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The store: two implementations of it, SQLite and PostgreSQL, pass one suite.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// The rules' generation now.
    async fn generation(&self) -> Result<Generation>;
    /// The deployment's random id; made with `candidate` where there is none yet.
    async fn deployment(&self, candidate: &str) -> Result<String>;

    /// Adds a project. `Taken("project name")` and `Taken("upstream prefix")` (equal to, above or below another project's, deleted ones included, by whole components).
    async fn add_project(&self, project: &Project) -> Result<()>;
    /// A project by name, deleted or not.
    async fn project(&self, name: &str) -> Result<Option<Project>>;
    /// All projects by name, deleted ones included.
    async fn projects(&self) -> Result<Vec<Project>>;
    /// Marks a project deleted, and with it its robots.
    async fn delete_project(&self, id: &ProjectId, now: Timestamp) -> Result<()>;
    /// Forgets a deleted project with all its records; its name and prefix are free again.
    async fn purge_project(&self, id: &ProjectId) -> Result<()>;

    /// Adds a robot with its secrets and grants. `Taken("robot name")`.
    async fn add_robot(&self, robot: &Robot) -> Result<()>;
    /// A robot by its project's and its own name; none where the project is deleted.
    async fn robot_named(&self, project: &str, name: &str) -> Result<Option<Robot>>;
    /// A robot by id; none where its project is deleted.
    async fn robot(&self, id: &RobotId) -> Result<Option<Robot>>;
    /// A project's robots by name.
    async fn robots(&self, project: &ProjectId) -> Result<Vec<Robot>>;
    /// Puts a robot's secrets in place of those it has, if `newest` is still the id of its newest one; else `Taken("newest secret")`.
    async fn replace_secrets(&self, robot: &Robot, newest: &str) -> Result<()>;
    /// Disables (some time) or enables (none) a robot.
    async fn set_disabled(&self, id: &RobotId, disabled_at: Option<Timestamp>) -> Result<()>;
    /// Deletes a robot with its secrets, grants and open uploads.
    async fn delete_robot(&self, id: &RobotId) -> Result<()>;
    /// Notes when secrets were last used: (secret id, time). Does not bump the generation; a secret that is gone is no error.
    async fn note_use(&self, uses: &[(Box<str>, Timestamp)]) -> Result<()>;

    /// Grants on this project's repositories held by other projects' robots; on every project's where none is given.
    async fn foreign_grants(&self, project: Option<&ProjectId>) -> Result<Vec<ForeignGrant>>;
    /// Sets a foreign grant's consent and says which grant it was. `Missing` where a robot has it on its own project.
    async fn set_consent(&self, grant_id: &str, consent: Consent, now: Timestamp) -> Result<ForeignGrant>;

    /// All signing keys, newest first.
    async fn keys(&self) -> Result<Vec<StoredKey>>;
    /// Adds a key, lets every older one that has no end verify until `older_verify_until`, and forgets those that ended before `now`.
    async fn add_key(&self, key: &StoredKey, older_verify_until: Timestamp, now: Timestamp) -> Result<()>;

    /// Attaches a policy, or puts it in the place of its owner's one of that name, and keeps its component. `replaces` is when
    /// that one was attached, none where there is none; `Changed` where that is not so any more.
    async fn put_attachment(
        &self,
        attachment: &Attachment,
        replaces: Option<Timestamp>,
        component: &[u8],
    ) -> Result<()>;
    /// Detaches a policy; a component that nothing names any more is forgotten.
    async fn remove_attachment(&self, project: Option<&ProjectId>, name: &PolicyName) -> Result<()>;
    /// What is attached to the platform, then to each living project, in the chains' order.
    async fn attachments(&self) -> Result<Vec<Attachment>>;
    /// A component's bytes.
    async fn component(&self, digest: &Digest) -> Result<Option<Vec<u8>>>;

    /// Keeps a scope set; an equal one lives as long as the later of the two.
    async fn add_scope_set(&self, set: &ScopeSet) -> Result<()>;
    /// A scope set by id.
    async fn scope_set(&self, id: &str) -> Result<Option<ScopeSet>>;

    /// Opens an upload.
    async fn open_upload(&self, upload: &Upload) -> Result<()>;
    /// An upload by id.
    async fn upload(&self, id: &str) -> Result<Option<Upload>>;
    /// Closes an upload without a blob; a closed one is no error.
    async fn close_upload(&self, id: &str) -> Result<()>;
    /// Forgets uploads and scope sets that ended before `now`; returns how many.
    async fn sweep(&self, now: Timestamp) -> Result<u64>;

    /// Records that the repository holds the blob, and closes the upload that brought it, in one transaction.
    async fn add_link(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        upload: Option<&str>,
        now: Timestamp,
    ) -> Result<()>;
    /// Whether the repository holds the blob.
    async fn has_link(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<bool>;
    /// Which of these the repository does not hold.
    async fn missing_links(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<Vec<Digest>>;
    /// The sizes of those blobs that the project holds.
    async fn stored_sizes(&self, project: &ProjectId, digests: &[Digest]) -> Result<Vec<(Digest, u64)>>;
    /// The bytes that the project holds, each digest counted once, and its quota.
    async fn usage(&self, project: &ProjectId) -> Result<(u64, Option<u64>)>;
    /// The project's links by repository and digest, after `after`, at most `limit`.
    async fn links(
        &self,
        project: &ProjectId,
        after: Option<&(RepositoryName, Digest)>,
        limit: u32,
    ) -> Result<Vec<(RepositoryName, Digest)>>;
    /// Forgets that the repository holds the blob.
    async fn remove_link(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<()>;

    /// Records a pushed manifest, its references and its tags, in one transaction.
    async fn add_manifest(&self, pushed: &PushedManifest) -> Result<()>;
    /// A recorded manifest.
    async fn manifest(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RecordedManifest>>;
    /// Which of these manifests the repository does not hold.
    async fn missing_manifests(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<Vec<Digest>>;
    /// All manifests of a repository, by digest.
    async fn manifests(&self, project: &ProjectId, repository: &RepositoryName) -> Result<Vec<RecordedManifest>>;
    /// Forgets a manifest and every tag on it; returns those tags.
    async fn remove_manifest(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Tag>>;
    /// Forgets a tag; returns the digest that it stood on.
    async fn remove_tag(&self, project: &ProjectId, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>>;
    /// A repository's tags with their digests, by tag.
    async fn tags(&self, project: &ProjectId, repository: &RepositoryName) -> Result<Vec<(Tag, Digest)>>;
    /// The manifests that have this subject, by digest, after `after`, at most `limit`.
    async fn referrers(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        subject: &Digest,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<RecordedManifest>>;
    /// The project's repositories that hold a manifest, by name, after `after`, at most `limit`.
    async fn repositories(&self, project: &ProjectId, after: Option<&str>, limit: u32) -> Result<Vec<RepositoryName>>;

    /// Takes the lock on a tag until `until`, unless somebody else holds it at `now`.
    async fn lock_tag(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        tag: &Tag,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool>;
    /// Gives the lock back, if it is still this owner's.
    async fn unlock_tag(&self, project: &ProjectId, repository: &RepositoryName, tag: &Tag, owner: &str) -> Result<()>;

    /// Writes a journal entry down before the upstream is changed.
    async fn begin(&self, entry: &JournalEntry) -> Result<()>;
    /// Strikes it out.
    async fn finish(&self, id: &str) -> Result<()>;
    /// Entries that began before `before` and were not struck out.
    async fn unfinished(&self, before: Timestamp) -> Result<Vec<JournalEntry>>;
}

//! What the rules need to be kept. Every change of a rule (projects, robots, grants, keys) bumps the generation in its own
//! transaction; records of what passes (links, manifests, tags, uploads) do not.

use crate::audit::{Checkpoint, Entry, Head, Search};
use crate::grant::{Consent, ForeignGrant};
use crate::key::StoredKey;
use crate::ledger::{
    Charge, HeldBlob, JournalEntry, PushedManifest, RecordedManifest, Removed, Standing, StoredBlob, Unlinkable,
    Upload, Walk,
};
use crate::limit::{Change, LimitOwner, Overrides};
use crate::policy::{Attachment, PolicyName};
use crate::quota::{Account, Admission, Breakdown, Claim, Decision, Lease, QuotaRequest, Total, Unpaid};
use crate::token::ScopeSet;
use crate::{Project, ProjectId, Robot, RobotId, Timestamp};
use portcullis_oci::{Digest, RepositoryName, Tag};
use std::sync::Arc;

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
    /// Deletes a robot with its secrets, grants and open uploads, which are left to be given up upstream.
    async fn delete_robot(&self, id: &RobotId) -> Result<()>;
    /// Notes when secrets were last used: (secret id, time). Does not bump the generation; a secret that is gone is no error.
    async fn note_use(&self, uses: &[(Box<str>, Timestamp)]) -> Result<()>;

    /// Notes that this node is there at `now`, forgets those that were not seen after `since`, and returns how many are left.
    async fn show_node(&self, node: &str, now: Timestamp, since: Timestamp) -> Result<u64>;

    /// Changes the limits of a living project, or of one's robot, and returns what they are afterwards.
    async fn change_limits(&self, owner: LimitOwner<'_>, change: &Change) -> Result<Overrides>;

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
    /// Closes an upload without a blob, and releases what it has reserved; a closed one is no error.
    async fn close_upload(&self, id: &str) -> Result<()>;
    /// Notes where an upload goes on upstream.
    async fn move_upload(&self, id: &str, upstream: &str) -> Result<()>;
    /// A request of an upload is over: the holder gives its lease back, and notes where it goes on upstream if that has changed.
    async fn leave_upload(&self, id: &str, holder: &str, upstream: Option<&str>) -> Result<()>;
    /// Uploads whose reservation ended before `now`, or that ended themselves where they have none, and those whose robot or project
    /// was deleted and at which nobody is at work, at most `limit`, of each project in turn. One whose end is in the journal is left to whoever finds out
    /// what became of it.
    async fn ended_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<Upload>>;
    /// Forgets scope sets that ended before `now`, and releases reservations that did and are no upload's; returns how many.
    async fn sweep(&self, now: Timestamp) -> Result<u64>;

    /// A project's account.
    async fn account(&self, project: &ProjectId) -> Result<Account>;
    /// Every living project's account.
    async fn accounts(&self) -> Result<Vec<(ProjectId, Account)>>;
    /// What counts most in a project: at most `limit` repositories and as many blobs.
    async fn breakdown(&self, project: &ProjectId, limit: u32) -> Result<Breakdown>;
    /// Sets what a project may hold.
    async fn set_quota(&self, project: &ProjectId, quota: Option<u64>, soft_percent: Option<u8>) -> Result<()>;
    /// The cap over all projects, and what they use.
    async fn total(&self) -> Result<Total>;
    /// Sets the cap over all projects.
    async fn set_total(&self, cap: Option<u64>) -> Result<()>;
    /// Since when nothing is written upstream; none where it is.
    async fn maintenance(&self) -> Result<Option<Timestamp>>;
    /// Writes to the upstream at which somebody has been seen at work since `since`.
    async fn under_way(&self, since: Timestamp) -> Result<u64>;
    /// Begins or ends maintenance. It is a rule: the generation grows.
    async fn set_maintenance(&self, since: Option<Timestamp>) -> Result<()>;
    /// Keeps a request for a quota.
    async fn add_quota_request(&self, request: &QuotaRequest) -> Result<()>;
    /// All requests, or one project's, the newest first.
    async fn quota_requests(&self, project: Option<&ProjectId>) -> Result<Vec<QuotaRequest>>;
    /// Decides about a pending request, and sets the quota where it is granted. `Missing` where none is pending by that id.
    async fn decide_quota_request(&self, id: &str, decision: &Decision) -> Result<QuotaRequest>;

    /// Reserves room, and writes the claim's journal entry down, in one transaction; or refuses, and changes nothing.
    async fn reserve(&self, claim: &Claim) -> Result<Admission>;
    /// Lowers a reservation to so many bytes and lets it end at that time; a lower one stays as it is, and so does one whose lease
    /// somebody else has.
    async fn shrink(&self, id: &str, holder: &str, bytes: u64, expires_at: Timestamp) -> Result<()>;
    /// Releases a reservation, and strikes its journal entry out: nothing was done upstream, or it was undone.
    async fn release(&self, id: &str) -> Result<()>;
    /// Shows that somebody is at work on these operations: reservations last until `until`, journal entries are as of `now`, and
    /// what of them the lease's holder has lasts as long as that. What is being changed this moment is left for the next time.
    async fn renew(&self, ids: &[Box<str>], now: Timestamp, until: Timestamp, lease: Option<&Lease>) -> Result<()>;
    /// Compares a project's counter with what it has on record, and returns both; sets the counter right where it is to.
    async fn recount(&self, project: &ProjectId, repair: bool) -> Result<(u64, u64)>;

    /// Records that the repository holds the blob, and charges it where the project was not charged with it.
    async fn add_blob(&self, blob: &StoredBlob, charge: Charge<'_>) -> Result<Admission>;
    /// Records a blob that the upstream took and the project is not to be charged with, and ends its operation: it is not served,
    /// and is taken away like any other that is not charged. Where the project is charged with it already, it is linked. While it
    /// is being taken away this moment, nothing changes, and the journal keeps it.
    async fn disown(&self, blob: &StoredBlob, operation: &str) -> Result<()>;
    /// A blob's place in a repository.
    async fn standing(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<Standing>;
    /// Whether the repository holds the blob, charged or not.
    async fn has_link(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<bool>;
    /// Begins a blob's wait for a manifest anew, where it waits.
    async fn renew_orphan(&self, project: &ProjectId, digest: &Digest, now: Timestamp) -> Result<()>;
    /// Uncharges blobs that no manifest has named since `before`, at most `limit`, of each project as many; returns them with
    /// their sizes.
    async fn expire_orphans(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<(ProjectId, Digest, u64)>>;
    /// A blob that has been uncharged since `before`, the oldest of whichever project's turn it is after `after`. Until `until`
    /// nobody else gets it, and nobody can charge it again.
    async fn take_unlinkable(
        &self,
        before: Timestamp,
        now: Timestamp,
        until: Timestamp,
        after: Option<&ProjectId>,
    ) -> Result<Option<Unlinkable>>;
    /// An uncharged blob is gone upstream, and forgotten; or the upstream keeps it, and it stays unserved.
    async fn unlinked(&self, project: &ProjectId, digest: &Digest, is_gone: bool) -> Result<()>;
    /// Which of these the repository does not hold.
    async fn missing_links(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<Vec<Digest>>;
    /// The sizes of those blobs that the project holds.
    async fn stored_sizes(&self, project: &ProjectId, digests: &[Digest]) -> Result<Vec<(Digest, u64)>>;
    /// What the project is not charged with of a manifest and the blobs that it names.
    async fn unpaid(&self, project: &ProjectId, manifest: Option<&Digest>, blobs: &[Digest]) -> Result<Unpaid>;
    /// The project's links by repository and digest, after `after`, at most `limit`.
    async fn links(
        &self,
        project: &ProjectId,
        after: Option<&(RepositoryName, Digest)>,
        limit: u32,
    ) -> Result<Vec<(RepositoryName, Digest)>>;
    /// The blobs that a repository holds, charged or not, by digest, after `after`, at most `limit`.
    async fn held_blobs(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<HeldBlob>>;
    /// Forgets that the repository holds the blob, and uncharges it where no other does; returns the bytes that come back.
    async fn remove_link(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<u64>;

    /// Records a pushed manifest, its references and its tags, in one transaction; charges it, and what it names that was not
    /// charged. `sizes` are those of named blobs that the ledger does not know, as the upstream states them. What was pushed is
    /// linked to its repository with all that the project knows and it names, foreign layers aside.
    async fn add_manifest(
        &self,
        pushed: &PushedManifest,
        sizes: &[(Digest, u64)],
        charge: Charge<'_>,
    ) -> Result<Admission>;
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
    /// All manifests of a repository, by digest, with their sizes.
    async fn manifests(&self, project: &ProjectId, repository: &RepositoryName) -> Result<Vec<(Digest, u64)>>;
    /// Forgets a manifest and every tag on it, and uncharges it and what nothing refers to any more.
    async fn remove_manifest(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<Removed>;
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
    /// Strikes it out. Where a push of the same thing is under way beside its deletion, both stay until the upstream was asked.
    async fn finish(&self, id: &str) -> Result<()>;
    /// Entries at which nobody has been seen at work since `before`.
    async fn unfinished(&self, before: Timestamp) -> Result<Vec<JournalEntry>>;

    /// The repository after which a walk goes on; none where it begins.
    async fn walk_position(&self, project: &ProjectId, walk: Walk) -> Result<Option<Box<str>>>;
    /// Notes how far a walk has got; none ends it.
    async fn set_walk_position(
        &self,
        project: &ProjectId,
        walk: Walk,
        position: Option<&RepositoryName>,
        now: Timestamp,
    ) -> Result<()>;

    /// This store for one call that changes something: the record goes along in the change's own transaction, so that either both
    /// are there or neither is. What changes nothing leaves no record.
    fn audited(&self, entry: Entry) -> Arc<dyn Store>;
    /// Writes records down that belong to no change. One that is there already is no error.
    async fn add_records(&self, entries: &[Entry]) -> Result<()>;
    /// Records that have no place in their chain yet, the oldest first: of all nodes, or of one those that can get one, for their ids
    /// can be told from others. A record of which something cannot be
    /// read, here and in all that follows, comes with what can, and without its seal; such a head comes without its own.
    async fn waiting_records(&self, node: Option<&str>, limit: u32) -> Result<Vec<Entry>>;
    /// How many more wait at a node, and can get no place; it counts no further than to some ten thousand.
    async fn stuck_records(&self, node: &str) -> Result<u64>;
    /// Nodes at which a record has waited since before that time, or whose time is none.
    async fn waiting_nodes(&self, before: Timestamp) -> Result<Vec<Box<str>>>;
    /// How far a node's chain has got; none where it has not begun.
    async fn audit_head(&self, node: &str) -> Result<Option<Head>>;
    /// How far all chains have got, and the highest place that is taken in each, as of one moment.
    async fn audit_heads(&self) -> Result<Vec<(Head, u64)>>;
    /// Nodes that have records in places, and no chain.
    async fn headless_nodes(&self) -> Result<Vec<Box<str>>>;
    /// Gives waiting records their places, and moves the head. `Changed`, and nothing is, where the head is not the one before any
    /// more, or one of the records does not wait any more.
    async fn chain_records(&self, before: Option<&Head>, after: &Head, chained: &[Entry]) -> Result<()>;
    /// A chain's records after a place, in order; after none, with what was put before the first.
    async fn chained_records(&self, node: &str, after: u64, limit: u32) -> Result<Vec<Entry>>;
    /// Records that are looked for, waiting ones included, the newest first.
    async fn search_records(&self, search: &Search) -> Result<Vec<Entry>>;
    /// Lets a chain begin behind a checkpoint. `Changed`, and it does not, where it does not begin behind the former one any more.
    async fn set_audit_base(&self, former: Option<&Checkpoint>, base: &Checkpoint) -> Result<()>;
    /// Forgets a chain's records up to a place, at most so many; returns how many went.
    async fn forget_records(&self, node: &str, up_to: u64, limit: u32) -> Result<u64>;
}

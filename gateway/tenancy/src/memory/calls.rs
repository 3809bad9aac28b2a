//! Each call of the store: those that the rules make, and those that they do not.

use super::MemoryStore;
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
use crate::store::{Generation, Result};
use crate::token::ScopeSet;
use crate::{Project, ProjectId, Robot, RobotId, Store, Timestamp};
use portcullis_oci::{Digest, RepositoryName, Tag};
use std::sync::Arc;

/// Whatever is asked is answered by the method of that name, and whatever is not ends the test.
macro_rules! calls {
    (
        asked { $(async fn $asked:ident(&self $(, $name:ident: $type:ty)*) -> $answer:ty;)* }
        unasked { $(async fn $unasked:ident(&self $(, _: $of:ty)*) -> $never:ty;)* }
    ) => {
        #[async_trait::async_trait]
        impl Store for MemoryStore {
            $(async fn $asked(&self $(, $name: $type)*) -> $answer {
                Self::$asked(self $(, $name)*).await
            })*
            $(async fn $unasked(&self $(, _: $of)*) -> $never {
                unasked(stringify!($unasked))
            })*
            fn audited(&self, _: Entry) -> Arc<dyn Store> {
                unasked("audited")
            }
        }
    };
}

calls! {
    asked {
        async fn add_project(&self, project: &Project) -> Result<()>;
        async fn project(&self, name: &str) -> Result<Option<Project>>;
        async fn projects(&self) -> Result<Vec<Project>>;
        async fn delete_project(&self, id: &ProjectId, now: Timestamp) -> Result<()>;
        async fn purge_project(&self, id: &ProjectId) -> Result<()>;
        async fn add_robot(&self, robot: &Robot) -> Result<()>;
        async fn robot_named(&self, project: &str, name: &str) -> Result<Option<Robot>>;
        async fn replace_secrets(&self, robot: &Robot, newest: &str) -> Result<()>;
        async fn set_consent(&self, grant_id: &str, consent: Consent, now: Timestamp) -> Result<ForeignGrant>;
        async fn set_disabled(&self, id: &RobotId, disabled_at: Option<Timestamp>) -> Result<()>;
        async fn delete_robot(&self, id: &RobotId) -> Result<()>;
        async fn keys(&self) -> Result<Vec<StoredKey>>;
        async fn add_key(&self, key: &StoredKey, older_verify_until: Timestamp, now: Timestamp) -> Result<()>;
    }
    unasked {
        async fn foreign_grants(&self, _: Option<&ProjectId>) -> Result<Vec<ForeignGrant>>;
        async fn generation(&self) -> Result<Generation>;
        async fn deployment(&self, _: &str) -> Result<String>;
        async fn robot(&self, _: &RobotId) -> Result<Option<Robot>>;
        async fn robots(&self, _: &ProjectId) -> Result<Vec<Robot>>;
        async fn add_scope_set(&self, _: &ScopeSet) -> Result<()>;
        async fn scope_set(&self, _: &str) -> Result<Option<ScopeSet>>;
        async fn note_use(&self, _: &[(Box<str>, Timestamp)]) -> Result<()>;
        async fn open_upload(&self, _: &Upload) -> Result<()>;
        async fn upload(&self, _: &str) -> Result<Option<Upload>>;
        async fn close_upload(&self, _: &str) -> Result<()>;
        async fn move_upload(&self, _: &str, _: &str) -> Result<()>;
        async fn leave_upload(&self, _: &str, _: &str, _: Option<&str>) -> Result<()>;
        async fn ended_uploads(&self, _: Timestamp, _: u32) -> Result<Vec<Upload>>;
        async fn sweep(&self, _: Timestamp) -> Result<u64>;
        async fn account(&self, _: &ProjectId) -> Result<Account>;
        async fn accounts(&self) -> Result<Vec<(ProjectId, Account)>>;
        async fn breakdown(&self, _: &ProjectId, _: u32) -> Result<Breakdown>;
        async fn set_quota(&self, _: &ProjectId, _: Option<u64>, _: Option<u8>) -> Result<()>;
        async fn total(&self) -> Result<Total>;
        async fn set_total(&self, _: Option<u64>) -> Result<()>;
        async fn maintenance(&self) -> Result<Option<Timestamp>>;
        async fn under_way(&self, _: Timestamp) -> Result<u64>;
        async fn show_node(&self, _: &str, _: Timestamp, _: Timestamp) -> Result<u64>;
        async fn set_maintenance(&self, _: Option<Timestamp>) -> Result<()>;
        async fn change_limits(&self, _: LimitOwner<'_>, _: &Change) -> Result<Overrides>;
        async fn add_quota_request(&self, _: &QuotaRequest) -> Result<()>;
        async fn quota_requests(&self, _: Option<&ProjectId>) -> Result<Vec<QuotaRequest>>;
        async fn decide_quota_request(&self, _: &str, _: &Decision) -> Result<QuotaRequest>;
        async fn reserve(&self, _: &Claim) -> Result<Admission>;
        async fn shrink(&self, _: &str, _: &str, _: u64, _: Timestamp) -> Result<()>;
        async fn release(&self, _: &str) -> Result<()>;
        async fn renew(&self, _: &[Box<str>], _: Timestamp, _: Timestamp, _: Option<&Lease>) -> Result<()>;
        async fn recount(&self, _: &ProjectId, _: bool) -> Result<(u64, u64)>;
        async fn add_blob(&self, _: &StoredBlob, _: Charge<'_>) -> Result<Admission>;
        async fn disown(&self, _: &StoredBlob, _: &str) -> Result<()>;
        async fn standing(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<Standing>;
        async fn renew_orphan(&self, _: &ProjectId, _: &Digest, _: Timestamp) -> Result<()>;
        async fn expire_orphans(&self, _: Timestamp, _: Timestamp, _: u32) -> Result<Vec<(ProjectId, Digest, u64)>>;
        async fn take_unlinkable(&self, _: Timestamp, _: Timestamp, _: Timestamp, _: Option<&ProjectId>) -> Result<Option<Unlinkable>>;
        async fn unlinked(&self, _: &ProjectId, _: &Digest, _: bool) -> Result<()>;
        async fn has_link(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<bool>;
        async fn missing_links(&self, _: &ProjectId, _: &RepositoryName, _: &[Digest]) -> Result<Vec<Digest>>;
        async fn put_attachment(&self, _: &Attachment, _: Option<Timestamp>, _: &[u8]) -> Result<()>;
        async fn remove_attachment(&self, _: Option<&ProjectId>, _: &PolicyName) -> Result<()>;
        async fn attachments(&self) -> Result<Vec<Attachment>>;
        async fn component(&self, _: &Digest) -> Result<Option<Vec<u8>>>;
        async fn stored_sizes(&self, _: &ProjectId, _: &[Digest]) -> Result<Vec<(Digest, u64)>>;
        async fn unpaid(&self, _: &ProjectId, _: Option<&Digest>, _: &[Digest]) -> Result<Unpaid>;
        async fn links(&self, _: &ProjectId, _: Option<&(RepositoryName, Digest)>, _: u32) -> Result<Vec<(RepositoryName, Digest)>>;
        async fn held_blobs(&self, _: &ProjectId, _: &RepositoryName, _: Option<&Digest>, _: u32) -> Result<Vec<HeldBlob>>;
        async fn remove_link(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<u64>;
        async fn add_manifest(&self, _: &PushedManifest, _: &[(Digest, u64)], _: Charge<'_>) -> Result<Admission>;
        async fn manifest(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<Option<RecordedManifest>>;
        async fn missing_manifests(&self, _: &ProjectId, _: &RepositoryName, _: &[Digest]) -> Result<Vec<Digest>>;
        async fn manifests(&self, _: &ProjectId, _: &RepositoryName) -> Result<Vec<(Digest, u64)>>;
        async fn remove_manifest(&self, _: &ProjectId, _: &RepositoryName, _: &Digest, _: Timestamp) -> Result<Removed>;
        async fn remove_tag(&self, _: &ProjectId, _: &RepositoryName, _: &Tag) -> Result<Option<Digest>>;
        async fn tags(&self, _: &ProjectId, _: &RepositoryName) -> Result<Vec<(Tag, Digest)>>;
        async fn referrers(&self, _: &ProjectId, _: &RepositoryName, _: &Digest, _: Option<&Digest>, _: u32) -> Result<Vec<RecordedManifest>>;
        async fn repositories(&self, _: &ProjectId, _: Option<&str>, _: u32) -> Result<Vec<RepositoryName>>;
        async fn lock_tag(&self, _: &ProjectId, _: &RepositoryName, _: &Tag, _: &str, _: Timestamp, _: Timestamp) -> Result<bool>;
        async fn unlock_tag(&self, _: &ProjectId, _: &RepositoryName, _: &Tag, _: &str) -> Result<()>;
        async fn begin(&self, _: &JournalEntry) -> Result<()>;
        async fn finish(&self, _: &str) -> Result<()>;
        async fn unfinished(&self, _: Timestamp) -> Result<Vec<JournalEntry>>;
        async fn walk_position(&self, _: &ProjectId, _: Walk) -> Result<Option<Box<str>>>;
        async fn set_walk_position(&self, _: &ProjectId, _: Walk, _: Option<&RepositoryName>, _: Timestamp) -> Result<()>;
        async fn add_records(&self, _: &[Entry]) -> Result<()>;
        async fn waiting_records(&self, _: Option<&str>, _: u32) -> Result<Vec<Entry>>;
        async fn stuck_records(&self, _: &str) -> Result<u64>;
        async fn waiting_nodes(&self, _: Timestamp) -> Result<Vec<Box<str>>>;
        async fn audit_head(&self, _: &str) -> Result<Option<Head>>;
        async fn audit_heads(&self) -> Result<Vec<(Head, u64)>>;
        async fn headless_nodes(&self) -> Result<Vec<Box<str>>>;
        async fn chain_records(&self, _: Option<&Head>, _: &Head, _: &[Entry]) -> Result<()>;
        async fn chained_records(&self, _: &str, _: u64, _: u32) -> Result<Vec<Entry>>;
        async fn search_records(&self, _: &Search) -> Result<Vec<Entry>>;
        async fn set_audit_base(&self, _: Option<&Checkpoint>, _: &Checkpoint) -> Result<()>;
        async fn forget_records(&self, _: &str, _: u64, _: u32) -> Result<u64>;
    }
}

fn unasked(what: &str) -> ! {
    panic!("the rules do not ask for {what}")
}

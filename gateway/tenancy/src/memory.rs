//! A store in memory for the tests of the rules: what they ask of it, and nothing of the record of what passes.

use crate::audit::{Checkpoint, Entry, Head, Search};
use crate::grant::{Consent, ForeignGrant};
use crate::key::StoredKey;
use crate::ledger::{
    Charge, HeldBlob, JournalEntry, PushedManifest, RecordedManifest, Removed, Standing, StoredBlob, Unlinkable,
    Upload, Walk,
};
use crate::limit::{Change, LimitOwner, Overrides};
use crate::policy::{Attachment, PolicyName};
use crate::project::{NewProject, prefixes_overlap};
use crate::quota::{Account, Admission, Breakdown, Claim, Decision, QuotaRequest, Total, Unpaid};
use crate::store::{Generation, Result};
use crate::token::ScopeSet;
use crate::{Project, ProjectId, ProjectName, Robot, RobotId, Store, StoreError, Timestamp, project};
use portcullis_oci::{Digest, RepositoryName, Tag};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// A moment of the tests' day, in seconds from its beginning.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000_i64.saturating_add(second)).unwrap()
}

/// Runs what never waits, as nothing on this store does.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Bytes that repeat from run to run and differ from call to call.
pub(crate) fn counting() -> impl Fn(&mut [u8]) + Send + Sync {
    let calls = AtomicU8::new(1);
    move |bytes| bytes.fill(calls.fetch_add(1, Ordering::Relaxed))
}

/// A living project in the store.
pub(crate) fn living(store: &MemoryStore, name: &str) -> Project {
    let new = NewProject { name: ProjectName::parse(name).unwrap(), upstream_prefix: None, public: false };
    let random = counting();
    let id = format!("id-of-{name}-{}", store.projects.lock().unwrap().len());
    let mut project = ready(project::create(&MemoryStore::default(), new, at(0), &random)).unwrap();
    project.id = ProjectId(id.into());
    ready(store.add_project(&project)).unwrap();
    project
}

#[derive(Default)]
pub(crate) struct MemoryStore {
    projects: Mutex<Vec<Project>>,
    robots: Mutex<Vec<Robot>>,
    keys: Mutex<Vec<StoredKey>>,
}

impl MemoryStore {
    fn robot_where(&self, matches: impl Fn(&Robot) -> bool) -> Option<Robot> {
        self.robots.lock().unwrap().iter().find(|robot| matches(robot)).cloned()
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn add_project(&self, project: &Project) -> Result<()> {
        let mut projects = self.projects.lock().unwrap();
        if projects.iter().any(|other| other.name == project.name) {
            return Err(StoreError::Taken("project name"));
        }
        if projects.iter().any(|other| prefixes_overlap(&other.upstream_prefix, &project.upstream_prefix)) {
            return Err(StoreError::Taken("upstream prefix"));
        }
        projects.push(project.clone());
        Ok(())
    }

    async fn project(&self, name: &str) -> Result<Option<Project>> {
        Ok(self.projects.lock().unwrap().iter().find(|project| project.name.as_str() == name).cloned())
    }

    async fn projects(&self) -> Result<Vec<Project>> {
        Ok(self.projects.lock().unwrap().clone())
    }

    async fn delete_project(&self, id: &ProjectId, now: Timestamp) -> Result<()> {
        let mut projects = self.projects.lock().unwrap();
        let project = projects.iter_mut().find(|project| project.id == *id).ok_or(StoreError::Missing)?;
        project.deleted_at = Some(now);
        self.robots.lock().unwrap().retain(|robot| robot.project != *id);
        Ok(())
    }

    async fn purge_project(&self, id: &ProjectId) -> Result<()> {
        self.projects.lock().unwrap().retain(|project| project.id != *id);
        Ok(())
    }

    async fn add_robot(&self, robot: &Robot) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        if robots.iter().any(|other| other.username() == robot.username()) {
            return Err(StoreError::Taken("robot name"));
        }
        robots.push(robot.clone());
        Ok(())
    }

    async fn robot_named(&self, project: &str, name: &str) -> Result<Option<Robot>> {
        Ok(self.robot_where(|robot| robot.project_name.as_str() == project && &*robot.name == name))
    }

    async fn replace_secrets(&self, robot: &Robot, newest: &str) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        let kept = robots.iter_mut().find(|kept| kept.id == robot.id).ok_or(StoreError::Missing)?;
        if kept.secrets.first().is_none_or(|first| &*first.id != newest) {
            return Err(StoreError::Taken("newest secret"));
        }
        kept.secrets.clone_from(&robot.secrets);
        Ok(())
    }

    async fn set_consent(&self, grant_id: &str, consent: Consent, _: Timestamp) -> Result<ForeignGrant> {
        let mut robots = self.robots.lock().unwrap();
        let mut grants = robots.iter_mut().flat_map(|robot| {
            let (username, home) = (robot.username(), robot.project.clone());
            let foreign = robot.grants.iter_mut().filter(move |grant| grant.project != home);
            foreign.map(move |grant| (username.clone(), grant))
        });
        let (robot, grant) = grants.find(|(_, grant)| &*grant.id == grant_id).ok_or(StoreError::Missing)?;
        grant.consent = consent;
        Ok(ForeignGrant { grant: grant.clone(), robot, project_name: grant.pattern.project().to_owned() })
    }

    async fn foreign_grants(&self, _: Option<&ProjectId>) -> Result<Vec<ForeignGrant>> {
        unasked("foreign_grants")
    }

    async fn set_disabled(&self, id: &RobotId, disabled_at: Option<Timestamp>) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        robots.iter_mut().find(|robot| robot.id == *id).ok_or(StoreError::Missing)?.disabled_at = disabled_at;
        Ok(())
    }

    async fn delete_robot(&self, id: &RobotId) -> Result<()> {
        let mut robots = self.robots.lock().unwrap();
        let place = robots.iter().position(|robot| robot.id == *id).ok_or(StoreError::Missing)?;
        robots.remove(place);
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<StoredKey>> {
        Ok(self.keys.lock().unwrap().clone())
    }

    async fn add_key(&self, key: &StoredKey, older_verify_until: Timestamp, now: Timestamp) -> Result<()> {
        let mut keys = self.keys.lock().unwrap();
        keys.retain(|older| older.verifies_until.is_none_or(|end| end > now));
        for older in keys.iter_mut() {
            older.verifies_until.get_or_insert(older_verify_until);
        }
        keys.insert(0, key.clone());
        Ok(())
    }

    async fn generation(&self) -> Result<Generation> {
        unasked("generation")
    }
    async fn deployment(&self, _: &str) -> Result<String> {
        unasked("deployment")
    }
    async fn robot(&self, _: &RobotId) -> Result<Option<Robot>> {
        unasked("robot")
    }
    async fn robots(&self, _: &ProjectId) -> Result<Vec<Robot>> {
        unasked("robots")
    }
    async fn add_scope_set(&self, _: &ScopeSet) -> Result<()> {
        unasked("add_scope_set")
    }
    async fn scope_set(&self, _: &str) -> Result<Option<ScopeSet>> {
        unasked("scope_set")
    }
    async fn note_use(&self, _: &[(Box<str>, Timestamp)]) -> Result<()> {
        unasked("note_use")
    }

    async fn open_upload(&self, _: &Upload) -> Result<()> {
        unasked("open_upload")
    }
    async fn upload(&self, _: &str) -> Result<Option<Upload>> {
        unasked("upload")
    }
    async fn close_upload(&self, _: &str) -> Result<()> {
        unasked("close_upload")
    }
    async fn move_upload(&self, _: &str, _: &str) -> Result<()> {
        unasked("move_upload")
    }
    async fn ended_uploads(&self, _: Timestamp, _: u32) -> Result<Vec<Upload>> {
        unasked("ended_uploads")
    }
    async fn sweep(&self, _: Timestamp) -> Result<u64> {
        unasked("sweep")
    }
    async fn account(&self, _: &ProjectId) -> Result<Account> {
        unasked("account")
    }
    async fn accounts(&self) -> Result<Vec<(ProjectId, Account)>> {
        unasked("accounts")
    }
    async fn breakdown(&self, _: &ProjectId, _: u32) -> Result<Breakdown> {
        unasked("breakdown")
    }
    async fn set_quota(&self, _: &ProjectId, _: Option<u64>, _: Option<u8>) -> Result<()> {
        unasked("set_quota")
    }
    async fn total(&self) -> Result<Total> {
        unasked("total")
    }
    async fn set_total(&self, _: Option<u64>) -> Result<()> {
        unasked("set_total")
    }
    async fn maintenance(&self) -> Result<Option<Timestamp>> {
        unasked("maintenance")
    }
    async fn under_way(&self, _: Timestamp) -> Result<u64> {
        unasked("under_way")
    }
    async fn set_maintenance(&self, _: Option<Timestamp>) -> Result<()> {
        unasked("set_maintenance")
    }
    async fn change_limits(&self, _: LimitOwner<'_>, _: &Change) -> Result<Overrides> {
        unasked("change_limits")
    }
    async fn add_quota_request(&self, _: &QuotaRequest) -> Result<()> {
        unasked("add_quota_request")
    }
    async fn quota_requests(&self, _: Option<&ProjectId>) -> Result<Vec<QuotaRequest>> {
        unasked("quota_requests")
    }
    async fn decide_quota_request(&self, _: &str, _: &Decision) -> Result<QuotaRequest> {
        unasked("decide_quota_request")
    }
    async fn reserve(&self, _: &Claim) -> Result<Admission> {
        unasked("reserve")
    }
    async fn shrink(&self, _: &str, _: u64, _: Timestamp) -> Result<()> {
        unasked("shrink")
    }
    async fn release(&self, _: &str) -> Result<()> {
        unasked("release")
    }
    async fn renew(&self, _: &[Box<str>], _: Timestamp, _: Timestamp) -> Result<()> {
        unasked("renew")
    }
    async fn recount(&self, _: &ProjectId, _: bool) -> Result<(u64, u64)> {
        unasked("recount")
    }
    async fn add_blob(&self, _: &StoredBlob, _: Charge<'_>) -> Result<Admission> {
        unasked("add_blob")
    }
    async fn disown(&self, _: &StoredBlob, _: &str) -> Result<()> {
        unasked("disown")
    }
    async fn standing(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<Standing> {
        unasked("standing")
    }
    async fn renew_orphan(&self, _: &ProjectId, _: &Digest, _: Timestamp) -> Result<()> {
        unasked("renew_orphan")
    }
    async fn expire_orphans(&self, _: Timestamp, _: Timestamp, _: u32) -> Result<Vec<(ProjectId, Digest, u64)>> {
        unasked("expire_orphans")
    }
    async fn take_unlinkable(&self, _: Timestamp, _: Timestamp, _: Timestamp, _: u32) -> Result<Vec<Unlinkable>> {
        unasked("take_unlinkable")
    }
    async fn unlinked(&self, _: &ProjectId, _: &Digest, _: bool) -> Result<()> {
        unasked("unlinked")
    }
    async fn has_link(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<bool> {
        unasked("has_link")
    }
    async fn missing_links(&self, _: &ProjectId, _: &RepositoryName, _: &[Digest]) -> Result<Vec<Digest>> {
        unasked("missing_links")
    }
    async fn put_attachment(&self, _: &Attachment, _: Option<Timestamp>, _: &[u8]) -> Result<()> {
        unasked("put_attachment")
    }

    async fn remove_attachment(&self, _: Option<&ProjectId>, _: &PolicyName) -> Result<()> {
        unasked("remove_attachment")
    }

    async fn attachments(&self) -> Result<Vec<Attachment>> {
        unasked("attachments")
    }

    async fn component(&self, _: &Digest) -> Result<Option<Vec<u8>>> {
        unasked("component")
    }

    async fn stored_sizes(&self, _: &ProjectId, _: &[Digest]) -> Result<Vec<(Digest, u64)>> {
        unasked("stored_sizes")
    }

    async fn unpaid(&self, _: &ProjectId, _: Option<&Digest>, _: &[Digest]) -> Result<Unpaid> {
        unasked("unpaid")
    }

    async fn links(
        &self,
        _: &ProjectId,
        _: Option<&(RepositoryName, Digest)>,
        _: u32,
    ) -> Result<Vec<(RepositoryName, Digest)>> {
        unasked("links")
    }

    async fn held_blobs(&self, _: &ProjectId, _: &RepositoryName, _: Option<&Digest>, _: u32) -> Result<Vec<HeldBlob>> {
        unasked("held_blobs")
    }
    async fn remove_link(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<u64> {
        unasked("remove_link")
    }
    async fn add_manifest(&self, _: &PushedManifest, _: &[(Digest, u64)], _: Charge<'_>) -> Result<Admission> {
        unasked("add_manifest")
    }
    async fn manifest(&self, _: &ProjectId, _: &RepositoryName, _: &Digest) -> Result<Option<RecordedManifest>> {
        unasked("manifest")
    }
    async fn missing_manifests(&self, _: &ProjectId, _: &RepositoryName, _: &[Digest]) -> Result<Vec<Digest>> {
        unasked("missing_manifests")
    }
    async fn manifests(&self, _: &ProjectId, _: &RepositoryName) -> Result<Vec<RecordedManifest>> {
        unasked("manifests")
    }
    async fn remove_manifest(&self, _: &ProjectId, _: &RepositoryName, _: &Digest, _: Timestamp) -> Result<Removed> {
        unasked("remove_manifest")
    }
    async fn remove_tag(&self, _: &ProjectId, _: &RepositoryName, _: &Tag) -> Result<Option<Digest>> {
        unasked("remove_tag")
    }
    async fn tags(&self, _: &ProjectId, _: &RepositoryName) -> Result<Vec<(Tag, Digest)>> {
        unasked("tags")
    }
    async fn referrers(
        &self,
        _: &ProjectId,
        _: &RepositoryName,
        _: &Digest,
        _: Option<&Digest>,
        _: u32,
    ) -> Result<Vec<RecordedManifest>> {
        unasked("referrers")
    }
    async fn repositories(&self, _: &ProjectId, _: Option<&str>, _: u32) -> Result<Vec<RepositoryName>> {
        unasked("repositories")
    }
    async fn lock_tag(
        &self,
        _: &ProjectId,
        _: &RepositoryName,
        _: &Tag,
        _: &str,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<bool> {
        unasked("lock_tag")
    }
    async fn unlock_tag(&self, _: &ProjectId, _: &RepositoryName, _: &Tag, _: &str) -> Result<()> {
        unasked("unlock_tag")
    }
    async fn begin(&self, _: &JournalEntry) -> Result<()> {
        unasked("begin")
    }
    async fn finish(&self, _: &str) -> Result<()> {
        unasked("finish")
    }
    async fn unfinished(&self, _: Timestamp) -> Result<Vec<JournalEntry>> {
        unasked("unfinished")
    }
    async fn walk_position(&self, _: &ProjectId, _: Walk) -> Result<Option<Box<str>>> {
        unasked("walk_position")
    }
    async fn set_walk_position(&self, _: &ProjectId, _: Walk, _: Option<&RepositoryName>, _: Timestamp) -> Result<()> {
        unasked("set_walk_position")
    }

    fn audited(&self, _: Entry) -> Arc<dyn Store> {
        unasked("audited")
    }
    async fn add_records(&self, _: &[Entry]) -> Result<()> {
        unasked("add_records")
    }
    async fn waiting_records(&self, _: Option<&str>, _: u32) -> Result<Vec<Entry>> {
        unasked("waiting_records")
    }
    async fn waiting_nodes(&self, _: Timestamp) -> Result<Vec<Box<str>>> {
        unasked("waiting_nodes")
    }
    async fn audit_head(&self, _: &str) -> Result<Option<Head>> {
        unasked("audit_head")
    }
    async fn audit_heads(&self) -> Result<Vec<(Head, u64)>> {
        unasked("audit_heads")
    }
    async fn headless_nodes(&self) -> Result<Vec<Box<str>>> {
        unasked("headless_nodes")
    }
    async fn chain_records(&self, _: Option<&Head>, _: &Head, _: &[Entry]) -> Result<()> {
        unasked("chain_records")
    }
    async fn chained_records(&self, _: &str, _: u64, _: u32) -> Result<Vec<Entry>> {
        unasked("chained_records")
    }
    async fn search_records(&self, _: &Search) -> Result<Vec<Entry>> {
        unasked("search_records")
    }
    async fn set_audit_base(&self, _: Option<&Checkpoint>, _: &Checkpoint) -> Result<()> {
        unasked("set_audit_base")
    }
    async fn forget_records(&self, _: &str, _: u64, _: u32) -> Result<u64> {
        unasked("forget_records")
    }
}

fn unasked(what: &str) -> ! {
    panic!("the rules do not ask for {what}")
}

//! The table of contents: each call of [`Store`], where its queries stand, and its deadline.

use super::{DEADLINE, SqlStore, failure};
use crate::gather::again;
use crate::{audit, journal, key, ledger, limit, policy, project, quota, robot, session, watch};
use portcullis_oci::{Digest, RepositoryName, Tag};
use portcullis_tenancy::audit::{Checkpoint, Entry, Head, Search};
use portcullis_tenancy::grant::{Consent, ForeignGrant};
use portcullis_tenancy::key::StoredKey;
use portcullis_tenancy::ledger::{
    Charge, HeldBlob, JournalEntry, PushedManifest, RecordedManifest, Removed, Standing, StoredBlob, Unlinkable,
    Upload, Walk,
};
use portcullis_tenancy::limit::{Change, LimitOwner, Overrides};
use portcullis_tenancy::policy::{Attachment, PolicyName};
use portcullis_tenancy::quota::{Account, Admission, Breakdown, Claim, Decision, Lease, QuotaRequest, Total, Unpaid};
use portcullis_tenancy::store::{Generation, Result};
use portcullis_tenancy::token::ScopeSet;
use portcullis_tenancy::{Project, ProjectId, Robot, RobotId, Store, Timestamp};
use std::future::Future;
use std::sync::Arc;

/// A call took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", DEADLINE.as_secs())]
struct Late;

async fn within<T, F: Future<Output = Result<T>>>(call: F) -> Result<T> {
    bounded(watch::name_of::<F>(), call).await
}

/// The same for a call whose write shares its transaction with others.
async fn shared<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    bounded(watch::name_of::<F>(), again(call)).await
}

async fn bounded<T>(name: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let bounded = async { tokio::time::timeout(DEADLINE, call).await.map_err(|_| failure(Late))? };
    watch::told(name, bounded).await
}

#[async_trait::async_trait]
impl Store for SqlStore {
    async fn generation(&self) -> Result<Generation> {
        within(key::generation(self)).await
    }
    async fn deployment(&self, candidate: &str) -> Result<String> {
        within(key::deployment(self, candidate)).await
    }

    async fn add_project(&self, project: &Project) -> Result<()> {
        within(project::add(self, project)).await
    }
    async fn project(&self, name: &str) -> Result<Option<Project>> {
        within(project::named(self, name)).await
    }
    async fn projects(&self) -> Result<Vec<Project>> {
        within(project::all(self)).await
    }
    async fn delete_project(&self, id: &ProjectId, now: Timestamp) -> Result<()> {
        within(project::delete(self, id, now)).await
    }
    async fn purge_project(&self, id: &ProjectId) -> Result<()> {
        // The record goes with the last step.
        let plain = self.with(None);
        while within(project::purge_some(&plain, id)).await? {}
        within(project::purge(self, id)).await
    }

    async fn add_robot(&self, robot: &Robot) -> Result<()> {
        within(robot::add(self, robot)).await
    }
    async fn robot_named(&self, project: &str, name: &str) -> Result<Option<Robot>> {
        within(robot::named(self, project, name)).await
    }
    async fn robot(&self, id: &RobotId) -> Result<Option<Robot>> {
        within(robot::by_id(self, id)).await
    }
    async fn robots(&self, project: &ProjectId) -> Result<Vec<Robot>> {
        within(robot::of_project(self, project)).await
    }
    async fn replace_secrets(&self, robot: &Robot, newest: &str) -> Result<()> {
        within(robot::replace_secrets(self, robot, newest)).await
    }
    async fn set_disabled(&self, id: &RobotId, disabled_at: Option<Timestamp>) -> Result<()> {
        within(robot::set_disabled(self, id, disabled_at)).await
    }
    async fn delete_robot(&self, id: &RobotId) -> Result<()> {
        within(robot::delete(self, id)).await
    }
    async fn note_use(&self, uses: &[(Box<str>, Timestamp)]) -> Result<()> {
        within(robot::note_use(self, uses)).await
    }

    async fn show_node(&self, node: &str, now: Timestamp, since: Timestamp) -> Result<u64> {
        within(limit::show_node(self, node, now, since)).await
    }
    async fn change_limits(&self, owner: LimitOwner<'_>, change: &Change) -> Result<Overrides> {
        within(limit::change(self, owner, change)).await
    }

    async fn foreign_grants(&self, project: Option<&ProjectId>) -> Result<Vec<ForeignGrant>> {
        within(robot::foreign_grants(self, project)).await
    }
    async fn set_consent(&self, grant_id: &str, consent: Consent, now: Timestamp) -> Result<ForeignGrant> {
        within(robot::set_consent(self, grant_id, consent, now)).await
    }

    async fn keys(&self) -> Result<Vec<StoredKey>> {
        within(key::all(self)).await
    }
    async fn add_key(&self, key: &StoredKey, older_verify_until: Timestamp, now: Timestamp) -> Result<()> {
        within(key::add(self, key, older_verify_until, now)).await
    }

    async fn add_scope_set(&self, set: &ScopeSet) -> Result<()> {
        within(session::add_scope_set(self, set)).await
    }
    async fn scope_set(&self, id: &str) -> Result<Option<ScopeSet>> {
        within(session::scope_set(self, id)).await
    }

    async fn open_upload(&self, upload: &Upload) -> Result<()> {
        within(session::open_upload(self, upload)).await
    }
    async fn upload(&self, id: &str) -> Result<Option<Upload>> {
        within(session::upload(self, id)).await
    }
    async fn close_upload(&self, id: &str) -> Result<()> {
        within(session::close_upload(self, id)).await
    }
    async fn move_upload(&self, id: &str, upstream: &str) -> Result<()> {
        within(session::move_upload(self, id, upstream)).await
    }
    async fn leave_upload(&self, id: &str, holder: &str, upstream: Option<&str>) -> Result<()> {
        within(session::leave_upload(self, id, holder, upstream)).await
    }
    async fn ended_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<Upload>> {
        within(session::ended_uploads(self, now, limit)).await
    }
    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        within(session::sweep(self, now)).await
    }

    async fn account(&self, project: &ProjectId) -> Result<Account> {
        within(ledger::account::one(self, project)).await
    }
    async fn accounts(&self) -> Result<Vec<(ProjectId, Account)>> {
        within(ledger::account::all(self)).await
    }
    async fn breakdown(&self, project: &ProjectId, limit: u32) -> Result<Breakdown> {
        within(ledger::account::breakdown(self, project, limit)).await
    }
    async fn set_quota(&self, project: &ProjectId, quota: Option<u64>, soft_percent: Option<u8>) -> Result<()> {
        within(ledger::account::set(self, project, quota, soft_percent)).await
    }
    async fn total(&self) -> Result<Total> {
        within(ledger::account::total(self)).await
    }
    async fn set_total(&self, cap: Option<u64>) -> Result<()> {
        within(ledger::account::set_total(self, cap)).await
    }
    async fn maintenance(&self) -> Result<Option<Timestamp>> {
        within(quota::maintenance(self)).await
    }
    async fn under_way(&self, since: Timestamp) -> Result<u64> {
        within(quota::under_way(self, since)).await
    }
    async fn set_maintenance(&self, since: Option<Timestamp>) -> Result<()> {
        within(quota::set_maintenance(self, since)).await
    }
    async fn add_quota_request(&self, request: &QuotaRequest) -> Result<()> {
        within(quota::ask(self, request)).await
    }
    async fn quota_requests(&self, project: Option<&ProjectId>) -> Result<Vec<QuotaRequest>> {
        within(quota::requests(self, project)).await
    }
    async fn decide_quota_request(&self, id: &str, decision: &Decision) -> Result<QuotaRequest> {
        within(quota::decide(self, id, decision)).await
    }

    async fn reserve(&self, claim: &Claim) -> Result<Admission> {
        shared(|| ledger::reservation::reserve(self, claim)).await
    }
    async fn shrink(&self, id: &str, holder: &str, bytes: u64, expires_at: Timestamp) -> Result<()> {
        shared(|| ledger::reservation::shrink(self, id, holder, bytes, expires_at)).await
    }
    async fn release(&self, id: &str) -> Result<()> {
        shared(|| ledger::reservation::release(self, id)).await
    }
    async fn renew(&self, ids: &[Box<str>], now: Timestamp, until: Timestamp, lease: Option<&Lease>) -> Result<()> {
        within(ledger::reservation::renew(self, ids, now, until, lease)).await
    }
    async fn recount(&self, project: &ProjectId, repair: bool) -> Result<(u64, u64)> {
        shared(|| ledger::account::recount(self, project, repair)).await
    }

    async fn add_blob(&self, blob: &StoredBlob, charge: Charge<'_>) -> Result<Admission> {
        shared(|| ledger::blob::add(self, blob, charge)).await
    }
    async fn disown(&self, blob: &StoredBlob, operation: &str) -> Result<()> {
        shared(|| ledger::blob::disown(self, blob, operation)).await
    }
    async fn standing(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<Standing> {
        within(ledger::blob::standing(self, project, repository, digest)).await
    }
    async fn renew_orphan(&self, project: &ProjectId, digest: &Digest, now: Timestamp) -> Result<()> {
        within(ledger::blob::renew_orphan(self, project, digest, now)).await
    }
    async fn expire_orphans(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<(ProjectId, Digest, u64)>> {
        within(ledger::waiting::expire_orphans(self, before, now, limit)).await
    }
    async fn take_unlinkable(
        &self,
        before: Timestamp,
        now: Timestamp,
        until: Timestamp,
        after: Option<&ProjectId>,
    ) -> Result<Option<Unlinkable>> {
        within(ledger::waiting::take(self, before, now, until, after)).await
    }
    async fn unlinked(&self, project: &ProjectId, digest: &Digest, is_gone: bool) -> Result<()> {
        shared(|| ledger::waiting::unlinked(self, project, digest, is_gone)).await
    }
    async fn has_link(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        within(ledger::blob::exists(self, project, repository, digest)).await
    }
    async fn missing_links(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<Vec<Digest>> {
        within(ledger::missing(self, "link", project, repository, digests)).await
    }
    async fn put_attachment(
        &self,
        attachment: &Attachment,
        replaces: Option<Timestamp>,
        component: &[u8],
    ) -> Result<()> {
        within(policy::put(self, attachment, replaces, component)).await
    }
    async fn remove_attachment(&self, project: Option<&ProjectId>, name: &PolicyName) -> Result<()> {
        within(policy::remove(self, project, name)).await
    }
    async fn attachments(&self) -> Result<Vec<Attachment>> {
        within(policy::all(self)).await
    }
    async fn component(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        within(policy::component(self, digest)).await
    }
    async fn stored_sizes(&self, project: &ProjectId, digests: &[Digest]) -> Result<Vec<(Digest, u64)>> {
        within(ledger::blob::sizes(self, project, digests)).await
    }
    async fn unpaid(&self, project: &ProjectId, manifest: Option<&Digest>, blobs: &[Digest]) -> Result<Unpaid> {
        within(ledger::blob::unpaid(self, project, manifest, blobs)).await
    }
    async fn links(
        &self,
        project: &ProjectId,
        after: Option<&(RepositoryName, Digest)>,
        limit: u32,
    ) -> Result<Vec<(RepositoryName, Digest)>> {
        within(ledger::blob::all(self, project, after, limit)).await
    }
    async fn held_blobs(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<HeldBlob>> {
        within(ledger::blob::held(self, project, repository, after, limit)).await
    }
    async fn remove_link(&self, project: &ProjectId, repository: &RepositoryName, digest: &Digest) -> Result<u64> {
        shared(|| ledger::blob::remove(self, project, repository, digest)).await
    }

    async fn add_manifest(
        &self,
        pushed: &PushedManifest,
        sizes: &[(Digest, u64)],
        charge: Charge<'_>,
    ) -> Result<Admission> {
        shared(|| ledger::manifest::add(self, pushed, sizes, charge)).await
    }
    async fn manifest(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RecordedManifest>> {
        within(ledger::manifest::one(self, project, repository, digest)).await
    }
    async fn missing_manifests(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<Vec<Digest>> {
        within(ledger::missing(self, "manifest", project, repository, digests)).await
    }
    async fn manifests(&self, project: &ProjectId, repository: &RepositoryName) -> Result<Vec<(Digest, u64)>> {
        within(ledger::manifest::all(self, project, repository)).await
    }
    async fn remove_manifest(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<Removed> {
        shared(|| ledger::manifest::remove(self, project, repository, digest, now)).await
    }
    async fn remove_tag(&self, project: &ProjectId, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>> {
        within(ledger::tag::remove(self, project, repository, tag)).await
    }
    async fn tags(&self, project: &ProjectId, repository: &RepositoryName) -> Result<Vec<(Tag, Digest)>> {
        within(ledger::tag::all(self, project, repository)).await
    }
    async fn referrers(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        subject: &Digest,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<RecordedManifest>> {
        within(ledger::manifest::referrers(self, project, repository, subject, after, limit)).await
    }
    async fn repositories(&self, project: &ProjectId, after: Option<&str>, limit: u32) -> Result<Vec<RepositoryName>> {
        within(ledger::repositories(self, project, after, limit)).await
    }

    async fn lock_tag(
        &self,
        project: &ProjectId,
        repository: &RepositoryName,
        tag: &Tag,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool> {
        within(journal::lock_tag(self, project, repository, tag, owner, now, until)).await
    }
    async fn unlock_tag(&self, project: &ProjectId, repository: &RepositoryName, tag: &Tag, owner: &str) -> Result<()> {
        within(journal::unlock_tag(self, project, repository, tag, owner)).await
    }

    async fn begin(&self, entry: &JournalEntry) -> Result<()> {
        within(journal::begin(self, entry)).await
    }
    async fn finish(&self, id: &str) -> Result<()> {
        within(journal::finish(self, id)).await
    }
    async fn unfinished(&self, before: Timestamp) -> Result<Vec<JournalEntry>> {
        within(journal::unfinished(self, before)).await
    }

    async fn walk_position(&self, project: &ProjectId, walk: Walk) -> Result<Option<Box<str>>> {
        within(quota::walk_position(self, project, walk)).await
    }
    async fn set_walk_position(
        &self,
        project: &ProjectId,
        walk: Walk,
        position: Option<&RepositoryName>,
        now: Timestamp,
    ) -> Result<()> {
        within(quota::set_walk_position(self, project, walk, position, now)).await
    }

    fn audited(&self, entry: Entry) -> Arc<dyn Store> {
        Arc::new(self.with(Some(entry)))
    }
    async fn add_records(&self, entries: &[Entry]) -> Result<()> {
        within(audit::add(self, entries)).await
    }
    async fn waiting_records(&self, node: Option<&str>, limit: u32) -> Result<Vec<Entry>> {
        within(audit::waiting(self, node, limit)).await
    }
    async fn stuck_records(&self, node: &str) -> Result<u64> {
        within(audit::stuck(self, node)).await
    }
    async fn waiting_nodes(&self, before: Timestamp) -> Result<Vec<Box<str>>> {
        within(audit::waiting_nodes(self, before)).await
    }
    async fn audit_head(&self, node: &str) -> Result<Option<Head>> {
        within(audit::head(self, node)).await
    }
    async fn audit_heads(&self) -> Result<Vec<(Head, u64)>> {
        within(audit::heads(self)).await
    }
    async fn headless_nodes(&self) -> Result<Vec<Box<str>>> {
        within(audit::headless(self)).await
    }
    async fn chain_records(&self, before: Option<&Head>, after: &Head, chained: &[Entry]) -> Result<()> {
        within(audit::chain(self, before, after, chained)).await
    }
    async fn chained_records(&self, node: &str, after: u64, limit: u32) -> Result<Vec<Entry>> {
        within(audit::chained(self, node, after, limit)).await
    }
    async fn search_records(&self, search: &Search) -> Result<Vec<Entry>> {
        within(audit::search(self, search)).await
    }
    async fn set_audit_base(&self, former: Option<&Checkpoint>, base: &Checkpoint) -> Result<()> {
        within(audit::set_base(self, former, base)).await
    }
    async fn forget_records(&self, node: &str, up_to: u64, limit: u32) -> Result<u64> {
        within(audit::forget(self, node, up_to, limit)).await
    }
}

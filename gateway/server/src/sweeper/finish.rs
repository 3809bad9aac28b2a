//! What a crash cut off is finished: the upstream is asked what became of it, and that is recorded.

use super::SweepError;
use crate::app::App;
use crate::config::Isolation;
use crate::tag_lock::{LockError, TagLocks};
use crate::upstream::{Call, Pool, UpstreamError};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use portcullis_oci::manifest::{self, media_type};
use portcullis_oci::{Digest, Operation, Reference, RepositoryName, Tag};
use portcullis_tenancy::audit::{Entry, Kind, Note};
use portcullis_tenancy::ledger::{Charge, JournalEntry, JournalStep, PushedManifest, StoredBlob};
use portcullis_tenancy::quota::Admission;
use portcullis_tenancy::{Project, Store, Timestamp};
use std::sync::Arc;

/// Finds out what became of a journalled write, and strikes it out. What the upstream cannot say now is asked again.
pub(super) async fn finish(
    app: &App,
    pool: &Arc<Pool>,
    project: Option<&Project>,
    entry: JournalEntry,
    now: Timestamp,
) -> Result<(), SweepError> {
    let Some(project) = project else {
        return Ok(app.store.run(move |store| async move { store.release(&entry.id).await }).await?);
    };
    let scene = Scene { app, pool, project, repository: entry.repository.clone(), now };
    match entry.step.clone() {
        JournalStep::DeleteTag { tag, throwaway } => scene.delete_tag(&entry, tag, throwaway).await,
        JournalStep::PutBlob { digest } => scene.put_blob(&entry, digest).await,
        JournalStep::PutManifest { digest, tags } => scene.put_manifest(&entry, digest, tags).await,
        JournalStep::DeleteManifest { digest } => scene.delete_manifest(&entry, digest).await,
        JournalStep::DeleteBlob { digest } => scene.delete_blob(&entry, digest).await,
    }
}

/// One repository.
struct Scene<'a> {
    app: &'a App,
    pool: &'a Arc<Pool>,
    project: &'a Project,
    repository: RepositoryName,
    now: Timestamp,
}

impl Scene<'_> {
    /// The throw-away goes, whatever tag it was left under; the record of the tag goes only if nobody has pushed it again since.
    async fn delete_tag(&self, entry: &JournalEntry, tag: Tag, throwaway: Digest) -> Result<(), SweepError> {
        // Whoever is still at work has the tag's lock.
        let locks = match TagLocks::take(&self.app.store, &self.project.id, &self.repository, vec![tag.clone()]).await {
            Ok(locks) => locks,
            Err(LockError::Busy) => return Ok(()),
            Err(LockError::Store(error)) => return Err(error.into()),
        };
        let finished = self.finish_tag(entry, tag, throwaway).await;
        locks.release().await;
        finished
    }

    async fn finish_tag(&self, entry: &JournalEntry, tag: Tag, throwaway: Digest) -> Result<(), SweepError> {
        let delete = Operation::ManifestDelete { repository: self.repository.clone(), digest: throwaway };
        let status = self.ask(Method::DELETE, &delete).await?;
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            return Err(odd(status, "the deletion of a throw-away"));
        }
        if self.manifest_status(&Reference::Tag(tag.clone())).await? == StatusCode::NOT_FOUND {
            let (project, repository) = (self.project.id.clone(), self.repository.clone());
            let record = self.seal(self.note(Kind::TagDelete, entry).reference(tag.as_str()));
            let forget = |store: Arc<dyn Store>| async move {
                store.audited(record).remove_tag(&project, &repository, &tag).await
            };
            self.app.store.run(forget).await?;
        }
        self.release(entry).await
    }

    /// Where the upstream keeps repositories apart, a blob that is there came by this upload, and is charged. Elsewhere it may be
    /// anybody's: it stays unrecorded, and so unserved.
    async fn put_blob(&self, entry: &JournalEntry, digest: Digest) -> Result<(), SweepError> {
        let size = match self.isolation() {
            Isolation::Repository => self.stated_size(&digest).await?,
            Isolation::Ledger => None,
        };
        let Some(size) = size else { return self.leave(entry).await };
        let (id, blob) = (entry.id.clone(), self.stored(&digest, size));
        // What a deleted project holds is on record until it is purged.
        let is_deleted = self.project.deleted_at.is_some();
        let record = self.seal(self.note(Kind::BlobPush, entry).digest(digest.as_str()));
        let charge = move |store: Arc<dyn Store>| async move {
            let charge = if is_deleted { Charge::Found(&id) } else { Charge::By(&id) };
            match store.audited(record).add_blob(&blob, charge).await? {
                // There is no room for it: it is not served, and goes like any other that is not charged.
                Admission::Refused(_) => store.disown(&blob, &id).await,
                // It is looked at again.
                Admission::Granted { .. } | Admission::Busy => Ok(()),
            }
        };
        Ok(self.app.store.run(charge).await?)
    }

    /// The blob did not come. Its upload may still have bytes upstream: with its room it waits for its client, and is given up.
    async fn leave(&self, entry: &JournalEntry) -> Result<(), SweepError> {
        let id = entry.id.clone();
        let leave = move |store: Arc<dyn Store>| async move {
            if store.upload(&id).await?.is_some() { store.finish(&id).await } else { store.release(&id).await }
        };
        Ok(self.app.store.run(leave).await?)
    }

    /// What is there is recorded as it is there, and charged whatever room there is: it can be pulled.
    async fn put_manifest(&self, entry: &JournalEntry, digest: Digest, tags: Vec<Tag>) -> Result<(), SweepError> {
        let reference = Reference::Digest(digest.clone());
        let pull = Operation::ManifestPull { repository: self.repository.clone(), reference };
        let answer = self.app.upstream.call(self.pool, self.call(Method::GET, &pull)).await?;
        let (head, bytes) = answer.whole().await?;
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return self.release(entry).await,
            status => return Err(odd(status, "a manifest's GET")),
        }
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_it = digest.verifier().is_some_and(|mut verifier| {
            verifier.update(&bytes);
            verifier.matches()
        });
        let Some(mut manifest) = manifest::parse(content_type, &bytes).ok().filter(|_| is_it) else {
            return self.release(entry).await;
        };
        manifest.digest = digest.clone();
        let mut standing = Vec::new();
        for tag in tags {
            if self.tag_digest(&tag).await?.is_some_and(|tagged| tagged == digest) {
                standing.push(tag);
            }
        }
        let named: Vec<Digest> =
            manifest.config.iter().chain(&manifest.layers).map(|named| named.digest.clone()).collect();
        let project = self.project.id.clone();
        let unpaid = self.app.store.run(|store| async move { store.unpaid(&project, None, &named).await }).await?;
        let mut sizes = Vec::new();
        if self.isolation() == Isolation::Repository {
            for digest in unpaid.unknown {
                if let Some(size) = self.stated_size(&digest).await? {
                    sizes.push((digest, size));
                }
            }
        }
        let pushed = PushedManifest {
            project: self.project.id.clone(),
            repository: self.repository.clone(),
            manifest,
            tags: standing,
            pushed_at: entry.started_at,
            pushed_by: entry.actor.clone(),
        };
        // In one step with the end of its reservation: it counts once at every moment. What is busy waits for the next sweep.
        let id = entry.id.clone();
        let tagged = pushed.tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(" ");
        let note = self.note(Kind::Push, entry).digest(digest.as_str());
        let record = self.seal(if tagged.is_empty() { note } else { note.reference(&tagged) });
        let charge = |store: Arc<dyn Store>| async move {
            store.audited(record).add_manifest(&pushed, &sizes, Charge::Found(&id)).await
        };
        self.app.store.run(charge).await.map(|_| ()).map_err(Into::into)
    }

    async fn delete_manifest(&self, entry: &JournalEntry, digest: Digest) -> Result<(), SweepError> {
        match self.manifest_status(&Reference::Digest(digest.clone())).await? {
            StatusCode::NOT_FOUND => {
                let (project, repository, now) = (self.project.id.clone(), self.repository.clone(), self.now);
                let record = self.seal(self.note(Kind::Delete, entry).digest(digest.as_str()));
                let forget = move |store: Arc<dyn Store>| async move {
                    store.audited(record).remove_manifest(&project, &repository, &digest, now).await
                };
                self.app.store.run(forget).await?;
                self.app.store.forget_links();
                self.release(entry).await
            }
            StatusCode::OK => self.release(entry).await,
            status => Err(odd(status, "a manifest's HEAD")),
        }
    }

    async fn delete_blob(&self, entry: &JournalEntry, digest: Digest) -> Result<(), SweepError> {
        if self.stated_size(&digest).await?.is_none() {
            let record = self.seal(self.note(Kind::BlobDelete, entry).digest(digest.as_str()));
            self.app.store.remove_link(&self.project.id, &self.repository, &digest, record).await?;
        }
        self.release(entry).await
    }

    /// A note of what somebody did whom a crash cut off.
    fn note(&self, kind: Kind, entry: &JournalEntry) -> Note {
        Note::new(kind, &entry.actor)
            .project(self.project.name.as_str())
            .repository(self.repository.as_str())
            .because("found after it was cut off")
    }

    fn seal(&self, note: Note) -> Entry {
        self.app.audit.seal(note)
    }

    /// A blob's size, as the upstream states it; none where it is not there.
    async fn stated_size(&self, digest: &Digest) -> Result<Option<u64>, SweepError> {
        let name = self.project.upstream_name(&self.repository);
        match self.app.upstream.blob_head(self.pool, &name, digest).await? {
            (StatusCode::OK, Some(size)) => Ok(Some(size)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(odd(status, "a blob's HEAD")),
        }
    }

    async fn tag_digest(&self, tag: &Tag) -> Result<Option<Digest>, SweepError> {
        let reference = Reference::Tag(tag.clone());
        let pull = Operation::ManifestPull { repository: self.repository.clone(), reference };
        let (head, _) = self.app.upstream.call(self.pool, self.call(Method::HEAD, &pull)).await?.whole().await?;
        let digest = head.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(digest.filter(|_| head.status == StatusCode::OK).and_then(|digest| Digest::parse(digest).ok()))
    }

    async fn manifest_status(&self, reference: &Reference) -> Result<StatusCode, SweepError> {
        let repository = self.repository.clone();
        self.ask(Method::HEAD, &Operation::ManifestPull { repository, reference: reference.clone() }).await
    }

    async fn ask(&self, method: Method, operation: &Operation) -> Result<StatusCode, SweepError> {
        let answer = self.app.upstream.call(self.pool, self.call(method, operation)).await?;
        Ok(answer.whole().await?.0.status)
    }

    fn call(&self, method: Method, operation: &Operation) -> Call {
        let name = self.project.upstream_name(&self.repository);
        Call::new(method, operation.path_and_query(&name), format!("repository:{name}:pull,push,delete"))
            .header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT))
    }

    fn stored(&self, digest: &Digest, size: u64) -> StoredBlob {
        StoredBlob {
            project: self.project.id.clone(),
            repository: self.repository.clone(),
            digest: digest.clone(),
            size,
            at: self.now,
        }
    }

    fn isolation(&self) -> Isolation {
        self.app.settings.load().config.upstream.isolation
    }

    /// The upstream was asked: whatever else is under way, this entry has had its answer.
    async fn release(&self, entry: &JournalEntry) -> Result<(), SweepError> {
        let id = entry.id.clone();
        Ok(self.app.store.run(|store| async move { store.release(&id).await }).await?)
    }
}

fn odd(status: StatusCode, what: &str) -> SweepError {
    UpstreamError::Odd(format!("it answered {} to {what}", status.as_u16())).into()
}

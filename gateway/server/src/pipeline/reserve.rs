//! Quota for writes → [`Cleared`], the only thing that may be forwarded: while the upstream is under maintenance nothing is
//! written, and what brings bytes has room for them before the first one goes.

use super::Visit;
use super::admit::Admitted;
use super::authorize::Granted;
use super::inspect::Payload;
use super::respond::Refusal;
use super::screen::{Leave, Screened};
use crate::config::Isolation;
use crate::quota::{Hold, PATIENCE, TakeError, Wanted, abandon, operation_id};
use crate::tag_lock::TagLocks;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{StatusCode, header};
use portcullis_oci::manifest::Manifest;
use portcullis_oci::route::UploadStart;
use portcullis_oci::{Digest, ErrorCode, Operation, ProtocolError, RepositoryName, Tag};
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use portcullis_tenancy::quota::Purpose;
use portcullis_tenancy::{Project, Store};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How many sizes of one manifest's blobs the upstream is asked for at once.
const STATED_AT_ONCE: usize = 8;

/// An operation that may go upstream. Only this stage makes one.
pub struct Cleared {
    screened: Screened,
    room: Option<Room>,
}

/// Room for what an operation brings.
pub struct Room {
    /// The reservation.
    pub hold: Arc<Hold>,
    /// Blobs that a manifest names and the ledger does not know, at the sizes that the upstream states.
    pub sizes: Vec<(Digest, u64)>,
    /// The locks on a manifest's tags, where they were free and are not held yet.
    pub locks: Option<TagLocks>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.hold.end();
    }
}

impl Cleared {
    /// What was granted and what goes along with it, to be sent; what screening leaves for that; and the room for it.
    pub fn into_parts(self) -> (Admitted, Payload, Leave, Option<Room>) {
        let (inspected, leave) = self.screened.into_parts();
        let (admitted, payload) = inspected.into_parts();
        (admitted, payload, leave, self.room)
    }
}

/// Clears an operation that has room for what it brings. An upload that has none is given up, upstream too.
pub async fn reserve(visit: &Visit, screened: Screened) -> Result<Cleared, Refusal> {
    let granted = screened.granted();
    let operation = granted.operation();
    if operation.is_write()
        && let Some(since) = visit.worker.app.store.maintenance().await?
    {
        return Err(Refusal::unavailable(format!(
            "the registry is under maintenance since {since:.0}: pulls go on, pushes and deletions wait; try again later"
        )));
    }
    let (Some(project), Some(repository)) = (granted.project().cloned(), operation.repository().cloned()) else {
        return Ok(Cleared { screened, room: None });
    };
    let need = Need { visit, granted, project, repository };
    let room = match (operation, screened.payload()) {
        (Operation::UploadChunk { .. }, payload) => Some(need.of_upload(None, payload).await?),
        (Operation::UploadFinish { digest, .. }, payload)
        | (Operation::UploadStart { start: UploadStart::Monolithic(digest), .. }, payload) => {
            Some(need.of_upload(Some(digest), payload).await?)
        }
        (Operation::UploadStart { start: UploadStart::Mount { digest, from: Some(from) }, .. }, _) => {
            need.of_mount(digest, from).await?
        }
        (Operation::UploadCancel { .. }, _) => need.of_cancel().await?,
        (Operation::ManifestPush { tags, .. }, Payload::Manifest { manifest, .. }) => {
            let step = JournalStep::PutManifest { digest: manifest.digest.clone(), tags: tags.clone() };
            Some(need.of_manifest(manifest, tags, step, !screened.has_locks()).await?)
        }
        _ => None,
    };
    Ok(Cleared { screened, room })
}

/// Room for a manifest of which nothing has gone upstream: a client that goes away meanwhile leaves nothing behind.
struct Unsent {
    hold: Arc<Hold>,
    is_over: bool,
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.is_over, Handle::try_current()) {
            let hold = Arc::clone(&self.hold);
            runtime.spawn(async move { hold.release().await });
        }
    }
}

/// What one operation needs room for.
struct Need<'a> {
    visit: &'a Visit,
    granted: &'a Granted,
    project: Arc<Project>,
    repository: RepositoryName,
}

impl Need<'_> {
    /// An upload's request: as long as it says, or nobody knows. `ends_as` is the blob that it is to become with it.
    async fn of_upload(&self, ends_as: Option<&Digest>, payload: &Payload) -> Result<Room, Refusal> {
        let session = self.granted.session();
        if let Some(session) = session {
            session.check_turn(&self.visit.head.headers)?;
        }
        // What came of a crash is found out by the digest, and an upstream may take bytes for one that it cannot compute.
        if let Some(digest) = ends_as.filter(|digest| digest.verifier().is_none()) {
            let message = format!("{digest} cannot be checked; name the blob by its sha256 or sha512");
            return Err(ProtocolError::new(ErrorCode::DigestInvalid, message).into());
        }
        let (id, base) = match session {
            Some(session) => (session.upload.clone(), session.offset),
            None => (operation_id(), 0),
        };
        let announced = self.visit.head.headers.get(header::CONTENT_LENGTH);
        let length = match payload {
            Payload::Blob(_) => announced.and_then(|length| length.to_str().ok()?.parse().ok()),
            _ => Some(0),
        };
        let journal = ends_as.map(|digest| self.journal(&id, JournalStep::PutBlob { digest: digest.clone() }));
        let alone_within = session.map(|_| PATIENCE);
        let wanted = Wanted { base, length, journal, alone_within, ..self.wanted(id, Purpose::Upload) };
        Ok(Room { hold: self.take(&wanted).await?, sizes: Vec::new(), locks: None })
    }

    /// The end of an upload that its client gives up: it brings nothing, and nobody else may be at work at it.
    async fn of_cancel(&self) -> Result<Option<Room>, Refusal> {
        let Some(session) = self.granted.session() else { return Ok(None) };
        if self.visit.worker.app.holds.is_at_work(&session.upload) {
            return Err(TakeError::AtWork.into());
        }
        let wanted = Wanted {
            length: Some(0),
            alone_within: Some(Duration::ZERO),
            ..self.wanted(session.upload.clone(), Purpose::Upload)
        };
        Ok(Some(Room { hold: self.take(&wanted).await?, sizes: Vec::new(), locks: None }))
    }

    /// A mount: nothing where the project is charged with the blob already. None where its size cannot be told: it will be no
    /// mount.
    async fn of_mount(&self, digest: &Digest, from: &RepositoryName) -> Result<Option<Room>, Refusal> {
        let Some(source) = self.granted.mount_source() else { return Ok(None) };
        let (target, home, wanted) = (self.project.id.clone(), source.id.clone(), [digest.clone()]);
        let look = |store: Arc<dyn Store>| async move {
            let unpaid = store.unpaid(&target, None, &wanted).await?;
            Ok((unpaid, store.stored_sizes(&home, &wanted).await?))
        };
        let (unpaid, stored) = self.visit.worker.app.store.run(look).await?;
        let bytes = match (unpaid.unknown.is_empty(), stored.first()) {
            (true, _) => unpaid.bytes,
            (false, Some((_, size))) => *size,
            (false, None) => match self.stated_size(&source.upstream_name(from), digest).await? {
                Some(size) => size,
                None => return Ok(None),
            },
        };
        let id = operation_id();
        let journal = self.journal(&id, JournalStep::PutBlob { digest: digest.clone() });
        let (length, journal) = (Some(bytes), Some(journal));
        let wanted = Wanted { length, journal, ..self.wanted(id, Purpose::Mount) };
        Ok(Some(Room { hold: self.take(&wanted).await?, sizes: Vec::new(), locks: None }))
    }

    /// A manifest: its own bytes, and those of all that it names and the project is not charged with. Sizes come from the ledger
    /// or the upstream, never from what the manifest claims.
    async fn of_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        step: JournalStep,
        locks_tags: bool,
    ) -> Result<Room, Refusal> {
        let named = manifest.config.iter().chain(&manifest.layers).map(|blob| blob.digest.clone());
        let pins: Vec<Digest> = named.collect::<BTreeSet<_>>().into_iter().collect();
        let id = operation_id();
        let (length, journal) = (Some(0), Some(self.journal(&id, step)));
        let manifest = Some((manifest.digest.clone(), manifest.size));
        let wanted = Wanted { length, journal, pins, manifest, locks_tags, ..self.wanted(id, Purpose::Manifest) };
        let hold = self.take(&wanted).await?;
        let mut unsent = Unsent { hold: Arc::clone(&hold), is_over: false };
        let store = &self.visit.worker.app.store;
        let claimed = || TagLocks::claimed(store, &self.project.id, &self.repository, tags.to_vec(), hold.id());
        let locks = hold.has_locked().then(claimed);
        let stated = self.of_unknown(&hold, &wanted).await;
        unsent.is_over = true;
        // The tags may have become free in between.
        let locks = locks.or_else(|| hold.has_locked().then(claimed));
        match stated {
            Ok(sizes) => Ok(Room { hold, sizes, locks }),
            Err(refusal) => {
                hold.release().await;
                if let Some(locks) = locks {
                    locks.release().await;
                }
                Err(refusal)
            }
        }
    }

    /// Blobs that a manifest names and the ledger does not know, at the sizes that the upstream states.
    async fn of_unknown(&self, hold: &Hold, wanted: &Wanted) -> Result<Vec<(Digest, u64)>, Refusal> {
        let unknown = hold.unknown();
        // Where the gateway keeps repositories apart, what it does not know is not there.
        if unknown.is_empty() || self.visit.settings.config.upstream.isolation != Isolation::Repository {
            return Ok(Vec::new());
        }
        let name = &self.project.upstream_name(&self.repository);
        let size_of =
            |digest: Digest| async move { Ok::<_, Refusal>((self.stated_size(name, &digest).await?, digest)) };
        let stated = stream::iter(unknown).map(size_of).buffered(STATED_AT_ONCE);
        // What is not there, the upstream will miss as well; but for foreign layers, which cost nothing.
        let there = stated.try_filter_map(|(size, digest)| async move { Ok(size.map(|size| (digest, size))) });
        let sizes: Vec<(Digest, u64)> = there.try_collect().await?;
        if !sizes.is_empty() {
            let bytes = sizes.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
            hold.extend(wanted, bytes).await?;
        }
        hold.refusal().map_or(Ok(sizes), Err)
    }

    /// No bytes of an unknown number.
    fn wanted(&self, id: Box<str>, purpose: Purpose) -> Wanted {
        let config = &self.visit.settings.config;
        // Where the gateway keeps repositories apart, nothing is taken away that could be seen to be gone.
        let is_taken_away = config.upstream.isolation == Isolation::Repository;
        Wanted {
            id,
            robot: self.granted.caller().robot().map(|robot| robot.id.clone()),
            purpose,
            base: 0,
            length: None,
            pins: Vec::new(),
            manifest: None,
            journal: None,
            locks_tags: false,
            waiting_percent: is_taken_away.then_some(config.quota.waiting_percent),
            alone_within: None,
        }
    }

    async fn take(&self, wanted: &Wanted) -> Result<Arc<Hold>, Refusal> {
        let worker = &self.visit.worker;
        let hold = worker.app.holds.take(&self.project, wanted).await?;
        let Some(refusal) = hold.refusal() else { return Ok(hold) };
        if let Some(session) = self.granted.session() {
            abandon(worker, &self.project, &self.repository, session).await;
        }
        Err(refusal)
    }

    fn journal(&self, id: &str, step: JournalStep) -> JournalEntry {
        JournalEntry {
            id: id.into(),
            project: self.project.id.clone(),
            repository: self.repository.clone(),
            step,
            actor: self.granted.caller().actor(),
            started_at: self.visit.now,
        }
    }

    /// A blob's size, as the upstream states it; none where it is not there.
    async fn stated_size(&self, upstream_name: &str, digest: &Digest) -> Result<Option<u64>, Refusal> {
        let worker = &self.visit.worker;
        match worker.app.upstream.blob_head(&worker.pool, upstream_name, digest).await? {
            (StatusCode::OK, Some(size)) => Ok(Some(size)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(Refusal::UpstreamStatus { status, retry_after: None }),
        }
    }
}

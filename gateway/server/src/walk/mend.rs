//! The record is made to say what the upstream has. Whatever is put down or struck out, the upstream is asked once more
//! afterwards: what somebody else did there in between is followed.

use super::drift::{Finding, Kind, Subject};
use super::place::{Fetched, Place, Record};
use super::seen::Seen;
use super::{Outcome, Recorded};
use futures_util::{StreamExt, TryStreamExt, stream};
use portcullis_oci::manifest::Manifest;
use portcullis_oci::{Digest, Reference, Tag};
use portcullis_tenancy::Timestamp;
use portcullis_tenancy::ledger::{Charge, PushedManifest, StoredBlob};
use portcullis_tenancy::quota::Admission;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a blob that is being taken away upstream is waited for, and how long each time.
const WAITS: u32 = 20;
const WAIT: Duration = Duration::from_millis(250);
/// By whom what was not pushed through the gateway was brought.
const ACTOR: &str = "import";

/// Counts what is put on record; bytes once for each digest.
#[derive(Default)]
pub(super) struct Tally(Mutex<(Recorded, HashSet<Digest>)>);

impl Tally {
    pub(super) fn into_recorded(self) -> Recorded {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).0
    }

    fn charge(&self, digest: &Digest, bytes: u64) {
        let (recorded, counted) = &mut *self.lock();
        if counted.insert(digest.clone()) {
            recorded.bytes = recorded.bytes.saturating_add(bytes);
        }
    }

    fn count(&self, manifests: u64, blobs: u64, tags: usize) {
        let (recorded, _) = &mut *self.lock();
        recorded.manifests = recorded.manifests.saturating_add(manifests);
        recorded.blobs = recorded.blobs.saturating_add(blobs);
        recorded.tags = recorded.tags.saturating_add(u64::try_from(tags).unwrap_or(u64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, (Recorded, HashSet<Digest>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Puts on record what is there and is not.
    pub(super) async fn import(&self, record: &Record, seen: &Seen) -> anyhow::Result<Outcome> {
        let tags: Vec<Tag> = seen.tags.keys().filter(|tag| !record.tags.contains_key(*tag)).cloned().collect();
        let tags = tags.into_iter().filter(|tag| seen.tags.get(tag).is_some_and(|on| seen.manifests.contains_key(on)));
        let tags: Vec<Tag> = tags.collect();
        // What those tags stand on is put down together with them.
        let tagged: BTreeSet<&Digest> = tags.iter().filter_map(|tag| seen.tags.get(tag)).collect();
        let untagged = seen.manifests.keys().filter(|digest| !tagged.contains(digest));
        let untagged: Vec<Digest> =
            untagged.filter(|digest| !record.manifests.contains_key(*digest)).cloned().collect();
        let put = |digest: Digest| async move { self.mend_manifest(&digest).await };
        let put: Vec<bool> =
            stream::iter(untagged).map(put).buffer_unordered(self.walker.at_once).try_collect().await?;
        let mut not_put = put.into_iter().filter(|is_put| !is_put).count();
        for digest in seen.blobs.iter().filter(|(_, size)| size.is_some()).map(|(digest, _)| digest) {
            not_put = not_put.saturating_add(usize::from(!self.mend_blob(digest).await?));
        }
        let tags = self.settle_tags(tags, true).await?;
        not_put = not_put.saturating_add(tags.findings.iter().filter(|finding| !finding.is_mended).count());
        Ok(Outcome { under_way: not_put.saturating_add(tags.under_way), ..Outcome::default() })
    }

    /// Mends those findings whose kind is chosen.
    pub(super) async fn mend(&self, findings: &mut [Finding], is_chosen: fn(Kind) -> bool) -> anyhow::Result<()> {
        for finding in findings.iter_mut().filter(|finding| is_chosen(finding.kind)) {
            finding.is_mended = match (&finding.subject, finding.kind) {
                (Subject::Manifest(digest), Kind::MissingUpstream) => self.forget_manifest(digest).await?,
                (Subject::Manifest(digest), _) => self.mend_manifest(digest).await?,
                (Subject::Blob { digest, .. }, Kind::MissingUpstream) => self.forget_blob(digest).await?,
                (Subject::Blob { digest, .. }, _) => self.mend_blob(digest).await?,
                (Subject::Tag(_) | Subject::Counter, _) => false,
            };
        }
        Ok(())
    }

    async fn mend_manifest(&self, digest: &Digest) -> anyhow::Result<bool> {
        match self.fetch(digest).await? {
            Fetched::Manifest(manifest) => self.put_on_record(*manifest, Vec::new()).await,
            Fetched::Nothing | Fetched::Throwaway => Ok(true),
            Fetched::Unreadable(_) => Ok(false),
        }
    }

    /// Puts a manifest on record under these tags, with all that it names and the upstream has, at the sizes that the upstream
    /// states. Not where a blob is being taken away just now.
    pub(super) async fn put_on_record(&self, manifest: Manifest, tags: Vec<Tag>) -> anyhow::Result<bool> {
        let (store, id) = (&self.walker.store, &self.project.id);
        let digest = manifest.digest.clone();
        let named = self.named(&manifest);
        let unpaid = store.unpaid(id, Some(&digest), &named).await?;
        let unlinked = store.missing_links(id, &self.repository, &named).await?;
        let known = store.manifest(id, &self.repository, &digest).await?;
        let size_of = |digest: Digest| async move { Ok::<_, anyhow::Error>((self.blob_size(&digest).await?, digest)) };
        let sizes = stream::iter(unpaid.unknown).map(size_of).buffered(self.walker.at_once);
        let sizes: Vec<(Digest, u64)> = sizes
            .try_filter_map(|(size, digest)| async move { Ok(size.map(|size| (digest, size))) })
            .try_collect()
            .await?;
        let (own, tagged) = (manifest.size, tags.len());
        let pushed = PushedManifest {
            project: id.clone(),
            repository: self.repository.clone(),
            manifest,
            tags,
            pushed_at: known.as_ref().map_or_else(Timestamp::now, |known| known.pushed_at),
            pushed_by: ACTOR.into(),
        };
        let add = || store.add_manifest(&pushed, &sizes, Charge::Anyway);
        if !patiently(add).await? {
            return Ok(false);
        }
        if !unpaid.knows_manifest {
            self.tally.charge(&digest, own);
        }
        sizes.iter().for_each(|(digest, size)| self.tally.charge(digest, *size));
        // What another repository of the project brought on record, meanwhile or before, has no link here yet.
        let left = store.missing_links(id, &self.repository, &unlinked).await?;
        let linked = unlinked.len().saturating_sub(left.len());
        self.tally.count(u64::from(known.is_none()), u64::try_from(linked).unwrap_or(u64::MAX), tagged);
        for blob in &left {
            self.mend_blob(blob).await?;
        }
        // Whoever deleted it meanwhile struck it out before it was put down.
        if self.digest(&Reference::Digest(digest.clone())).await?.is_none() {
            store.remove_manifest(id, &self.repository, &digest, Timestamp::now()).await?;
        }
        Ok(true)
    }

    /// Puts a blob on record as the upstream has it, if it has it.
    async fn mend_blob(&self, digest: &Digest) -> anyhow::Result<bool> {
        let (store, id) = (&self.walker.store, &self.project.id);
        let Some(size) = self.blob_size(digest).await? else { return Ok(true) };
        let one = std::slice::from_ref(digest);
        let is_charged = !store.stored_sizes(id, one).await?.is_empty();
        let is_new = !store.has_link(id, &self.repository, digest).await?;
        let (project, repository) = (id.clone(), self.repository.clone());
        let blob = StoredBlob { project, repository, digest: digest.clone(), size, at: Timestamp::now() };
        if !patiently(|| store.add_blob(&blob, Charge::Anyway)).await? {
            return Ok(false);
        }
        if !is_charged {
            self.tally.charge(digest, size);
        }
        self.tally.count(0, u64::from(is_new), 0);
        if is_new && self.blob_size(digest).await?.is_none() {
            store.remove_link(id, &self.repository, digest).await?;
        }
        Ok(true)
    }

    async fn forget_manifest(&self, digest: &Digest) -> anyhow::Result<bool> {
        let (store, id) = (&self.walker.store, &self.project.id);
        let removed = store.remove_manifest(id, &self.repository, digest, Timestamp::now()).await?;
        // Whoever pushed it meanwhile has put it down before it was struck out.
        if let Fetched::Manifest(manifest) = self.fetch(digest).await? {
            let mut tags = Vec::new();
            for tag in removed.tags {
                if self.digest(&Reference::Tag(tag.clone())).await?.is_some_and(|on| on == *digest) {
                    tags.push(tag);
                }
            }
            self.put_on_record(*manifest, tags).await?;
        }
        Ok(true)
    }

    async fn forget_blob(&self, digest: &Digest) -> anyhow::Result<bool> {
        self.walker.store.remove_link(&self.project.id, &self.repository, digest).await?;
        // It is put down again where it came back meanwhile.
        self.mend_blob(digest).await
    }
}

/// Tries until no blob of it is being taken away upstream; whether it was done.
async fn patiently<F: Future<Output = portcullis_tenancy::store::Result<Admission>>>(
    add: impl Fn() -> F,
) -> anyhow::Result<bool> {
    for _ in 0..WAITS {
        match add().await? {
            Admission::Granted { .. } => return Ok(true),
            Admission::Refused(_) => return Ok(false),
            Admission::Busy => tokio::time::sleep(WAIT).await,
        }
    }
    Ok(false)
}

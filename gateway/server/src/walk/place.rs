//! One repository, upstream and on record: what is asked of both sides.

use super::Walker;
use super::drift::{Fact, OnRecord, Subject};
use super::mend::Tally;
use crate::config::Isolation;
use portcullis_oci::manifest::{self, Descriptor, Manifest};
use portcullis_oci::{Digest, Reference, RepositoryName, Tag};
use portcullis_tenancy::ledger::{HeldBlob, JournalEntry, Standing};
use portcullis_tenancy::{Project, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Rows that are read at once.
const PAGE: u32 = 1000;
/// How far another node's clock may be ahead.
const SKEW: Duration = Duration::from_secs(3600);

/// A project's repository.
pub(super) struct Place<'a> {
    pub(super) walker: &'a Walker<'a>,
    pub(super) project: &'a Project,
    pub(super) repository: RepositoryName,
    pub(super) tally: &'a Tally,
    /// Its name upstream.
    name: String,
}

/// What is on record of a repository.
pub(super) struct Record {
    /// With their sizes.
    pub(super) manifests: BTreeMap<Digest, u64>,
    pub(super) blobs: BTreeMap<Digest, HeldBlob>,
    pub(super) tags: BTreeMap<Tag, Digest>,
}

/// What the upstream has by a manifest's digest.
pub(super) enum Fetched {
    /// Nothing.
    Nothing,
    /// What takes a tag away, and is nobody's.
    Throwaway,
    /// Something that cannot be recorded; why.
    Unreadable(String),
    /// A manifest.
    Manifest(Box<Manifest>),
}

/// What the upstream says of a subject.
pub(super) enum Told {
    /// This, or nothing.
    Fact(Option<Fact>),
    /// What nobody can compare.
    Nonsense,
}

impl<'a> Place<'a> {
    pub(super) fn new(
        walker: &'a Walker<'a>,
        project: &'a Project,
        repository: RepositoryName,
        tally: &'a Tally,
    ) -> Self {
        Self { walker, project, tally, name: project.upstream_name(&repository), repository }
    }

    pub(super) async fn record(&self) -> anyhow::Result<Record> {
        let (store, id) = (&self.walker.store, &self.project.id);
        let manifests = store.manifests(id, &self.repository).await?.into_iter().collect();
        let tags = store.tags(id, &self.repository).await?.into_iter().collect();
        let mut blobs = BTreeMap::new();
        loop {
            let after = blobs.last_key_value().map(|(digest, _)| digest);
            let page = store.held_blobs(id, &self.repository, after, PAGE).await?;
            if page.is_empty() {
                return Ok(Record { manifests, blobs, tags });
            }
            blobs.extend(page.into_iter().map(|blob: HeldBlob| (blob.digest.clone(), blob)));
        }
    }

    pub(super) async fn upstream_tags(&self) -> anyhow::Result<Vec<Tag>> {
        let _turn = self.walker.turn().await?;
        self.walker.upstream.tags(&self.name).await
    }

    pub(super) async fn fetch(&self, digest: &Digest) -> anyhow::Result<Fetched> {
        let reference = Reference::Digest(digest.clone());
        let found = {
            let _turn = self.walker.turn().await?;
            self.walker.upstream.unverified_manifest(&self.name, &reference).await?
        };
        let Some((media_type, bytes)) = found else { return Ok(Fetched::Nothing) };
        let is_it = digest.verifier().is_some_and(|mut verifier| {
            verifier.update(&bytes);
            verifier.matches()
        });
        if !is_it {
            return Ok(Fetched::Unreadable("the upstream's bytes do not have that digest".to_owned()));
        }
        if self.walker.throwaways.is_ours(&bytes) {
            return Ok(Fetched::Throwaway);
        }
        Ok(match manifest::parse(media_type.as_deref(), &bytes) {
            Ok(manifest) => Fetched::Manifest(Box::new(Manifest { digest: digest.clone(), ..manifest })),
            Err(error) => Fetched::Unreadable(error.to_string()),
        })
    }

    /// The distinct blobs that a manifest names and that are looked for. Where the gateway keeps repositories apart, foreign layers
    /// are not: nobody had to show that he has them, and the upstream may show him another tenant's.
    pub(super) fn named(&self, manifest: &Manifest) -> Vec<Digest> {
        let is_looked_for = |blob: &&Descriptor| self.walker.isolation == Isolation::Repository || !blob.is_foreign();
        let named = manifest.config.iter().chain(&manifest.layers).filter(is_looked_for);
        named.map(|blob| blob.digest.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What the upstream has under a reference; none where it is not there.
    pub(super) async fn digest(&self, reference: &Reference) -> anyhow::Result<Option<Digest>> {
        let _turn = self.walker.turn().await?;
        self.walker.upstream.manifest_digest(&self.name, reference).await
    }

    /// A blob's size, as the upstream states it.
    pub(super) async fn blob_size(&self, digest: &Digest) -> anyhow::Result<Option<u64>> {
        let _turn = self.walker.turn().await?;
        self.walker.upstream.blob_size(&self.name, digest).await
    }

    /// What the upstream says of it now.
    pub(super) async fn told(&self, subject: &Subject) -> anyhow::Result<Told> {
        Ok(Told::Fact(match subject {
            Subject::Manifest(digest) => match self.fetch(digest).await? {
                Fetched::Manifest(manifest) => Some(Fact::Size(manifest.size)),
                Fetched::Nothing | Fetched::Throwaway => None,
                Fetched::Unreadable(_) => return Ok(Told::Nonsense),
            },
            Subject::Blob { digest, .. } => self.blob_size(digest).await?.map(Fact::Size),
            Subject::Tag(tag) => {
                let Some(digest) = self.digest(&Reference::Tag(tag.clone())).await? else {
                    return Ok(Told::Fact(None));
                };
                match self.fetch(&digest).await? {
                    Fetched::Manifest(_) => Some(Fact::Digest(digest)),
                    Fetched::Nothing | Fetched::Throwaway => None,
                    Fetched::Unreadable(_) => return Ok(Told::Nonsense),
                }
            }
            Subject::Counter => None,
        }))
    }

    /// What is on record of it now.
    pub(super) async fn on_record(&self, subject: &Subject, tags: &BTreeMap<Tag, Digest>) -> anyhow::Result<OnRecord> {
        let (store, id) = (&self.walker.store, &self.project.id);
        let fact = match subject {
            Subject::Manifest(digest) => {
                store.manifest(id, &self.repository, digest).await?.map(|manifest| Fact::Size(manifest.size))
            }
            Subject::Blob { digest, .. } => match store.standing(id, &self.repository, digest).await? {
                Standing::Uncharged => return Ok(OnRecord::Uncharged),
                Standing::Unknown => None,
                Standing::Held { .. } => {
                    let sizes = store.stored_sizes(id, std::slice::from_ref(digest)).await?;
                    sizes.first().map(|(_, size)| Fact::Size(*size))
                }
            },
            Subject::Tag(tag) => tags.get(tag).cloned().map(Fact::Digest),
            Subject::Counter => None,
        };
        Ok(fact.map_or(OnRecord::Nothing, OnRecord::Held))
    }

    pub(super) async fn tags_on_record(&self) -> anyhow::Result<BTreeMap<Tag, Digest>> {
        Ok(self.walker.store.tags(&self.project.id, &self.repository).await?.into_iter().collect())
    }

    /// What anybody is at work at here, or was when he was cut off.
    pub(super) async fn under_way(&self) -> anyhow::Result<Vec<JournalEntry>> {
        let now = Timestamp::now();
        let mut entries = self.walker.store.unfinished(now.checked_add(SKEW).unwrap_or(now)).await?;
        entries.retain(|entry| entry.project == self.project.id && entry.repository == self.repository);
        Ok(entries)
    }
}

//! What the upstream holds in one repository, as far as anybody can see it: its tags, what they reach, and what is asked for
//! because it is on record.

use super::Task;
use super::drift::{Fact, Finding, OnRecord, Subject};
use super::place::{Fetched, Place, Record};
use futures_util::{StreamExt, TryStreamExt, stream};
use portcullis_oci::{Digest, Reference, Tag};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) tags: BTreeMap<Tag, Digest>,
    /// With their sizes: what they name is kept once for all of them, however many name it.
    pub(super) manifests: BTreeMap<Digest, u64>,
    /// What cannot be recorded, and why.
    pub(super) unreadable: BTreeMap<Digest, String>,
    /// Blobs that were asked for: their sizes, where they are there.
    pub(super) blobs: BTreeMap<Digest, Option<u64>>,
    /// Each named blob with one of the manifests that name it.
    pub(super) named_by: BTreeMap<Digest, Digest>,
    /// Those blobs that a manifest on record names.
    named_on_record: BTreeSet<Digest>,
}

impl Place<'_> {
    /// Looks at the repository upstream.
    pub(super) async fn see(&self, record: &Record, task: Task) -> anyhow::Result<Seen> {
        let at_once = self.walker.at_once;
        let mut seen = Seen::default();
        let digest_of = |tag: Tag| async move {
            let digest = self.digest(&Reference::Tag(tag.clone())).await?;
            Ok::<_, anyhow::Error>(digest.map(|digest| (tag, digest)))
        };
        let tags = stream::iter(self.upstream_tags().await?).map(digest_of).buffer_unordered(at_once);
        seen.tags = tags.try_filter_map(|tagged| async move { Ok(tagged) }).try_collect().await?;

        let mut wanted: BTreeSet<Digest> = seen.tags.values().chain(record.manifests.keys()).cloned().collect();
        let mut asked = wanted.clone();
        while !wanted.is_empty() {
            let fetch = |digest: Digest| async move { Ok::<_, anyhow::Error>((self.fetch(&digest).await?, digest)) };
            let mut fetched = stream::iter(std::mem::take(&mut wanted)).map(fetch).buffer_unordered(at_once);
            while let Some((found, digest)) = fetched.try_next().await? {
                let manifest = match found {
                    Fetched::Nothing | Fetched::Throwaway => continue,
                    Fetched::Unreadable(why) => {
                        seen.unreadable.insert(digest, why);
                        continue;
                    }
                    Fetched::Manifest(manifest) => manifest,
                };
                // A subject is no child: it is named without having been looked at, and may be anybody's.
                let children = manifest.children.iter().map(|child| &child.digest);
                wanted.extend(children.filter(|child| asked.insert((*child).clone())).cloned());
                for blob in self.named(&manifest) {
                    if record.manifests.contains_key(&digest) {
                        seen.named_on_record.insert(blob.clone());
                    }
                    seen.named_by.entry(blob).or_insert_with(|| digest.clone());
                }
                seen.manifests.insert(digest, manifest.size);
            }
        }
        // A tag on what is not there, or is nobody's, is none.
        let Seen { tags, manifests, unreadable, .. } = &mut seen;
        tags.retain(|_, digest| manifests.contains_key(digest) || unreadable.contains_key(digest));
        let size_of = |digest: Digest| async move { Ok::<_, anyhow::Error>((self.blob_size(&digest).await?, digest)) };
        let sizes = stream::iter(seen.blobs_to_ask(record, task)).map(size_of).buffer_unordered(at_once);
        seen.blobs = sizes.map_ok(|(size, digest)| (digest, size)).try_collect().await?;
        Ok(seen)
    }
}

impl Seen {
    fn blobs_to_ask(&self, record: &Record, task: Task) -> BTreeSet<Digest> {
        let uncharged = |digest: &Digest| record.blobs.get(digest).is_some_and(|blob| !blob.is_charged);
        match task {
            // What a manifest names that is not on record itself is asked for when that is recorded.
            Task::Import => {
                self.named_on_record.iter().filter(|digest| !record.blobs.contains_key(*digest)).cloned().collect()
            }
            Task::Reconcile { .. } => {
                let all = self.named_by.keys().chain(record.blobs.keys());
                all.filter(|digest| !uncharged(digest)).cloned().collect()
            }
        }
    }

    /// Where the repository differs from its record, at the first look.
    pub(super) fn compare(&self, place: &Place<'_>, record: &Record) -> Vec<Finding> {
        let held = |fact: Option<Fact>| fact.map_or(OnRecord::Nothing, OnRecord::Held);
        let judge = |subject, recorded, upstream| Finding::judge(&place.repository, subject, recorded, upstream);
        let manifests: BTreeSet<&Digest> = self.manifests.keys().chain(record.manifests.keys()).collect();
        let manifests = manifests.into_iter().filter(|digest| !self.unreadable.contains_key(*digest));
        let manifests = manifests.filter_map(|digest| {
            let recorded = record.manifests.get(digest).copied().map(Fact::Size);
            let upstream = self.manifests.get(digest).copied().map(Fact::Size);
            judge(Subject::Manifest(digest.clone()), held(recorded), upstream)
        });
        let blobs = self.blobs.iter().filter_map(|(digest, size)| {
            let recorded = record.blobs.get(digest).map(|blob| Fact::Size(blob.size));
            let subject = Subject::Blob { digest: digest.clone(), named_by: self.named_by.get(digest).cloned() };
            judge(subject, held(recorded), size.map(Fact::Size))
        });
        let tags: BTreeSet<&Tag> = self.tags.keys().chain(record.tags.keys()).collect();
        let tags = tags.into_iter().filter_map(|tag| {
            let (recorded, upstream) = (record.tags.get(tag), self.tags.get(tag));
            if upstream.is_some_and(|digest| self.unreadable.contains_key(digest)) {
                return None;
            }
            judge(
                Subject::Tag(tag.clone()),
                held(recorded.cloned().map(Fact::Digest)),
                upstream.cloned().map(Fact::Digest),
            )
        });
        manifests.chain(blobs).chain(tags).collect()
    }
}

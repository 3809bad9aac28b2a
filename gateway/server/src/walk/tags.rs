//! Tags that differ: looked at, and mended, under their locks, so that nobody pushes or deletes them in between.

use super::Outcome;
use super::drift::{Fact, Finding, Kind, Subject};
use super::place::{Fetched, Place};
use crate::tag_lock::{LockError, TagLocks};
use anyhow::Context;
use portcullis_oci::Tag;

/// Tags that are locked together: whoever pushes one of them waits until all have been looked at.
const CHUNK: usize = 16;

impl Place<'_> {
    /// Looks at these tags under their locks, and mends those that differ where it is to.
    pub(super) async fn settle_tags(&self, tags: Vec<Tag>, repair: bool) -> anyhow::Result<Outcome> {
        let mut all = Outcome::default();
        let mut chunks: Vec<Vec<Tag>> = tags.chunks(CHUNK).map(<[Tag]>::to_vec).collect();
        while let Some(chunk) = chunks.pop() {
            let (store, id) = (&self.walker.cached, &self.project.id);
            let locks = match TagLocks::take(store, id, &self.repository, chunk.clone()).await {
                Ok(locks) => locks,
                // One of them is in use: each by itself.
                Err(LockError::Busy) if chunk.len() > 1 => {
                    chunks.extend(chunk.into_iter().map(|tag| vec![tag]));
                    continue;
                }
                Err(LockError::Busy) => {
                    all.under_way = all.under_way.saturating_add(1);
                    continue;
                }
                Err(LockError::Store(error)) => return Err(error).context("a tag's lock"),
            };
            let looked = self.look_at_locked(chunk, repair).await;
            locks.release().await;
            let looked = looked?;
            all.findings.extend(looked.findings);
            all.under_way = all.under_way.saturating_add(looked.under_way);
        }
        all.findings.sort_by_key(|finding| finding.subject.to_string());
        Ok(all)
    }

    async fn look_at_locked(&self, tags: Vec<Tag>, repair: bool) -> anyhow::Result<Outcome> {
        // Both sides are asked anew: what is said here is that they differ, whatever they say.
        let differs = |tag| Finding {
            kind: Kind::WrongTag,
            repository: Some(self.repository.clone()),
            subject: Subject::Tag(tag),
            recorded: None,
            upstream: None,
            is_mended: false,
        };
        let mut outcome = self.look_again(tags.into_iter().map(differs).collect()).await?;
        if repair {
            for finding in &mut outcome.findings {
                finding.is_mended = self.mend_tag(finding).await?;
            }
        }
        Ok(outcome)
    }

    async fn mend_tag(&self, finding: &Finding) -> anyhow::Result<bool> {
        let Subject::Tag(tag) = &finding.subject else { return Ok(false) };
        match &finding.upstream {
            None => {
                self.walker.store.remove_tag(&self.project.id, &self.repository, tag).await?;
                Ok(true)
            }
            Some(Fact::Digest(digest)) => match self.fetch(digest).await? {
                Fetched::Manifest(manifest) => self.put_on_record(*manifest, vec![tag.clone()]).await,
                _ => Ok(false),
            },
            Some(Fact::Size(_)) => Ok(false),
        }
    }
}

//! What keeps writes to the upstream in order: the lock on a tag, and the journal of writes in several steps.

use crate::row;
use crate::sql::{Query, SqlStore, Write};
use portcullis_oci::{Digest, RepositoryName, Tag};
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

/// Entries that one look at the journal returns; they are struck out before the next.
const PAGE: i64 = 1000;

/// Takes the lock, or makes the owner's own last longer.
pub(crate) async fn lock_tag(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    tag: &Tag,
    owner: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool> {
    Ok(store.execute(lock(project, repository, tag, owner, now, until)).await? == 1)
}

pub(crate) async fn unlock_tag(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    tag: &Tag,
    owner: &str,
) -> Result<()> {
    store.execute(unlock(project, repository, tag, owner)).await.map(|_| ())
}

/// Changes one row where the lock was had.
fn lock<'q>(
    project: &'q ProjectId,
    repository: &'q RepositoryName,
    tag: &'q Tag,
    owner: &'q str,
    now: Timestamp,
    until: Timestamp,
) -> Query<'q> {
    let take = query(
        "INSERT INTO tag_lock (project_id, repository, tag, owner, expires_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (project_id, repository, tag) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at \
         WHERE tag_lock.expires_at <= $6 OR tag_lock.owner = excluded.owner RETURNING 1 AS taken",
    );
    let take = take.bind(&*project.0).bind(repository.as_str()).bind(tag.as_str()).bind(owner);
    take.bind(until.as_millisecond()).bind(now.as_millisecond())
}

/// Gives a lock back.
pub(crate) fn unlock<'q>(
    project: &'q ProjectId,
    repository: &'q RepositoryName,
    tag: &'q Tag,
    owner: &'q str,
) -> Query<'q> {
    let give_back = query("DELETE FROM tag_lock WHERE project_id = $1 AND repository = $2 AND tag = $3 AND owner = $4");
    give_back.bind(&*project.0).bind(repository.as_str()).bind(tag.as_str()).bind(owner)
}

/// Locks the one tag of a manifest that is written down, as the one statement of several that returns a row: where it was free.
pub(crate) fn lock_only_tag(entry: &JournalEntry, until: Timestamp) -> Option<Query<'_>> {
    let JournalStep::PutManifest { tags, .. } = &entry.step else { return None };
    let [tag] = &**tags else { return None };
    Some(lock(&entry.project, &entry.repository, tag, &entry.id, entry.started_at, until))
}

/// Locks the tags of a manifest that is written down, by the entry's own id; all of them, or none.
pub(crate) async fn lock_tags(write: &mut Write, entry: &JournalEntry, until: Timestamp) -> Result<bool> {
    let JournalStep::PutManifest { tags, .. } = &entry.step else { return Ok(false) };
    for (place, tag) in tags.iter().enumerate() {
        let lock = lock(&entry.project, &entry.repository, tag, &entry.id, entry.started_at, until);
        if write.execute(lock).await? == 0 {
            for taken in tags.iter().take(place) {
                write.execute(unlock(&entry.project, &entry.repository, taken, &entry.id)).await?;
            }
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) async fn begin(store: &SqlStore, entry: &JournalEntry) -> Result<()> {
    store.execute(note(entry)).await.map(|_| ())
}

/// Writes an entry down, as a part of something larger.
pub(crate) fn note(entry: &JournalEntry) -> Query<'_> {
    let (step, tag, digest) = match &entry.step {
        JournalStep::DeleteTag { tag, throwaway } => ("delete-tag", Some(tag.to_string()), throwaway),
        JournalStep::PutBlob { digest } => ("put-blob", None, digest),
        JournalStep::PutManifest { digest, tags } => {
            let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
            ("put-manifest", Some(tags.join(" ")), digest)
        }
        JournalStep::DeleteManifest { digest } => ("delete-manifest", None, digest),
        JournalStep::DeleteBlob { digest } => ("delete-blob", None, digest),
    };
    // An upload may end more than once: the last end counts.
    query(
        "INSERT INTO journal (id, project_id, repository, step, tag, digest, actor, started_at, touched_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, touched_at = excluded.touched_at",
    )
    .bind(&*entry.id)
    .bind(&*entry.project.0)
    .bind(entry.repository.as_str())
    .bind(step)
    .bind(tag)
    .bind(digest.as_str())
    .bind(&*entry.actor)
    .bind(entry.started_at.as_millisecond())
}

/// `$1` is done and on record. Where a push and a deletion of one thing were under way side by side, nobody here knows which of
/// them the upstream did last: then both stay, and whoever looks after what is left asks the upstream.
macro_rules! done {
    ($contrary:literal) => {
        concat!(
            "DELETE FROM journal WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM journal AS other \
             WHERE other.project_id = journal.project_id AND other.repository = journal.repository \
             AND other.digest = journal.digest AND other.step = ",
            $contrary,
            ")"
        )
    };
}

/// A blob came.
pub(crate) const BLOB_DONE: &str = done!("'delete-blob'");
/// A manifest came.
pub(crate) const MANIFEST_DONE: &str = done!("'delete-manifest'");
/// Something went.
const DELETION_DONE: &str =
    done!("CASE journal.step WHEN 'delete-blob' THEN 'put-blob' WHEN 'delete-manifest' THEN 'put-manifest' END");

pub(crate) async fn finish(store: &SqlStore, id: &str) -> Result<()> {
    store.execute(query(DELETION_DONE).bind(id)).await.map(|_| ())
}

/// Whatever else is under way.
pub(crate) async fn strike_out(store: &SqlStore, id: &str) -> Result<()> {
    store.execute(query("DELETE FROM journal WHERE id = $1").bind(id)).await.map(|_| ())
}

pub(crate) async fn unfinished(store: &SqlStore, before: Timestamp) -> Result<Vec<JournalEntry>> {
    let oldest_first = query(
        "SELECT id, project_id, repository, step, tag, digest, actor, started_at FROM journal WHERE touched_at < $1 ORDER BY touched_at, id LIMIT $2",
    );
    store.all(oldest_first.bind(before.as_millisecond()).bind(PAGE), read).await
}

fn read(row: &AnyRow) -> Result<JournalEntry> {
    let digest = || row::parse(row, "digest", Digest::parse);
    let step = match row::text(row, "step")?.as_str() {
        "delete-tag" => JournalStep::DeleteTag { tag: row::parse(row, "tag", Tag::parse)?, throwaway: digest()? },
        "put-blob" => JournalStep::PutBlob { digest: digest()? },
        "put-manifest" => {
            let tags = row::optional_text(row, "tag")?.unwrap_or_default();
            let tags = tags.split_whitespace().map(|tag| row::parsed("tag", tag, Tag::parse)).collect::<Result<_>>()?;
            JournalStep::PutManifest { digest: digest()?, tags }
        }
        "delete-manifest" => JournalStep::DeleteManifest { digest: digest()? },
        "delete-blob" => JournalStep::DeleteBlob { digest: digest()? },
        other => return Err(row::unknown("step", other)),
    };
    Ok(JournalEntry {
        id: row::boxed(row, "id")?,
        project: ProjectId(row::boxed(row, "project_id")?),
        repository: row::parse(row, "repository", RepositoryName::parse)?,
        step,
        actor: row::boxed(row, "actor")?,
        started_at: row::time(row, "started_at")?,
    })
}

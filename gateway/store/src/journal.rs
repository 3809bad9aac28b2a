//! What keeps writes to the upstream in order: the lock on a tag, and the journal of writes in several steps.

use crate::row;
use crate::sql::SqlStore;
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
    let take = query(
        "INSERT INTO tag_lock (project_id, repository, tag, owner, expires_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (project_id, repository, tag) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at \
         WHERE tag_lock.expires_at <= $6 OR tag_lock.owner = excluded.owner",
    )
    .bind(&*project.0)
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(owner)
    .bind(until.as_millisecond())
    .bind(now.as_millisecond());
    Ok(store.execute(take).await? == 1)
}

pub(crate) async fn unlock_tag(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    tag: &Tag,
    owner: &str,
) -> Result<()> {
    let give_back = query("DELETE FROM tag_lock WHERE project_id = $1 AND repository = $2 AND tag = $3 AND owner = $4");
    store
        .execute(give_back.bind(&*project.0).bind(repository.as_str()).bind(tag.as_str()).bind(owner))
        .await
        .map(|_| ())
}

pub(crate) async fn begin(store: &SqlStore, entry: &JournalEntry) -> Result<()> {
    let (step, tag, digest) = match &entry.step {
        JournalStep::DeleteTag { tag, throwaway } => ("delete-tag", tag.as_str(), throwaway.as_str()),
    };
    let write_down = query("INSERT INTO journal (id, project_id, repository, step, tag, digest, started_at) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(&*entry.id)
        .bind(&*entry.project.0)
        .bind(entry.repository.as_str())
        .bind(step)
        .bind(tag)
        .bind(digest)
        .bind(entry.started_at.as_millisecond());
    store.execute(write_down).await.map(|_| ())
}

pub(crate) async fn finish(store: &SqlStore, id: &str) -> Result<()> {
    store.execute(query("DELETE FROM journal WHERE id = $1").bind(id)).await.map(|_| ())
}

pub(crate) async fn unfinished(store: &SqlStore, before: Timestamp) -> Result<Vec<JournalEntry>> {
    let oldest_first = query(
        "SELECT id, project_id, repository, step, tag, digest, started_at FROM journal WHERE started_at < $1 ORDER BY started_at, id LIMIT $2",
    );
    store.all(oldest_first.bind(before.as_millisecond()).bind(PAGE), read).await
}

fn read(row: &AnyRow) -> Result<JournalEntry> {
    let step = match row::text(row, "step")?.as_str() {
        "delete-tag" => JournalStep::DeleteTag {
            tag: row::parse(row, "tag", Tag::parse)?,
            throwaway: row::parse(row, "digest", Digest::parse)?,
        },
        other => return Err(row::unknown("step", other)),
    };
    Ok(JournalEntry {
        id: row::boxed(row, "id")?,
        project: ProjectId(row::boxed(row, "project_id")?),
        repository: row::parse(row, "repository", RepositoryName::parse)?,
        step,
        started_at: row::time(row, "started_at")?,
    })
}

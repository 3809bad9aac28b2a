//! What ends by itself: uploads under way, stored scope sets, and the sweep that takes away what has ended.

use crate::gather::again;
use crate::ledger::reservation;
use crate::row;
use crate::sql::{SqlStore, Write};
use crate::together::Joined;
use portcullis_oci::RepositoryName;
use portcullis_tenancy::ledger::Upload;
use portcullis_tenancy::store::Result;
use portcullis_tenancy::token::ScopeSet;
use portcullis_tenancy::{ProjectId, RobotId, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

/// Rows of a kind that one sweep takes; the next one goes on.
const SWEEP: i64 = 10_000;

pub(crate) async fn open_upload(store: &SqlStore, upload: &Upload) -> Result<()> {
    let insert = query("INSERT INTO upload (id, project_id, repository, robot_id, started_at, expires_at, upstream) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(&*upload.id)
        .bind(&*upload.project.0)
        .bind(upload.repository.as_str())
        .bind(&*upload.robot.0)
        .bind(upload.started_at.as_millisecond())
        .bind(upload.expires_at.as_millisecond())
        .bind(upload.upstream.as_deref());
    store.execute(insert).await.map(|_| ())
}

pub(crate) async fn upload(store: &SqlStore, id: &str) -> Result<Option<Upload>> {
    let find = query(
        "SELECT id, project_id, repository, robot_id, started_at, expires_at, upstream FROM upload WHERE id = $1",
    );
    store.optional(find.bind(id), read_upload).await
}

pub(crate) async fn close_upload(store: &SqlStore, id: &str) -> Result<()> {
    for sql in ["DELETE FROM upload WHERE id = $1", "DELETE FROM abandoned_upload WHERE id = $1"] {
        store.execute(query(sql).bind(id)).await?;
    }
    again(|| reservation::release(store, id)).await
}

pub(crate) async fn move_upload(store: &SqlStore, id: &str, upstream: &str) -> Result<()> {
    store.execute(query("UPDATE upload SET upstream = $2 WHERE id = $1").bind(id).bind(upstream)).await.map(|_| ())
}

pub(crate) async fn leave_upload(store: &SqlStore, id: &str, holder: &str, upstream: Option<&str>) -> Result<()> {
    let mut statements = Vec::new();
    if let Some(upstream) = upstream {
        // Where another node has the lease by now, it is the one that knows.
        let moved = query(
            "UPDATE upload SET upstream = $2 WHERE id = $1 \
             AND NOT EXISTS (SELECT 1 FROM reservation WHERE reservation.id = $1 AND reservation.worker <> $3)",
        );
        statements.push(moved.bind(id).bind(upstream).bind(holder));
    }
    let leave = query("UPDATE reservation SET worker = NULL, working_until = NULL WHERE id = $1 AND worker = $2");
    statements.push(leave.bind(id).bind(holder));
    store.together(statements).await
}

/// Puts uploads, of the robot or project `$1`, among those that nobody goes on with. They are still to be deleted.
macro_rules! abandon {
    ($of:literal) => {
        concat!(
            "INSERT INTO abandoned_upload (id, project_id, repository, robot_id, started_at, expires_at, upstream) \
             SELECT id, project_id, repository, robot_id, started_at, expires_at, upstream FROM upload WHERE ",
            $of,
            " ON CONFLICT DO NOTHING"
        )
    };
}
pub(crate) use abandon;

/// Takes the accounts that the uploads of this robot or project `$1` are held by, before the uploads: as whoever ends one does.
pub(crate) async fn take_accounts(write: &mut Write, of: &'static str, id: &str) -> Result<()> {
    if write.joined() == Joined::Listed {
        return Ok(());
    }
    let take = format!(
        "SELECT 1 AS taken FROM project WHERE id IN (SELECT upload.project_id FROM upload WHERE {of}) ORDER BY id FOR NO KEY UPDATE"
    );
    write.execute(query(AssertSqlSafe(take)).bind(id)).await.map(|_| ())
}

pub(crate) async fn ended_uploads(store: &SqlStore, now: Timestamp, limit: u32) -> Result<Vec<Upload>> {
    // Of each project in turn: one that has very many is in no other one's way.
    let ended = query(
        "SELECT id, project_id, repository, robot_id, started_at, expires_at, upstream FROM ( \
         SELECT ended.*, row_number() OVER (PARTITION BY project_id ORDER BY started_at, id) AS turn FROM ( \
         SELECT upload.id, upload.project_id, upload.repository, upload.robot_id, upload.started_at, upload.expires_at, upload.upstream \
         FROM upload LEFT JOIN reservation ON reservation.id = upload.id \
         WHERE coalesce(reservation.expires_at, upload.expires_at) < $1 \
         AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.id = upload.id) \
         UNION ALL \
         SELECT gone.id, gone.project_id, gone.repository, gone.robot_id, gone.started_at, gone.expires_at, gone.upstream \
         FROM abandoned_upload AS gone LEFT JOIN reservation ON reservation.id = gone.id \
         WHERE (reservation.working_until IS NULL OR reservation.working_until < $1) \
         AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.id = gone.id) \
         ) AS ended) AS ranked ORDER BY turn, started_at LIMIT $2",
    );
    store.all(ended.bind(now.as_millisecond()).bind(i64::from(limit)), read_upload).await
}

pub(crate) async fn add_scope_set(store: &SqlStore, set: &ScopeSet) -> Result<()> {
    // The id is the digest of the contents: an equal id has equal contents.
    let keep = query(
        "INSERT INTO scope_set (id, contents, expires_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at \
         WHERE scope_set.expires_at < excluded.expires_at",
    );
    let keep = keep.bind(&*set.id).bind(set.to_json()).bind(set.expires_at.as_millisecond());
    store.execute(keep).await.map(|_| ())
}

pub(crate) async fn scope_set(store: &SqlStore, id: &str) -> Result<Option<ScopeSet>> {
    let find = query("SELECT id, contents, expires_at FROM scope_set WHERE id = $1").bind(id);
    store.optional(find, read_scope_set).await
}

pub(crate) async fn sweep(store: &SqlStore, now: Timestamp) -> Result<u64> {
    let ended = [
        "DELETE FROM scope_set WHERE id IN (SELECT id FROM scope_set WHERE expires_at < $1 LIMIT $2) AND expires_at < $1",
    ];
    let mut write = store.hold().await?;
    let mut swept = 0_u64;
    for sql in ended {
        swept = swept.saturating_add(write.execute(query(sql).bind(now.as_millisecond()).bind(SWEEP)).await?);
    }
    // Locks that nobody gave back. Whoever holds one past its end has lost it already.
    // One that somebody takes anew this moment stays: he may be waiting for another one.
    let skip = if store.joined() == Joined::Within { "FOR UPDATE SKIP LOCKED" } else { "" };
    let locks = query(AssertSqlSafe(format!(
        "DELETE FROM tag_lock WHERE (project_id, repository, tag) IN \
         (SELECT project_id, repository, tag FROM tag_lock WHERE expires_at < $1 LIMIT $2 {skip}) AND expires_at < $1"
    )));
    write.execute(locks.bind(now.as_millisecond()).bind(SWEEP)).await?;
    write.commit().await?;
    Ok(swept.saturating_add(reservation::sweep(store, now).await?))
}

fn read_upload(row: &AnyRow) -> Result<Upload> {
    Ok(Upload {
        id: row::boxed(row, "id")?,
        project: ProjectId(row::boxed(row, "project_id")?),
        repository: row::parse(row, "repository", RepositoryName::parse)?,
        robot: RobotId(row::boxed(row, "robot_id")?),
        started_at: row::time(row, "started_at")?,
        expires_at: row::time(row, "expires_at")?,
        upstream: row::optional_text(row, "upstream")?.map(Into::into),
    })
}

fn read_scope_set(row: &AnyRow) -> Result<ScopeSet> {
    ScopeSet::from_json(&row::text(row, "id")?, &row::text(row, "contents")?, row::time(row, "expires_at")?)
}

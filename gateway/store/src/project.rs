//! Projects: rows of `project`, and what goes with them.

use crate::sql::{SqlStore, Write, bounded};
use crate::{limit, policy, row, session};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{Project, ProjectId, ProjectName, StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

/// Rows that one step of a purge takes.
const PURGE_STEP: i64 = 1000;

macro_rules! projects {
    ($rest:literal) => {
        concat!("SELECT id, name, upstream_prefix, public, limits, created_at, deleted_at FROM project ", $rest)
    };
}

pub(crate) async fn add(store: &SqlStore, project: &Project) -> Result<()> {
    let mut change = store.change().await?;
    let named = query("SELECT 1 AS found FROM project WHERE name = $1").bind(project.name.as_str());
    if change.optional(named, |_| Ok(())).await?.is_some() {
        return Err(StoreError::Taken("project name"));
    }
    if prefix_is_taken(&mut change, &project.upstream_prefix).await? {
        return Err(StoreError::Taken("upstream prefix"));
    }
    change
        .execute(
            query("INSERT INTO project (id, name, upstream_prefix, public, created_at, deleted_at, limits) VALUES ($1, $2, $3, $4, $5, $6, $7)")
                .bind(&*project.id.0)
                .bind(project.name.as_str())
                .bind(&*project.upstream_prefix)
                .bind(i64::from(project.public))
                .bind(project.created_at.as_millisecond())
                .bind(project.deleted_at.map(Timestamp::as_millisecond))
                .bind(project.limits.to_string()),
        )
        .await?;
    change.commit().await
}

/// Whether the prefix is equal to, above or below one that is there, by whole components. The generation's lock, which
/// the transaction holds, keeps others from adding one meanwhile.
async fn prefix_is_taken(change: &mut Write, prefix: &str) -> Result<bool> {
    let overlap = query(
        "SELECT 1 AS found FROM project WHERE upstream_prefix = $1 \
         OR substr($1, 1, length(upstream_prefix) + 1) = upstream_prefix || '/' \
         OR substr(upstream_prefix, 1, length($1) + 1) = $1 || '/' LIMIT 1",
    );
    Ok(change.optional(overlap.bind(prefix), |_| Ok(())).await?.is_some())
}

pub(crate) async fn named(store: &SqlStore, name: &str) -> Result<Option<Project>> {
    store.optional(query(projects!("WHERE name = $1")).bind(name), read).await
}

pub(crate) async fn all(store: &SqlStore) -> Result<Vec<Project>> {
    store.all(query(bounded!(projects!("ORDER BY name"))), read).await
}

/// Its robots stay as rows, but no query finds them any more; their uploads end here, and are given up upstream.
pub(crate) async fn delete(store: &SqlStore, id: &ProjectId, now: Timestamp) -> Result<()> {
    let mut change = store.change().await?;
    change
        .must(
            query("UPDATE project SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL")
                .bind(&*id.0)
                .bind(now.as_millisecond()),
        )
        .await?;
    let theirs = "upload.robot_id IN (SELECT id FROM robot WHERE robot.project_id = $1)";
    session::take_accounts(&mut change, theirs, &id.0).await?;
    let abandon = session::abandon!("(project_id = $1 OR robot_id IN (SELECT id FROM robot WHERE project_id = $1))");
    change.execute(query(abandon).bind(&*id.0)).await?;
    change.execute(query("DELETE FROM upload WHERE project_id = $1").bind(&*id.0)).await?;
    change
        .execute(
            query("DELETE FROM upload WHERE robot_id IN (SELECT id FROM robot WHERE project_id = $1)").bind(&*id.0),
        )
        .await?;
    change.commit().await
}

/// Takes some of a deleted project's records away, so that the purge of a large one does not stop everybody else;
/// returns whether there may be more.
pub(crate) async fn purge_some(store: &SqlStore, id: &ProjectId) -> Result<bool> {
    let steps = [
        "DELETE FROM manifest WHERE (project_id, repository, digest) IN (SELECT m.project_id, m.repository, m.digest \
         FROM manifest m JOIN project p ON p.id = m.project_id WHERE p.id = $1 AND p.deleted_at IS NOT NULL LIMIT $2)",
        "DELETE FROM link WHERE (project_id, repository, digest) IN (SELECT l.project_id, l.repository, l.digest \
         FROM link l JOIN project p ON p.id = l.project_id WHERE p.id = $1 AND p.deleted_at IS NOT NULL LIMIT $2)",
        "DELETE FROM blob WHERE (project_id, digest) IN (SELECT b.project_id, b.digest \
         FROM blob b JOIN project p ON p.id = b.project_id WHERE p.id = $1 AND p.deleted_at IS NOT NULL LIMIT $2)",
    ];
    for step in steps {
        if store.execute(query(step).bind(&*id.0).bind(PURGE_STEP)).await? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Everything else of the project goes with its row.
pub(crate) async fn purge(store: &SqlStore, id: &ProjectId) -> Result<()> {
    let mut change = store.change().await?;
    change.must(query("DELETE FROM project WHERE id = $1 AND deleted_at IS NOT NULL").bind(&*id.0)).await?;
    policy::forget_unused(&mut change).await?;
    change.commit().await
}

fn read(row: &AnyRow) -> Result<Project> {
    Ok(Project {
        id: ProjectId(row::boxed(row, "id")?),
        name: row::parse(row, "name", ProjectName::parse)?,
        upstream_prefix: row::boxed(row, "upstream_prefix")?,
        public: row::number(row, "public")? != 0,
        limits: limit::read(row)?,
        created_at: row::time(row, "created_at")?,
        deleted_at: row::optional_time(row, "deleted_at")?,
    })
}

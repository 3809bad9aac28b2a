//! What the operator decides: requests for quota, maintenance, and how far walks over the upstream have got.

use crate::row;
use crate::sql::{SqlStore, bounded, failure};
use portcullis_oci::RepositoryName;
use portcullis_tenancy::ledger::Walk;
use portcullis_tenancy::quota::{Decision, QuotaRequest};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

macro_rules! requests {
    ($rest:literal) => {
        concat!(
            "SELECT id, project_id, bytes, reason, requested_at, requested_by, decision, granted_bytes, decided_reason, decided_at, \
             decided_by FROM quota_request ",
            $rest
        )
    };
}

pub(crate) async fn ask(store: &SqlStore, request: &QuotaRequest) -> Result<()> {
    let put = query(
        "INSERT INTO quota_request (id, project_id, bytes, reason, requested_at, requested_by) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&*request.id)
    .bind(&*request.project.0)
    .bind(i64::try_from(request.bytes).map_err(failure)?)
    .bind(&*request.reason)
    .bind(request.requested_at.as_millisecond())
    .bind(&*request.requested_by);
    store.execute(put).await.map(|_| ())
}

pub(crate) async fn requests(store: &SqlStore, project: Option<&ProjectId>) -> Result<Vec<QuotaRequest>> {
    let find = match project {
        None => query(bounded!(requests!("ORDER BY requested_at DESC, id"))),
        Some(project) => {
            query(bounded!(requests!("WHERE project_id = $1 ORDER BY requested_at DESC, id"))).bind(&*project.0)
        }
    };
    store.all(find, read).await
}

pub(crate) async fn decide(store: &SqlStore, id: &str, decision: &Decision) -> Result<QuotaRequest> {
    let mut write = store.write().await?;
    let granted = decision.granted.map(|bytes| i64::try_from(bytes).map_err(failure)).transpose()?;
    let decide = query(
        "UPDATE quota_request SET decision = $2, granted_bytes = $3, decided_reason = $4, decided_at = $5, decided_by = $6 \
         WHERE id = $1 AND decision IS NULL",
    )
    .bind(id)
    .bind(if granted.is_some() { "approved" } else { "declined" })
    .bind(granted)
    .bind(decision.reason.as_deref())
    .bind(decision.at.as_millisecond())
    .bind(&*decision.by);
    write.must(decide).await?;
    let decided = write.optional(query(requests!("WHERE id = $1")).bind(id), read).await?;
    let decided = decided.ok_or(StoreError::Missing)?;
    if let Some(granted) = granted {
        let set = query("UPDATE project SET quota_bytes = $2 WHERE id = $1 AND deleted_at IS NULL");
        write.must(set.bind(&*decided.project.0).bind(granted)).await?;
    }
    write.commit().await?;
    Ok(decided)
}

pub(crate) async fn maintenance(store: &SqlStore) -> Result<Option<Timestamp>> {
    let find = query("SELECT maintenance_since FROM house");
    Ok(store.optional(find, |row| row::optional_time(row, "maintenance_since")).await?.flatten())
}

pub(crate) async fn under_way(store: &SqlStore, since: Timestamp) -> Result<u64> {
    let count = query("SELECT COUNT(*) AS entries FROM journal WHERE touched_at >= $1").bind(since.as_millisecond());
    Ok(store.optional(count, |row| row::size(row, "entries")).await?.unwrap_or_default())
}

pub(crate) async fn set_maintenance(store: &SqlStore, since: Option<Timestamp>) -> Result<()> {
    let mut change = store.change().await?;
    let set = query("UPDATE house SET maintenance_since = $1").bind(since.map(Timestamp::as_millisecond));
    change.must(set).await?;
    change.commit().await
}

pub(crate) async fn walk_position(store: &SqlStore, project: &ProjectId, walk: Walk) -> Result<Option<Box<str>>> {
    let find = query("SELECT after_repository FROM walk WHERE project_id = $1 AND purpose = $2");
    store.optional(find.bind(&*project.0).bind(walk.name()), |row| row::boxed(row, "after_repository")).await
}

pub(crate) async fn set_walk_position(
    store: &SqlStore,
    project: &ProjectId,
    walk: Walk,
    position: Option<&RepositoryName>,
    now: Timestamp,
) -> Result<()> {
    let set = match position {
        None => query("DELETE FROM walk WHERE project_id = $1 AND purpose = $2").bind(&*project.0).bind(walk.name()),
        Some(position) => query(
            "INSERT INTO walk (project_id, purpose, after_repository, at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (project_id, purpose) DO UPDATE SET after_repository = excluded.after_repository, at = excluded.at",
        )
        .bind(&*project.0)
        .bind(walk.name())
        .bind(position.as_str())
        .bind(now.as_millisecond()),
    };
    store.execute(set).await.map(|_| ())
}

fn read(row: &AnyRow) -> Result<QuotaRequest> {
    let decision = match row::optional_text(row, "decision")? {
        None => None,
        Some(_) => Some(Decision {
            granted: row::optional_size(row, "granted_bytes")?,
            reason: row::optional_text(row, "decided_reason")?,
            at: row::time(row, "decided_at")?,
            by: row::text(row, "decided_by")?,
        }),
    };
    Ok(QuotaRequest {
        id: row::boxed(row, "id")?,
        project: ProjectId(row::boxed(row, "project_id")?),
        bytes: row::size(row, "bytes")?,
        reason: row::text(row, "reason")?,
        requested_at: row::time(row, "requested_at")?,
        requested_by: row::text(row, "requested_by")?,
        decision,
    })
}

//! Attached policies and their components, which stay for as long as something attached names them.

use crate::row;
use crate::sql::{SqlStore, Write, bounded};
use portcullis_oci::Digest;
use portcullis_tenancy::policy::{Attachment, Mode, OnError, PolicyName, Reuse};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

/// Where nothing of that name may be there yet.
const INSERT: &str = "INSERT INTO policy_attachment (id, owner, project_id, name, digest, source, settings, mode, on_error, position, reuse_calls, reuse_s, attached_at, attached_by) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (owner, name) DO NOTHING";
/// Where it is to be what was read.
const UPDATE: &str = "UPDATE policy_attachment SET project_id = $3, digest = $5, source = $6, settings = $7, mode = $8, on_error = $9, \
     position = $10, reuse_calls = $11, reuse_s = $12, attached_at = $13, attached_by = $14 \
     WHERE id = $1 AND owner = $2 AND name = $4 AND attached_at = $15";

pub(crate) async fn put(
    store: &SqlStore,
    attachment: &Attachment,
    replaces: Option<Timestamp>,
    component: &[u8],
) -> Result<()> {
    let mut change = store.change().await?;
    let keep = query("INSERT INTO policy_component (digest, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    change.execute(keep.bind(attachment.digest.as_str()).bind(component)).await?;
    let project = attachment.project.as_ref().map(|project| &*project.0);
    let put = query(if replaces.is_some() { UPDATE } else { INSERT })
        .bind(&*attachment.id)
        .bind(project.unwrap_or_default())
        .bind(project)
        .bind(attachment.name.as_str())
        .bind(attachment.digest.as_str())
        .bind(&*attachment.source)
        .bind(&*attachment.settings)
        .bind(attachment.mode.as_str())
        .bind(attachment.on_error.as_str())
        .bind(i64::from(attachment.order))
        .bind(attachment.reuse.map(|reuse| i64::from(reuse.calls)))
        .bind(attachment.reuse.map(|reuse| i64::from(reuse.seconds)))
        .bind(attachment.attached_at.as_millisecond())
        .bind(&*attachment.attached_by);
    let put = match replaces {
        Some(time) => put.bind(time.as_millisecond()),
        None => put,
    };
    if change.execute(put).await? == 0 {
        return Err(StoreError::Changed);
    }
    forget_unused(&mut change).await?;
    change.commit().await
}

pub(crate) async fn remove(store: &SqlStore, project: Option<&ProjectId>, name: &PolicyName) -> Result<()> {
    let mut change = store.change().await?;
    let owner = project.map_or("", |project| &project.0);
    change
        .must(query("DELETE FROM policy_attachment WHERE owner = $1 AND name = $2").bind(owner).bind(name.as_str()))
        .await?;
    forget_unused(&mut change).await?;
    change.commit().await
}

pub(crate) async fn all(store: &SqlStore) -> Result<Vec<Attachment>> {
    let of_the_living = bounded!(
        "SELECT id, project_id, name, digest, source, settings, mode, on_error, position, reuse_calls, reuse_s, attached_at, attached_by FROM policy_attachment \
         WHERE project_id IS NULL OR project_id IN (SELECT id FROM project WHERE deleted_at IS NULL) \
         ORDER BY owner, position, name"
    );
    store.all(query(of_the_living), read).await
}

pub(crate) async fn component(store: &SqlStore, digest: &Digest) -> Result<Option<Vec<u8>>> {
    let find = query("SELECT bytes FROM policy_component WHERE digest = $1").bind(digest.as_str());
    store.optional(find, |row| row::bytes(row, "bytes")).await
}

/// Forgets the components that nothing attached names.
pub(crate) async fn forget_unused(change: &mut Write) -> Result<()> {
    let unused = "DELETE FROM policy_component WHERE NOT EXISTS \
         (SELECT 1 FROM policy_attachment WHERE policy_attachment.digest = policy_component.digest)";
    change.execute(query(unused)).await.map(drop)
}

fn read(row: &AnyRow) -> Result<Attachment> {
    Ok(Attachment {
        id: row::boxed(row, "id")?,
        project: row::optional_text(row, "project_id")?.map(|id| ProjectId(id.into())),
        name: row::parse(row, "name", PolicyName::parse)?,
        digest: row::parse(row, "digest", Digest::parse)?,
        source: row::boxed(row, "source")?,
        settings: row::boxed(row, "settings")?,
        mode: match &*row::text(row, "mode")? {
            "enforce" => Mode::Enforce,
            "monitor" => Mode::Monitor,
            other => return Err(row::unknown("mode", other)),
        },
        on_error: match &*row::text(row, "on_error")? {
            "deny" => OnError::Deny,
            "allow" => OnError::Allow,
            other => return Err(row::unknown("on_error", other)),
        },
        order: row::parsed("position", row::number(row, "position")?, i32::try_from)?,
        reuse: match (row::optional_size(row, "reuse_calls")?, row::optional_size(row, "reuse_s")?) {
            (Some(calls), Some(seconds)) => Some(Reuse {
                calls: row::parsed("reuse_calls", calls, u32::try_from)?,
                seconds: row::parsed("reuse_s", seconds, u32::try_from)?,
            }),
            _ => None,
        },
        attached_at: row::time(row, "attached_at")?,
        attached_by: row::boxed(row, "attached_by")?,
    })
}

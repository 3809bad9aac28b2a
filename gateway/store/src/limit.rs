//! What a project or a robot may do other than the configuration says: a line in its own row, so that it is read along with it.
//! And which nodes there are that give out limits.

use crate::row;
use crate::sql::SqlStore;
use portcullis_tenancy::limit::{Change, LimitOwner, Overrides};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{StoreError, Timestamp};
use sqlx::query;

/// The generation's lock keeps others from changing the line between the look at it and the write.
pub(crate) async fn change(store: &SqlStore, owner: LimitOwner<'_>, wanted: &Change) -> Result<Overrides> {
    let (find, set, id) = match owner {
        LimitOwner::Project(id) => (
            "SELECT limits FROM project WHERE id = $1 AND deleted_at IS NULL",
            "UPDATE project SET limits = $2 WHERE id = $1",
            &*id.0,
        ),
        LimitOwner::Robot(id) => (
            "SELECT r.limits FROM robot r JOIN project p ON p.id = r.project_id WHERE r.id = $1 AND p.deleted_at IS NULL",
            "UPDATE robot SET limits = $2 WHERE id = $1",
            &*id.0,
        ),
    };
    let mut change = store.change().await?;
    let before = change.optional(query(find).bind(id), |row| row::parse(row, "limits", Overrides::parse)).await?;
    let after = before.ok_or(StoreError::Missing)?.changed(wanted);
    change.must(query(set).bind(id).bind(after.to_string())).await?;
    change.commit().await?;
    Ok(after)
}

pub(crate) async fn show_node(store: &SqlStore, node: &str, now: Timestamp, since: Timestamp) -> Result<u64> {
    let show = query(
        "INSERT INTO node (name, seen_at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
    );
    store.execute(show.bind(node).bind(now.as_millisecond())).await?;
    store.execute(query("DELETE FROM node WHERE seen_at <= $1").bind(since.as_millisecond())).await?;
    let count = store.optional(query("SELECT COUNT(*) AS nodes FROM node"), |row| row::number(row, "nodes")).await?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
}

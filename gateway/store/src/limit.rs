//! What a project or a robot may do other than the configuration says: a line in its own row, so that it is read along with it.

use crate::row;
use crate::sql::SqlStore;
use portcullis_tenancy::StoreError;
use portcullis_tenancy::limit::{Change, LimitOwner, Overrides};
use portcullis_tenancy::store::Result;
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

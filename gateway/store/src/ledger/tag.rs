//! Tags: each stands on one recorded manifest of its repository.

use crate::row;
use crate::sql::{SqlStore, bounded};
use portcullis_oci::{Digest, RepositoryName, Tag};
use portcullis_tenancy::ProjectId;
use portcullis_tenancy::store::Result;
use sqlx::query;

pub(crate) async fn remove(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    tag: &Tag,
) -> Result<Option<Digest>> {
    let mut write = store.write().await?;
    let remove = query("DELETE FROM tag WHERE project_id = $1 AND repository = $2 AND tag = $3 RETURNING digest");
    let remove = remove.bind(&*project.0).bind(repository.as_str()).bind(tag.as_str());
    let digest = write.optional(remove, |row| row::parse(row, "digest", Digest::parse)).await?;
    // What removes nothing leaves no record.
    if digest.is_some() {
        write.commit().await?;
    }
    Ok(digest)
}

pub(crate) async fn all(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
) -> Result<Vec<(Tag, Digest)>> {
    let by_tag = query(bounded!("SELECT tag, digest FROM tag WHERE project_id = $1 AND repository = $2 ORDER BY tag"));
    store
        .all(by_tag.bind(&*project.0).bind(repository.as_str()), |row| {
            Ok((row::parse(row, "tag", Tag::parse)?, row::parse(row, "digest", Digest::parse)?))
        })
        .await
}

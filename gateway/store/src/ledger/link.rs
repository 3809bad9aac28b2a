//! Links: which repository holds which blob, and the blob's size, kept once for each project.

use super::size;
use crate::row;
use crate::sql::SqlStore;
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

pub(crate) async fn add(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
    bytes: u64,
    upload: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let mut write = store.write().await?;
    // Takes the blob's row whether it is new or not, so that `remove` below cannot drop it meanwhile.
    let blob = query(
        "INSERT INTO blob (project_id, digest, size) VALUES ($1, $2, $3) ON CONFLICT (project_id, digest) DO UPDATE SET size = excluded.size",
    );
    write.execute(blob.bind(&*project.0).bind(digest.as_str()).bind(size(bytes)?)).await?;
    let link = query(
        "INSERT INTO link (project_id, repository, digest, linked_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    );
    write
        .execute(link.bind(&*project.0).bind(repository.as_str()).bind(digest.as_str()).bind(now.as_millisecond()))
        .await?;
    if let Some(upload) = upload {
        write.execute(query("DELETE FROM upload WHERE id = $1").bind(upload)).await?;
    }
    write.commit().await
}

pub(crate) async fn exists(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<bool> {
    let find = query("SELECT 1 AS found FROM link WHERE project_id = $1 AND repository = $2 AND digest = $3");
    let found =
        store.optional(find.bind(&*project.0).bind(repository.as_str()).bind(digest.as_str()), |_| Ok(())).await?;
    Ok(found.is_some())
}

pub(crate) async fn sizes(store: &SqlStore, project: &ProjectId, digests: &[Digest]) -> Result<Vec<(Digest, u64)>> {
    let mut sizes = Vec::new();
    for digest in digests {
        let find = query("SELECT size FROM blob WHERE project_id = $1 AND digest = $2");
        let size = store.optional(find.bind(&*project.0).bind(digest.as_str()), |row| row::size(row, "size")).await?;
        sizes.extend(size.map(|size| (digest.clone(), size)));
    }
    Ok(sizes)
}

pub(crate) async fn all(
    store: &SqlStore,
    project: &ProjectId,
    after: Option<&(RepositoryName, Digest)>,
    limit: u32,
) -> Result<Vec<(RepositoryName, Digest)>> {
    let (repository, digest) = after.map_or(("", ""), |(repository, digest)| (repository.as_str(), digest.as_str()));
    let find = query(
        "SELECT repository, digest FROM link \
         WHERE project_id = $1 AND (repository > $2 OR (repository = $2 AND digest > $3)) \
         ORDER BY repository, digest LIMIT $4",
    );
    let find = find.bind(&*project.0).bind(repository).bind(digest).bind(i64::from(limit));
    let read = |row: &AnyRow| {
        Ok((row::parse(row, "repository", RepositoryName::parse)?, row::parse(row, "digest", Digest::parse)?))
    };
    store.all(find, read).await
}

pub(crate) async fn remove(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<()> {
    let mut write = store.write().await?;
    // Changes nothing, but takes the row: what is asked of the links below stays true until the commit.
    let take = query("UPDATE blob SET size = size WHERE project_id = $1 AND digest = $2");
    if write.execute(take.bind(&*project.0).bind(digest.as_str())).await? == 0 {
        return Ok(());
    }
    let unlink = query("DELETE FROM link WHERE project_id = $1 AND repository = $2 AND digest = $3");
    write.execute(unlink.bind(&*project.0).bind(repository.as_str()).bind(digest.as_str())).await?;
    let drop = query(
        "DELETE FROM blob WHERE project_id = $1 AND digest = $2 \
         AND NOT EXISTS (SELECT 1 FROM link WHERE link.project_id = $1 AND link.digest = $2)",
    );
    write.execute(drop.bind(&*project.0).bind(digest.as_str())).await?;
    write.commit().await
}

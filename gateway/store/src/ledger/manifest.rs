//! Manifests with what they name, refer to and are annotated with.

use super::size;
use crate::row;
use crate::sql::{Query, SqlStore, Write, bounded, failure};
use portcullis_oci::manifest::{Descriptor, Manifest};
use portcullis_oci::{Digest, RepositoryName, Tag};
use portcullis_tenancy::ProjectId;
use portcullis_tenancy::ledger::{PushedManifest, RecordedManifest};
use portcullis_tenancy::store::Result;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use std::fmt::Write as _;

/// References that one statement takes, at five values each.
const CHUNK: usize = 100;

macro_rules! manifests {
    ($rest:literal) => {
        concat!("SELECT digest, media_type, artifact_type, size, annotations, pushed_at FROM manifest WHERE project_id = $1 AND repository = $2 ", $rest)
    };
}

pub(crate) async fn add(store: &SqlStore, pushed: &PushedManifest) -> Result<()> {
    let mut write = store.write().await?;
    write.execute(put(pushed)?).await?;
    put_references(&mut write, pushed).await?;
    // In one order, so that two pushes of the same tags cannot wait for each other.
    let mut tags: Vec<&Tag> = pushed.tags.iter().collect();
    tags.sort();
    for tag in tags {
        write.execute(put_tag(pushed, tag)).await?;
    }
    write.commit().await
}

/// The same bytes pushed again, perhaps under another media type: the newest facts hold.
fn put(pushed: &PushedManifest) -> Result<Query<'_>> {
    let manifest = &pushed.manifest;
    let put = query(
        "INSERT INTO manifest (project_id, repository, digest, media_type, artifact_type, size, subject, annotations, pushed_at, pushed_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (project_id, repository, digest) DO UPDATE SET \
         media_type = excluded.media_type, artifact_type = excluded.artifact_type, size = excluded.size, subject = excluded.subject, \
         annotations = excluded.annotations, pushed_at = excluded.pushed_at, pushed_by = excluded.pushed_by",
    );
    Ok(put
        .bind(&*pushed.project.0)
        .bind(pushed.repository.as_str())
        .bind(manifest.digest.as_str())
        .bind(manifest.media_type.as_str())
        .bind(manifest.artifact_type.as_deref())
        .bind(size(manifest.size)?)
        .bind(manifest.subject.as_ref().map(|subject| subject.digest.as_str()))
        .bind(serde_json::to_string(&manifest.annotations).map_err(failure)?)
        .bind(pushed.pushed_at.as_millisecond())
        .bind(&*pushed.pushed_by))
}

async fn put_references(write: &mut Write<'_>, pushed: &PushedManifest) -> Result<()> {
    let manifest = &pushed.manifest;
    let clear =
        query("DELETE FROM manifest_reference WHERE project_id = $1 AND repository = $2 AND manifest_digest = $3");
    write
        .execute(clear.bind(&*pushed.project.0).bind(pushed.repository.as_str()).bind(manifest.digest.as_str()))
        .await?;

    let named: Vec<(i64, &str, &Descriptor)> =
        (0..).zip(references(manifest)).map(|(position, (kind, named))| (position, kind, named)).collect();
    for chunk in named.chunks(CHUNK) {
        let mut sql = String::from(
            "INSERT INTO manifest_reference (project_id, repository, manifest_digest, position, kind, digest, media_type, size) VALUES ",
        );
        for (row, first) in (4..).step_by(5).take(chunk.len()).enumerate() {
            let _ = write!(sql, "{}($1, $2, $3, ", if row == 0 { "" } else { ", " });
            super::placeholders(&mut sql, first, 5);
            sql.push(')');
        }
        let mut insert = query(AssertSqlSafe(sql)).persistent(false);
        insert = insert.bind(&*pushed.project.0).bind(pushed.repository.as_str()).bind(manifest.digest.as_str());
        for (position, kind, named) in chunk {
            insert = insert
                .bind(*position)
                .bind(*kind)
                .bind(named.digest.as_str())
                .bind(named.media_type.as_str())
                .bind(size(named.size)?);
        }
        write.execute(insert).await?;
    }
    Ok(())
}

fn references(manifest: &Manifest) -> impl Iterator<Item = (&'static str, &Descriptor)> {
    let layer = |layer: &Descriptor| {
        if layer.is_foreign() { "foreign-layer" } else { "layer" }
    };
    let config = manifest.config.iter().map(|config| ("config", config));
    let layers = manifest.layers.iter().map(move |named| (layer(named), named));
    config.chain(layers).chain(manifest.children.iter().map(|child| ("child", child)))
}

fn put_tag<'q>(pushed: &'q PushedManifest, tag: &'q Tag) -> Query<'q> {
    query(
        "INSERT INTO tag (project_id, repository, tag, digest, pushed_at, pushed_by) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (project_id, repository, tag) DO UPDATE SET digest = excluded.digest, pushed_at = excluded.pushed_at, pushed_by = excluded.pushed_by",
    )
    .bind(&*pushed.project.0)
    .bind(pushed.repository.as_str())
    .bind(tag.as_str())
    .bind(pushed.manifest.digest.as_str())
    .bind(pushed.pushed_at.as_millisecond())
    .bind(&*pushed.pushed_by)
}

pub(crate) async fn one(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<RecordedManifest>> {
    let find = query(manifests!("AND digest = $3")).bind(&*project.0).bind(repository.as_str()).bind(digest.as_str());
    store.optional(find, read).await
}

pub(crate) async fn all(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
) -> Result<Vec<RecordedManifest>> {
    let by_digest = query(bounded!(manifests!("ORDER BY digest")));
    store.all(by_digest.bind(&*project.0).bind(repository.as_str()), read).await
}

pub(crate) async fn referrers(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    subject: &Digest,
    after: Option<&Digest>,
    limit: u32,
) -> Result<Vec<RecordedManifest>> {
    let by_digest = query(manifests!("AND subject = $3 AND digest > $4 ORDER BY digest LIMIT $5"))
        .bind(&*project.0)
        .bind(repository.as_str())
        .bind(subject.as_str())
        .bind(after.map_or("", Digest::as_str))
        .bind(i64::from(limit));
    store.all(by_digest, read).await
}

pub(crate) async fn remove(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Vec<Tag>> {
    let of_it = |sql: &'static str| query(sql).bind(&*project.0).bind(repository.as_str()).bind(digest.as_str());
    let mut write = store.write().await?;
    // Changes nothing, but takes the row: no tag can come to stand on it before it is gone.
    let take = of_it("UPDATE manifest SET size = size WHERE project_id = $1 AND repository = $2 AND digest = $3");
    if write.execute(take).await? == 0 {
        return Ok(Vec::new());
    }
    // One by one in their order, as a push that moves several of them takes them.
    let held = of_it("SELECT tag FROM tag WHERE project_id = $1 AND repository = $2 AND digest = $3 ORDER BY tag");
    let mut tags = Vec::new();
    for tag in write.all(held, |row| row::parse(row, "tag", Tag::parse)).await? {
        let untag = of_it("DELETE FROM tag WHERE project_id = $1 AND repository = $2 AND digest = $3 AND tag = $4");
        if write.execute(untag.bind(tag.as_str())).await? > 0 {
            tags.push(tag);
        }
    }
    write.execute(of_it("DELETE FROM manifest WHERE project_id = $1 AND repository = $2 AND digest = $3")).await?;
    write.commit().await?;
    Ok(tags)
}

fn read(row: &AnyRow) -> Result<RecordedManifest> {
    Ok(RecordedManifest {
        digest: row::parse(row, "digest", Digest::parse)?,
        media_type: row::text(row, "media_type")?,
        artifact_type: row::optional_text(row, "artifact_type")?,
        size: row::size(row, "size")?,
        annotations: row::parse(row, "annotations", |json| serde_json::from_str(json))?,
        pushed_at: row::time(row, "pushed_at")?,
    })
}

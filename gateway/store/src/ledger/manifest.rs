//! Manifests with what they name, refer to and are annotated with.

use super::account::Ledger;
use super::blob::Known;
use super::look::Look;
use super::{FEW, blob, size};
use crate::journal::{self, MANIFEST_DONE};
use crate::row;
use crate::sql::{Query, SqlStore, Write, bounded, failure};
use portcullis_oci::manifest::{Descriptor, Manifest};
use portcullis_oci::{Digest, RepositoryName, Tag};
use portcullis_tenancy::ledger::{Charge, PushedManifest, RecordedManifest, Removed, StoredBlob};
use portcullis_tenancy::quota::Admission;
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

/// References that one statement takes, at five values each.
const CHUNK: usize = 100;

macro_rules! manifests {
    ($rest:literal) => {
        concat!("SELECT digest, media_type, artifact_type, size, annotations, pushed_at FROM manifest WHERE project_id = $1 AND repository = $2 ", $rest)
    };
}

pub(crate) async fn add(
    store: &SqlStore,
    pushed: &PushedManifest,
    sizes: &[(Digest, u64)],
    charge: Charge<'_>,
) -> Result<Admission> {
    let named = named_blobs(&pushed.manifest);
    let reservation = charge.operation();
    let (repository, manifest) = (Some(&pushed.repository), Some(&pushed.manifest.digest));
    let look = Look { reservation, repository, manifest, blobs: &named };
    let (mut ledger, found) = Ledger::look(store, &pushed.project, !matches!(charge, Charge::By(_)), look).await?;
    let known = found.blobs;
    if known.values().any(|blob| blob.is_busy(pushed.pushed_at)) {
        return Ok(Admission::Busy);
    }
    // It counts once, at the largest size on record.
    let before = found.manifest;
    let own = pushed.manifest.size.max(found.elsewhere.unwrap_or_default());
    let mut more = own.saturating_sub(before.unwrap_or_default());
    let (mut charged, mut adopted, mut waiting) = (Vec::new(), Vec::new(), 0_u64);
    for digest in &named {
        match (known.get(digest.as_str()), sizes.iter().find(|(of, _)| of == digest)) {
            (Some(blob), _) if blob.is_charged => {}
            (Some(blob), _) => {
                more = more.saturating_add(blob.size);
                waiting = waiting.saturating_add(blob.waiting());
                charged.push(digest);
            }
            (None, Some((_, size))) => {
                more = more.saturating_add(*size);
                adopted.push((digest, *size));
            }
            (None, None) => {}
        }
    }
    let mut statements = Vec::new();
    if let Some(id) = reservation {
        if let Some(shortage) = ledger.shortage(more, found.held).filter(|_| matches!(charge, Charge::By(_))) {
            return Ok(Admission::Refused(shortage));
        }
        statements.push(ledger.end_reservation(id, found.held));
        statements.push(query(MANIFEST_DONE).bind(id));
        // Its tags are on record with this very step: whoever waits for one of them finds it.
        for tag in &pushed.tags {
            statements.push(journal::unlock(&pushed.project, &pushed.repository, tag, id));
        }
    }
    let less = before.unwrap_or_default().saturating_sub(own);
    ledger.account.committed = ledger.account.committed.saturating_add(more).saturating_sub(less);
    ledger.account.waiting = ledger.account.waiting.saturating_sub(waiting);

    if before.is_some() {
        forget_references(&mut ledger.write, pushed).await?;
    }
    statements.push(put(pushed)?);
    put_references(&mut statements, pushed)?;
    let waiting = named.iter().filter(|digest| known.get(digest.as_str()).is_some_and(|blob| blob.is_orphan));
    put_names(&mut statements, pushed, &waiting.chain(charged).collect::<Vec<_>>());
    if charge != Charge::Anyway {
        put_links(&mut statements, pushed, &known);
    }
    statements.extend(pushed.tags.iter().map(|tag| put_tag(pushed, tag)));
    if !adopted.is_empty() {
        // Those look at the references.
        ledger.write.together(std::mem::take(&mut statements)).await?;
    }
    for (digest, size) in adopted {
        let (project, repository) = (pushed.project.clone(), pushed.repository.clone());
        let blob = StoredBlob { project, repository, digest: digest.clone(), size, at: pushed.pushed_at };
        ledger.write.together(blob::charge_one(&blob)?.into()).await?;
    }
    let (account, _) = ledger.commit_with(statements).await?;
    Ok(Admission::Granted { held: 0, account, locked: false, unknown: Vec::new() })
}

/// The distinct blobs that a manifest names, those included whose bytes need not be here.
fn named_blobs(manifest: &Manifest) -> Vec<Digest> {
    let named = manifest.config.iter().chain(&manifest.layers).map(|descriptor| descriptor.digest.clone());
    named.collect::<BTreeSet<_>>().into_iter().collect()
}

/// These are named from now on, and charged.
fn put_names<'q>(statements: &mut Vec<Query<'q>>, pushed: &'q PushedManifest, named: &[&'q Digest]) {
    for chunk in named.chunks(CHUNK) {
        let mut sql = String::from(
            "UPDATE blob SET orphan_since = NULL, uncharged_at = NULL, unlinking_until = NULL, kept_upstream = 0 \
             WHERE project_id = $1 AND digest IN (",
        );
        super::placeholders(&mut sql, 2, chunk.len());
        sql.push(')');
        let name = query(AssertSqlSafe(sql)).persistent(chunk.len() <= FEW).bind(&*pushed.project.0);
        statements.push(chunk.iter().fold(name, |name, digest| name.bind(digest.as_str())));
    }
}

/// What it names and the project has from elsewhere is in its repository as well: else the upstream had not taken it. Of foreign
/// layers that says nothing.
fn put_links<'q>(statements: &mut Vec<Query<'q>>, pushed: &'q PushedManifest, known: &HashMap<String, Known>) {
    let layers = pushed.manifest.layers.iter().filter(|layer| !layer.is_foreign());
    let named: BTreeSet<&Digest> = pushed.manifest.config.iter().chain(layers).map(|named| &named.digest).collect();
    let named: Vec<&Digest> = named.into_iter().filter(|digest| known.contains_key(digest.as_str())).collect();
    for chunk in named.chunks(CHUNK) {
        let mut sql = String::from("INSERT INTO link (project_id, repository, linked_at, digest) VALUES ");
        for (row, digest) in (4..).take(chunk.len()).enumerate() {
            let _ = write!(sql, "{}($1, $2, $3, ${digest})", if row == 0 { "" } else { ", " });
        }
        sql.push_str(" ON CONFLICT DO NOTHING");
        let link = query(AssertSqlSafe(sql)).persistent(chunk.len() <= FEW);
        let link = link.bind(&*pushed.project.0).bind(pushed.repository.as_str());
        let link = link.bind(pushed.pushed_at.as_millisecond());
        statements.push(chunk.iter().fold(link, |link, digest| link.bind(digest.as_str())));
    }
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

async fn forget_references(write: &mut Write, pushed: &PushedManifest) -> Result<()> {
    let clear =
        query("DELETE FROM manifest_reference WHERE project_id = $1 AND repository = $2 AND manifest_digest = $3");
    let clear = clear.bind(&*pushed.project.0).bind(pushed.repository.as_str());
    write.execute(clear.bind(pushed.manifest.digest.as_str())).await.map(|_| ())
}

fn put_references<'q>(statements: &mut Vec<Query<'q>>, pushed: &'q PushedManifest) -> Result<()> {
    let manifest = &pushed.manifest;
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
        let mut insert = query(AssertSqlSafe(sql)).persistent(chunk.len() <= FEW);
        insert = insert.bind(&*pushed.project.0).bind(pushed.repository.as_str()).bind(manifest.digest.as_str());
        for (position, kind, named) in chunk {
            insert = insert
                .bind(*position)
                .bind(*kind)
                .bind(named.digest.as_str())
                .bind(named.media_type.as_str())
                .bind(size(named.size)?);
        }
        statements.push(insert);
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
) -> Result<Vec<(Digest, u64)>> {
    let by_digest =
        query(bounded!("SELECT digest, size FROM manifest WHERE project_id = $1 AND repository = $2 ORDER BY digest"));
    let read = |row: &AnyRow| Ok((row::parse(row, "digest", Digest::parse)?, row::size(row, "size")?));
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
    now: Timestamp,
) -> Result<Removed> {
    let of_it = |sql: &'static str| query(sql).bind(&*project.0).bind(repository.as_str()).bind(digest.as_str());
    let mut ledger = Ledger::open(store, project, true).await?;
    let named = of_it(
        "SELECT DISTINCT digest FROM manifest_reference \
         WHERE project_id = $1 AND repository = $2 AND manifest_digest = $3 AND kind <> 'child'",
    );
    let named = ledger.write.all(named, |row| row::parse(row, "digest", Digest::parse)).await?;
    let untag = of_it("DELETE FROM tag WHERE project_id = $1 AND repository = $2 AND digest = $3 RETURNING tag");
    let mut removed = Removed {
        tags: ledger.write.all(untag, |row| row::parse(row, "tag", Tag::parse)).await?,
        ..Removed::default()
    };
    removed.tags.sort();
    let forget = of_it("DELETE FROM manifest WHERE project_id = $1 AND repository = $2 AND digest = $3 RETURNING size");
    let Some(size) = ledger.write.optional(forget, |row| row::size(row, "size")).await? else {
        return Ok(Removed::default());
    };
    let elsewhere = query("SELECT max(size) AS size FROM manifest WHERE project_id = $1 AND digest = $2");
    let elsewhere = elsewhere.bind(&*project.0).bind(digest.as_str());
    let elsewhere = ledger.write.optional(elsewhere, |row| row::optional_size(row, "size")).await?.flatten();
    removed.reclaimed = size.saturating_sub(elsewhere.unwrap_or_default());
    ledger.account.committed = ledger.account.committed.saturating_sub(removed.reclaimed);
    for digest in named {
        // What a manifest under way names waits for that one.
        let wait = query(
            "UPDATE blob SET orphan_since = $3 WHERE project_id = $1 AND digest = $2 AND uncharged_at IS NULL \
             AND EXISTS (SELECT 1 FROM pin WHERE pin.project_id = $1 AND pin.digest = $2) \
             AND NOT EXISTS (SELECT 1 FROM manifest_reference AS named WHERE named.project_id = $1 AND named.digest = $2)",
        );
        let wait = wait.bind(&*project.0).bind(digest.as_str()).bind(now.as_millisecond());
        if ledger.write.execute(wait).await? > 0 {
            continue;
        }
        let uncharge = query(
            "UPDATE blob SET uncharged_at = $3, orphan_since = NULL WHERE project_id = $1 AND digest = $2 AND uncharged_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM manifest_reference AS named WHERE named.project_id = $1 AND named.digest = $2) \
             RETURNING size",
        );
        let uncharge = uncharge.bind(&*project.0).bind(digest.as_str()).bind(now.as_millisecond());
        if let Some(size) = ledger.write.optional(uncharge, |row| row::size(row, "size")).await? {
            removed.reclaimed = removed.reclaimed.saturating_add(size);
            ledger.uncharge(size);
            removed.uncharged.push(digest);
        }
    }
    ledger.commit().await?;
    Ok(removed)
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

//! Blobs: which repository holds which, the size, kept once for each project, and whether it is charged.

use super::account::Ledger;
use super::look::{Found, Look, looking, read_look};
use super::{CHUNK, FEW, placeholders, size};
use crate::journal::BLOB_DONE;
use crate::row;
use crate::sql::{Query, SqlStore, Write};
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::ledger::{Charge, HeldBlob, Standing, StoredBlob};
use portcullis_tenancy::quota::{Admission, Unpaid};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use std::collections::HashMap;

/// Its digests follow.
const KNOWN: &str = "SELECT digest, size, orphan_since, uncharged_at, unlinking_until, kept_upstream FROM blob WHERE project_id = $1 AND digest IN (";

/// A blob's row.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) size: u64,
    pub(crate) is_charged: bool,
    pub(crate) is_orphan: bool,
    /// Until when somebody is taking it away upstream.
    pub(crate) unlinking_until: Option<Timestamp>,
    /// The upstream would not let it go: nobody tries again.
    pub(crate) is_kept: bool,
}

impl Known {
    pub(crate) fn is_busy(&self, now: Timestamp) -> bool {
        self.unlinking_until.is_some_and(|until| until > now)
    }

    /// What of it waits to be taken away upstream.
    pub(crate) fn waiting(&self) -> u64 {
        if self.is_charged || self.is_kept { 0 } else { self.size }
    }
}

pub(crate) async fn add(store: &SqlStore, blob: &StoredBlob, charge: Charge<'_>) -> Result<Admission> {
    let (project, digest) = (&blob.project, &blob.digest);
    let reservation = charge.operation();
    let look = Look { reservation, blobs: std::slice::from_ref(digest), ..Look::default() };
    let (mut ledger, mut found) = Ledger::look(store, project, !matches!(charge, Charge::By(_)), look).await?;
    let known = found.blobs.remove(digest.as_str());
    if known.as_ref().is_some_and(|known| known.is_busy(blob.at)) {
        return Ok(Admission::Busy);
    }
    let waiting = known.as_ref().map_or(0, Known::waiting);
    let charged = known.filter(|known| known.is_charged).map_or(0, |known| known.size);
    let more = blob.size.saturating_sub(charged);
    let mut statements = Vec::new();
    if let Some(id) = reservation {
        if let Some(shortage) = ledger.shortage(more, found.held).filter(|_| matches!(charge, Charge::By(_))) {
            return Ok(Admission::Refused(shortage));
        }
        statements.push(ledger.end_reservation(id, found.held));
        statements.extend(closed(id));
    }
    statements.extend(charge_one(blob)?);
    ledger.account.waiting = ledger.account.waiting.saturating_sub(waiting);
    ledger.account.committed =
        ledger.account.committed.saturating_add(more).saturating_sub(charged.saturating_sub(blob.size));
    let (account, _) = ledger.commit_with(statements).await?;
    Ok(Admission::Granted { held: 0, account, locked: false, unknown: Vec::new() })
}

pub(crate) async fn disown(store: &SqlStore, blob: &StoredBlob, operation: &str) -> Result<()> {
    let (project, digest) = (&blob.project, &blob.digest);
    let look = Look { reservation: Some(operation), blobs: std::slice::from_ref(digest), ..Look::default() };
    let (mut ledger, found) = Ledger::look(store, project, true, look).await?;
    if found.blobs.values().any(|known| known.is_busy(blob.at)) {
        // Whoever takes it away does not know of this repository: the journal keeps it until that is over.
        return Ok(());
    }
    let put = query(
        "INSERT INTO blob (project_id, digest, size, uncharged_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    );
    let put = put.bind(&*project.0).bind(digest.as_str()).bind(size(blob.size)?).bind(blob.at.as_millisecond());
    if ledger.write.execute(put).await? > 0 {
        ledger.account.waiting = ledger.account.waiting.saturating_add(blob.size);
    }
    let mut statements = vec![link(blob), ledger.end_reservation(operation, found.held)];
    statements.extend(closed(operation));
    ledger.commit_with(statements).await.map(|_| ())
}

/// An upload is no more, and its end is not in the journal any longer.
fn closed(operation: &str) -> [Query<'_>; 2] {
    ["DELETE FROM upload WHERE id = $1", BLOB_DONE].map(|sql| query(sql).bind(operation))
}

/// Puts a blob and its link down as charged. It waits for a manifest where none names it.
pub(super) fn charge_one(blob: &StoredBlob) -> Result<[Query<'_>; 2]> {
    let put = query(
        "INSERT INTO blob (project_id, digest, size, orphan_since) VALUES ($1, $2, $3, \
             CASE WHEN EXISTS (SELECT 1 FROM manifest_reference WHERE project_id = $1 AND digest = $2) THEN NULL ELSE $4 END) \
         ON CONFLICT (project_id, digest) DO UPDATE SET size = excluded.size, orphan_since = excluded.orphan_since, \
         uncharged_at = NULL, unlinking_until = NULL, kept_upstream = 0",
    );
    let put = put.bind(&*blob.project.0).bind(blob.digest.as_str()).bind(size(blob.size)?);
    Ok([put.bind(blob.at.as_millisecond()), link(blob)])
}

/// Puts down that the repository holds it.
fn link(blob: &StoredBlob) -> Query<'_> {
    let link = query(
        "INSERT INTO link (project_id, repository, digest, linked_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    );
    let link = link.bind(&*blob.project.0).bind(blob.repository.as_str()).bind(blob.digest.as_str());
    link.bind(blob.at.as_millisecond())
}

/// What is known of these blobs, by digest.
pub(crate) async fn known(
    write: &mut Write,
    project: &ProjectId,
    digests: &[Digest],
) -> Result<HashMap<String, Known>> {
    let mut known = HashMap::new();
    for chunk in digests.chunks(CHUNK) {
        known.extend(write.look(look(project, chunk), read_named).await?);
    }
    Ok(known)
}

/// Asks what is known of these blobs; at most a [`CHUNK`] of them.
fn look<'q>(project: &'q ProjectId, digests: &'q [Digest]) -> Query<'q> {
    let mut sql = String::from(KNOWN);
    placeholders(&mut sql, 2, digests.len());
    sql.push(')');
    let select = query(AssertSqlSafe(sql)).persistent(digests.len() <= FEW).bind(&*project.0);
    digests.iter().fold(select, |select, digest| select.bind(digest.as_str()))
}

pub(super) fn read_named(row: &AnyRow) -> Result<(String, Known)> {
    Ok((row::text(row, "digest")?, read(row)?))
}

fn read(row: &AnyRow) -> Result<Known> {
    Ok(Known {
        size: row::size(row, "size")?,
        is_charged: row::optional_time(row, "uncharged_at")?.is_none(),
        is_orphan: row::optional_time(row, "orphan_since")?.is_some(),
        unlinking_until: row::optional_time(row, "unlinking_until")?,
        is_kept: row::number(row, "kept_upstream")? != 0,
    })
}

pub(crate) async fn standing(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Standing> {
    let find = query(
        "SELECT blob.orphan_since, blob.uncharged_at, link.digest AS linked FROM blob LEFT JOIN link \
         ON link.project_id = blob.project_id AND link.repository = $2 AND link.digest = blob.digest \
         WHERE blob.project_id = $1 AND blob.digest = $3",
    );
    let read = |row: &AnyRow| {
        let is_linked = row::optional_text(row, "linked")?.is_some();
        Ok(match (row::optional_time(row, "uncharged_at")?, is_linked) {
            (Some(_), _) => Standing::Uncharged,
            (None, true) => Standing::Held { orphan_since: row::optional_time(row, "orphan_since")? },
            (None, false) => Standing::Unknown,
        })
    };
    let found = store.optional(find.bind(&*project.0).bind(repository.as_str()).bind(digest.as_str()), read).await?;
    Ok(found.unwrap_or(Standing::Unknown))
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
        let find = query("SELECT size FROM blob WHERE project_id = $1 AND digest = $2 AND uncharged_at IS NULL");
        let size = store.optional(find.bind(&*project.0).bind(digest.as_str()), |row| row::size(row, "size")).await?;
        sizes.extend(size.map(|size| (digest.clone(), size)));
    }
    Ok(sizes)
}

pub(crate) async fn unpaid(
    store: &SqlStore,
    project: &ProjectId,
    manifest: Option<&Digest>,
    digests: &[Digest],
) -> Result<Unpaid> {
    let (select, further) = looking(project, true, Look { manifest, blobs: digests, ..Look::default() });
    let rows = store.all(select, read_look).await?;
    let (_, mut found) = Found::of(rows).ok_or(StoreError::Missing)?;
    for chunk in further.chunks(CHUNK) {
        found.blobs.extend(store.all(look(project, chunk), read_named).await?);
    }
    Ok(found.unpaid(digests))
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

pub(crate) async fn held(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    after: Option<&Digest>,
    limit: u32,
) -> Result<Vec<HeldBlob>> {
    let find = query(
        "SELECT blob.digest, blob.size, blob.uncharged_at FROM link \
         JOIN blob ON blob.project_id = link.project_id AND blob.digest = link.digest \
         WHERE link.project_id = $1 AND link.repository = $2 AND link.digest > $3 ORDER BY link.digest LIMIT $4",
    );
    let find = find.bind(&*project.0).bind(repository.as_str()).bind(after.map_or("", Digest::as_str));
    let read = |row: &AnyRow| {
        Ok(HeldBlob {
            digest: row::parse(row, "digest", Digest::parse)?,
            size: row::size(row, "size")?,
            is_charged: row::optional_time(row, "uncharged_at")?.is_none(),
        })
    };
    store.all(find.bind(i64::from(limit)), read).await
}

pub(crate) async fn remove(
    store: &SqlStore,
    project: &ProjectId,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<u64> {
    let mut ledger = Ledger::open(store, project, true).await?;
    let unlink = query("DELETE FROM link WHERE project_id = $1 AND repository = $2 AND digest = $3");
    let unlink = unlink.bind(&*project.0).bind(repository.as_str()).bind(digest.as_str());
    let unlinked = ledger.write.execute(unlink).await?;
    let drop = query(
        "DELETE FROM blob WHERE project_id = $1 AND digest = $2 \
         AND NOT EXISTS (SELECT 1 FROM link WHERE link.project_id = $1 AND link.digest = $2) \
         RETURNING size, orphan_since, uncharged_at, unlinking_until, kept_upstream",
    );
    let dropped = ledger.write.optional(drop.bind(&*project.0).bind(digest.as_str()), read).await?;
    // What removes nothing leaves no record.
    if unlinked == 0 && dropped.is_none() {
        return Ok(0);
    }
    let waiting = dropped.as_ref().map_or(0, Known::waiting);
    ledger.account.waiting = ledger.account.waiting.saturating_sub(waiting);
    let reclaimed = dropped.filter(|blob| blob.is_charged).map_or(0, |blob| blob.size);
    ledger.account.committed = ledger.account.committed.saturating_sub(reclaimed);
    ledger.commit().await?;
    Ok(reclaimed)
}

pub(crate) async fn renew_orphan(store: &SqlStore, project: &ProjectId, digest: &Digest, now: Timestamp) -> Result<()> {
    let renew = query(
        "UPDATE blob SET orphan_since = $3 WHERE project_id = $1 AND digest = $2 AND orphan_since < $3 AND uncharged_at IS NULL",
    );
    store.execute(renew.bind(&*project.0).bind(digest.as_str()).bind(now.as_millisecond())).await.map(|_| ())
}

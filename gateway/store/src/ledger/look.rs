//! All that an admission is decided by, in one way there and back.

use super::account;
use super::blob::{self, Known};
use super::{CHUNK, FEW, placeholders};
use crate::row;
use crate::sql::Query;
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::ProjectId;
use portcullis_tenancy::quota::{Account, Claim, Lease, Unpaid};
use portcullis_tenancy::store::Result;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use std::collections::HashMap;

/// The digests of blobs follow.
const LOOK: &str = "SELECT project.quota_bytes, project.soft_percent, project.committed_bytes, project.reserved_bytes, \
    project.waiting_bytes, \
    (SELECT total_bytes FROM house) AS total_bytes, \
    held.bytes AS held, held.worker, held.working_until, \
    (SELECT max(size) FROM manifest WHERE manifest.project_id = $1 AND manifest.digest = $4) AS manifest_size, \
    (SELECT max(size) FROM manifest WHERE manifest.project_id = $1 AND manifest.digest = $4 AND manifest.repository <> $5) AS elsewhere, \
    blob.digest, blob.size, blob.orphan_since, blob.uncharged_at, blob.unlinking_until, blob.kept_upstream \
    FROM project LEFT JOIN reservation AS held ON held.id = $3 AND held.project_id = project.id \
    LEFT JOIN blob ON blob.project_id = project.id AND blob.digest IN (";
const OF_PROJECT: &str = ") WHERE project.id = $1 AND (project.deleted_at IS NULL OR $2 = 1)";

/// What is looked at along with a project's account.
#[derive(Clone, Copy, Default)]
pub(crate) struct Look<'a> {
    pub(crate) reservation: Option<&'a str>,
    /// Which repository the manifest is about to be in.
    pub(crate) repository: Option<&'a RepositoryName>,
    pub(crate) manifest: Option<&'a Digest>,
    pub(crate) blobs: &'a [Digest],
}

/// What a project has, and the cap over all.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) account: Account,
    pub(crate) cap: Option<u64>,
}

/// What was found along with it.
pub(crate) struct Found {
    /// What the reservation holds.
    pub(crate) held: u64,
    /// Whose upload it is now.
    lease: Option<Lease>,
    /// The manifest's largest size on record, in whichever repository; and in any but the given one.
    pub(crate) manifest: Option<u64>,
    pub(crate) elsewhere: Option<u64>,
    pub(crate) blobs: HashMap<String, Known>,
}

/// A row of the answer: one for each blob, or one without any.
pub(crate) struct Row {
    standing: Standing,
    held: u64,
    lease: Option<Lease>,
    manifest: Option<u64>,
    elsewhere: Option<u64>,
    blob: Option<(String, Known)>,
}

impl Found {
    /// None where there is no such project.
    pub(crate) fn of(rows: Vec<Row>) -> Option<(Standing, Self)> {
        let mut rows = rows.into_iter();
        let Row { standing, held, lease, manifest, elsewhere, blob } = rows.next()?;
        let blobs = blob.into_iter().chain(rows.filter_map(|row| row.blob)).collect();
        Some((standing, Self { held, lease, manifest, elsewhere, blobs }))
    }

    /// What of these blobs, and of the manifest, the project is not charged with.
    pub(crate) fn unpaid(&self, digests: &[Digest]) -> Unpaid {
        let mut unpaid = Unpaid { knows_manifest: self.manifest.is_some(), bytes: 0, unknown: Vec::new() };
        for digest in digests {
            match self.blobs.get(digest.as_str()) {
                None => unpaid.unknown.push(digest.clone()),
                Some(known) if !known.is_charged => unpaid.bytes = unpaid.bytes.saturating_add(known.size),
                Some(_) => {}
            }
        }
        unpaid
    }

    /// Whether somebody else is at work at the claim's upload.
    pub(crate) fn keeps_out(&self, claim: &Claim) -> bool {
        self.lease.as_ref().zip(claim.lease.as_ref()).is_some_and(|(other, own)| other.keeps_out(own, claim.now))
    }
}

/// Asks for it, deleted projects too where `any`. Returns the blobs besides, which one statement does not take.
pub(crate) fn looking<'a>(project: &'a ProjectId, any: bool, look: Look<'a>) -> (Query<'a>, &'a [Digest]) {
    let (blobs, further) = look.blobs.split_at(look.blobs.len().min(CHUNK));
    let mut sql = String::from(LOOK);
    placeholders(&mut sql, 6, blobs.len());
    sql.push_str(OF_PROJECT);
    let select = query(AssertSqlSafe(sql)).persistent(blobs.len() <= FEW).bind(&*project.0).bind(i64::from(any));
    let select = select.bind(look.reservation.unwrap_or_default()).bind(look.manifest.map_or("", Digest::as_str));
    let select = select.bind(look.repository.map_or("", RepositoryName::as_str));
    (blobs.iter().fold(select, |select, digest| select.bind(digest.as_str())), further)
}

pub(crate) fn read_look(row: &AnyRow) -> Result<Row> {
    let holder = row::optional_text(row, "worker")?.map(Box::from);
    Ok(Row {
        standing: Standing { account: account::read(row)?, cap: row::optional_size(row, "total_bytes")? },
        held: row::optional_size(row, "held")?.unwrap_or_default(),
        lease: holder.zip(row::optional_time(row, "working_until")?).map(|(holder, until)| Lease { holder, until }),
        manifest: row::optional_size(row, "manifest_size")?,
        elsewhere: row::optional_size(row, "elsewhere")?,
        blob: row::optional_text(row, "digest")?.map(|_| blob::read_named(row)).transpose()?,
    })
}

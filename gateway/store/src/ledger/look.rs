//! All that an admission is decided by, in one way there and back.

use super::account;
use super::blob::{self, Known};
use super::{CHUNK, FEW, placeholders};
use crate::row;
use crate::sql::Query;
use portcullis_oci::Digest;
use portcullis_tenancy::ProjectId;
use portcullis_tenancy::quota::Account;
use portcullis_tenancy::store::Result;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use std::collections::HashMap;

/// The digests of blobs follow.
const LOOK: &str = "SELECT project.quota_bytes, project.soft_percent, project.committed_bytes, project.reserved_bytes, \
    (SELECT total_bytes FROM house) AS total_bytes, \
    (SELECT bytes FROM reservation WHERE reservation.id = $3 AND reservation.project_id = $1) AS held, \
    (SELECT max(size) FROM manifest WHERE manifest.project_id = $1 AND manifest.digest = $4) AS manifest_size, \
    blob.digest, blob.size, blob.orphan_since, blob.uncharged_at, blob.unlinking_until \
    FROM project LEFT JOIN blob ON blob.project_id = project.id AND blob.digest IN (";
const OF_PROJECT: &str = ") WHERE project.id = $1 AND (project.deleted_at IS NULL OR $2 = 1)";

/// What is looked at along with a project's account.
#[derive(Clone, Copy, Default)]
pub(crate) struct Look<'a> {
    pub(crate) reservation: Option<&'a str>,
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
    /// The manifest's size, where the project is charged with it in whichever repository.
    pub(crate) manifest: Option<u64>,
    pub(crate) blobs: HashMap<String, Known>,
}

/// A row of the answer: one for each blob, or one without any.
pub(crate) struct Row {
    standing: Standing,
    held: Option<u64>,
    manifest: Option<u64>,
    blob: Option<(String, Known)>,
}

impl Found {
    /// None where there is no such project.
    pub(crate) fn of(rows: Vec<Row>) -> Option<(Standing, Self)> {
        let first = rows.first()?;
        let (standing, held, manifest) = (first.standing, first.held.unwrap_or_default(), first.manifest);
        let blobs = rows.into_iter().filter_map(|row| row.blob).collect();
        Some((standing, Self { held, manifest, blobs }))
    }
}

/// Asks for it, deleted projects too where `any`. Returns the blobs besides, which one statement does not take.
pub(crate) fn looking<'a>(project: &'a ProjectId, any: bool, look: Look<'a>) -> (Query<'a>, &'a [Digest]) {
    let (blobs, further) = look.blobs.split_at(look.blobs.len().min(CHUNK));
    let mut sql = String::from(LOOK);
    placeholders(&mut sql, 5, blobs.len());
    sql.push_str(OF_PROJECT);
    let select = query(AssertSqlSafe(sql)).persistent(blobs.len() <= FEW).bind(&*project.0).bind(i64::from(any));
    let select = select.bind(look.reservation.unwrap_or_default()).bind(look.manifest.map_or("", Digest::as_str));
    (blobs.iter().fold(select, |select, digest| select.bind(digest.as_str())), further)
}

pub(crate) fn read_look(row: &AnyRow) -> Result<Row> {
    Ok(Row {
        standing: Standing { account: account::read(row)?, cap: row::optional_size(row, "total_bytes")? },
        held: row::optional_size(row, "held")?,
        manifest: row::optional_size(row, "manifest_size")?,
        blob: row::optional_text(row, "digest")?.map(|_| blob::read_named(row)).transpose()?,
    })
}

//! The record of what passes. It does not bump the generation: nothing here is a rule.

pub(crate) mod account;
pub(crate) mod blob;
mod look;
pub(crate) mod manifest;
pub(crate) mod reservation;
pub(crate) mod tag;
pub(crate) mod waiting;

use crate::row;
use crate::sql::{SqlStore, failure};
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::ProjectId;
use portcullis_tenancy::store::Result;
use sqlx::{AssertSqlSafe, query};
use std::collections::HashSet;
use std::fmt::Write as _;

/// Values that one statement takes; both databases allow 32 766.
const CHUNK: usize = 500;
/// A statement whose text differs with the number of its values is kept prepared for so many: most images name no more.
const FEW: usize = 8;

/// Which of these digests the table has no row for in this repository.
pub(crate) async fn missing(
    store: &SqlStore,
    table: &'static str,
    project: &ProjectId,
    repository: &RepositoryName,
    digests: &[Digest],
) -> Result<Vec<Digest>> {
    let mut held: HashSet<String> = HashSet::new();
    for chunk in digests.chunks(CHUNK) {
        let mut sql = format!("SELECT digest FROM {table} WHERE project_id = $1 AND repository = $2 AND digest IN (");
        placeholders(&mut sql, 3, chunk.len());
        sql.push(')');
        // Not kept as a prepared statement: its text differs with the number of digests.
        let mut select = query(AssertSqlSafe(sql)).persistent(false).bind(&*project.0).bind(repository.as_str());
        for digest in chunk {
            select = select.bind(digest.as_str());
        }
        held.extend(store.all(select, |row| row::text(row, "digest")).await?);
    }
    Ok(digests.iter().filter(|digest| !held.contains(digest.as_str())).cloned().collect())
}

/// Repositories by name. Each step looks one name further in the index, so that a repository with many manifests costs
/// no more than one with few.
pub(crate) async fn repositories(
    store: &SqlStore,
    project: &ProjectId,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<RepositoryName>> {
    let page = query(
        "WITH RECURSIVE step (name) AS ( \
             SELECT min(repository) FROM manifest WHERE project_id = $1 AND repository > $2 \
             UNION ALL \
             SELECT (SELECT min(repository) FROM manifest WHERE project_id = $1 AND repository > step.name) FROM step WHERE step.name IS NOT NULL \
         ) SELECT name FROM step WHERE name IS NOT NULL LIMIT $3",
    );
    let page = page.bind(&*project.0).bind(after.unwrap_or_default()).bind(i64::from(limit));
    store.all(page, |row| row::parse(row, "name", RepositoryName::parse)).await
}

/// Writes `$first, $first+1, …`.
fn placeholders(sql: &mut String, first: usize, count: usize) {
    if count == 0 {
        // An empty list is no SQL everywhere.
        sql.push_str("NULL");
    }
    for (index, number) in (first..).take(count).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(sql, "{separator}${number}");
    }
}

/// A size as a column takes it.
fn size(bytes: u64) -> Result<i64> {
    i64::try_from(bytes).map_err(failure)
}

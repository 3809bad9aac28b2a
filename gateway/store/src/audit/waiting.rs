//! Records that wait for their places, and those that can get none.

use super::cells::{MAX_TEXT, SHORTENED, rows};
use super::{ENTRY, NODE, read};
use crate::sql::{Query, SqlStore, bounded, failure};
use portcullis_tenancy::Timestamp;
use portcullis_tenancy::audit::Entry;
use portcullis_tenancy::store::Result;
use sqlx::{AssertSqlSafe, Row, query};

/// How far records that can get no place are counted.
const STUCK: u32 = 10_000;
/// Longest that a clock is ahead: a record of later has no time of its own any more.
const AHEAD: i64 = 86_400_000;

pub(crate) async fn waiting(store: &SqlStore, node: Option<&str>, limit: u32) -> Result<Vec<Entry>> {
    let which = if node.is_some() { format!("node = $2 AND {} AND ", has_id(store)) } else { String::new() };
    let rest = format!("FROM audit WHERE {which}sequence IS NULL ORDER BY audit.at, audit.id LIMIT $1");
    let bind = |find: Query<'static>| {
        let find = find.bind(i64::from(limit));
        if let Some(node) = node { find.bind(node.to_owned()) } else { find }
    };
    rows(store, &ENTRY, &rest, bind, read).await
}

/// Whether a record can be told from others: what is not in ASCII, or was shortened, stands for bytes that are not known.
fn has_id(store: &SqlStore) -> String {
    let is_ascii = if store.is_sqlite() {
        // Bytes that are none are no characters, and behind a zero byte it does not look.
        "typeof(id) = 'text' AND length(id) = length(CAST(id AS BLOB)) AND id NOT GLOB '*[^' || char(1) || '-' || char(127) || ']*'"
    } else {
        "octet_length(id) = length(id)"
    };
    format!("(length(id) <= {MAX_TEXT} AND id NOT LIKE '%{SHORTENED}' AND {is_ascii})")
}

pub(crate) async fn stuck(store: &SqlStore, node: &str) -> Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM audit WHERE node = $1 AND sequence IS NULL AND {} IS NOT TRUE LIMIT {STUCK}) AS stuck",
        has_id(store)
    );
    let count = query(AssertSqlSafe(sql)).bind(node.to_owned());
    let counted = store.optional(count, |row| row.try_get::<i64, _>(0).map_err(failure)).await?;
    Ok(counted.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
}

pub(crate) async fn waiting_nodes(store: &SqlStore, before: Timestamp) -> Result<Vec<Box<str>>> {
    let before = before.as_millisecond();
    let rest =
        bounded!("FROM (SELECT DISTINCT node FROM audit WHERE sequence IS NULL AND (at < $1 OR at > $2)) AS waiting");
    let bind = |find: Query<'static>| find.bind(before).bind(before.saturating_add(AHEAD));
    rows(store, &NODE, rest, bind, |cells| cells.text("node")).await
}

//! The audit trail: records that wait, records in their places, and how far each node's chain has got. A record that goes with
//! a change is a part of its transaction; chaining is another, under the chain's own row, so that no push waits for it.

use crate::row;
use crate::sql::{Query, SqlStore, bounded, failure};
use portcullis_tenancy::audit::{Checkpoint, Entry, Head, Link, Record, Search};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use std::fmt::Write as _;

/// Records whose places one statement gives, at three values each.
const CHUNK: usize = 100;

macro_rules! entries {
    ($rest:literal) => {
        concat!(
            "SELECT id, node, sequence, at, kind, actor, address, project, repository, reference, digest, outcome, reason, request_id, \
             times, mac FROM audit ",
            $rest
        )
    };
}

const INSERT: &str = "INSERT INTO audit (id, node, sequence, at, kind, actor, address, project, repository, reference, digest, outcome, reason, \
     request_id, times, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const INSERT_ONCE: &str = "INSERT INTO audit (id, node, sequence, at, kind, actor, address, project, repository, reference, digest, outcome, reason, \
     request_id, times, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (id) DO NOTHING";

/// Writes a record down as a part of a change.
pub(crate) fn insert(entry: &Entry) -> Result<Query<'static>> {
    filled(INSERT, entry)
}

fn filled(sql: &'static str, entry: &Entry) -> Result<Query<'static>> {
    let record = &entry.record;
    Ok(query(sql)
        .bind(&*record.id)
        .bind(&*record.node)
        .bind(entry.sequence.map(number).transpose()?)
        .bind(record.at.as_millisecond())
        .bind(&*record.kind)
        .bind(&*record.actor)
        .bind(record.address.as_deref())
        .bind(record.project.as_deref())
        .bind(record.repository.as_deref())
        .bind(record.reference.as_deref())
        .bind(record.digest.as_deref())
        .bind(&*record.outcome)
        .bind(record.reason.as_deref())
        .bind(record.request_id.as_deref())
        .bind(number(record.times)?)
        .bind(&*entry.mac))
}

pub(crate) async fn add(store: &SqlStore, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut write = store.write().await?;
    for entry in entries {
        write.execute(filled(INSERT_ONCE, entry)?).await?;
    }
    write.commit().await
}

pub(crate) async fn waiting(store: &SqlStore, node: &str, limit: u32) -> Result<Vec<Entry>> {
    let find = query(entries!("WHERE node = $1 AND sequence IS NULL ORDER BY at, id LIMIT $2"));
    store.all(find.bind(node).bind(i64::from(limit)), read).await
}

pub(crate) async fn waiting_nodes(store: &SqlStore, before: Timestamp) -> Result<Vec<Box<str>>> {
    let find = query(bounded!("SELECT DISTINCT node FROM audit WHERE sequence IS NULL AND at < $1 ORDER BY node"));
    store.all(find.bind(before.as_millisecond()), |row| row::boxed(row, "node")).await
}

pub(crate) async fn head(store: &SqlStore, node: &str) -> Result<Option<Head>> {
    let find = query("SELECT node, count, link, seal, base FROM audit_chain WHERE node = $1");
    store.optional(find.bind(node), read_head).await
}

pub(crate) async fn heads(store: &SqlStore) -> Result<Vec<(Head, u64)>> {
    let find = query(bounded!(
        "SELECT node, count, link, seal, base, \
         (SELECT max(sequence) FROM audit WHERE audit.node = audit_chain.node AND audit.sequence IS NOT NULL) AS highest \
         FROM audit_chain ORDER BY node"
    ));
    let read = |row: &AnyRow| Ok((read_head(row)?, row::optional_size(row, "highest")?.unwrap_or_default()));
    store.all(find, read).await
}

pub(crate) async fn headless(store: &SqlStore) -> Result<Vec<Box<str>>> {
    let find = query(bounded!(
        "SELECT DISTINCT node FROM audit WHERE sequence IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM audit_chain WHERE audit_chain.node = audit.node) ORDER BY node"
    ));
    store.all(find, |row| row::boxed(row, "node")).await
}

/// The chain's row comes first: whoever chains at the same time waits for it, and then finds that the head is another.
pub(crate) async fn chain(store: &SqlStore, before: Option<&Head>, after: &Head, chained: &[Entry]) -> Result<()> {
    let mut write = store.write().await?;
    let moved = match before {
        None => {
            let begin = query(
                "INSERT INTO audit_chain (node, count, link, seal) VALUES ($1, $2, $3, $4) ON CONFLICT (node) DO NOTHING",
            );
            let begin = begin.bind(&*after.node).bind(number(after.count)?).bind(after.link.text()).bind(&*after.seal);
            write.execute(begin).await?
        }
        Some(before) => {
            let go_on = query(
                "UPDATE audit_chain SET count = $2, link = $3, seal = $4 WHERE node = $1 AND count = $5 AND link = $6",
            );
            let go_on = go_on.bind(&*after.node).bind(number(after.count)?).bind(after.link.text()).bind(&*after.seal);
            write.execute(go_on.bind(number(before.count)?).bind(before.link.text())).await?
        }
    };
    if moved == 0 {
        return Err(StoreError::Changed);
    }
    for chunk in chained.chunks(CHUNK) {
        if write.execute(places(chunk)?).await? != u64::try_from(chunk.len()).map_err(failure)? {
            return Err(StoreError::Changed);
        }
    }
    write.commit().await
}

fn places(entries: &[Entry]) -> Result<Query<'static>> {
    let mut sql = String::from("WITH place (id, sequence, mac) AS (VALUES ");
    for (row, first) in (1_usize..).step_by(3).take(entries.len()).enumerate() {
        let (second, third) = (first.saturating_add(1), first.saturating_add(2));
        let separator = if row == 0 { "" } else { ", " };
        let _ = write!(sql, "{separator}(${first}, CAST(${second} AS BIGINT), ${third})");
    }
    sql.push_str(
        ") UPDATE audit SET sequence = place.sequence, mac = place.mac FROM place WHERE audit.id = place.id AND audit.sequence IS NULL",
    );
    let mut update = query(AssertSqlSafe(sql)).persistent(entries.len() == 1);
    for entry in entries {
        let sequence = entry.sequence.ok_or_else(|| failure("a chained record has a place"))?;
        update = update.bind(&*entry.record.id).bind(number(sequence)?).bind(&*entry.mac);
    }
    Ok(update)
}

pub(crate) async fn chained(store: &SqlStore, node: &str, after: u64, limit: u32) -> Result<Vec<Entry>> {
    let find = query(entries!("WHERE node = $1 AND sequence > $2 AND sequence IS NOT NULL ORDER BY sequence LIMIT $3"));
    store.all(find.bind(node).bind(number(after)?).bind(i64::from(limit)), read).await
}

pub(crate) async fn search(store: &SqlStore, search: &Search) -> Result<Vec<Entry>> {
    let texts = [
        ("project =", &search.project),
        ("actor =", &search.actor),
        ("kind =", &search.kind),
        ("address =", &search.address),
    ];
    let times = [("at >=", search.since), ("at <", search.until)];
    let mut sql = String::from(entries!("WHERE times > 0"));
    let mut given = 0_usize;
    let mut condition = |text: &str| {
        given = given.saturating_add(1);
        let _ = write!(sql, " AND {text} ${given}");
    };
    texts.iter().filter(|(_, value)| value.is_some()).for_each(|(text, _)| condition(text));
    times.iter().filter(|(_, value)| value.is_some()).for_each(|(text, _)| condition(text));
    let _ = write!(sql, " ORDER BY at DESC, id DESC LIMIT ${}", given.saturating_add(1));
    let mut find = query(AssertSqlSafe(sql)).persistent(false);
    for text in texts.iter().filter_map(|(_, value)| value.as_deref()) {
        find = find.bind(text);
    }
    for time in times.iter().filter_map(|(_, value)| *value) {
        find = find.bind(time.as_millisecond());
    }
    store.all(find.bind(i64::from(search.limit)), read).await
}

pub(crate) async fn set_base(store: &SqlStore, former: Option<&Checkpoint>, base: &Checkpoint) -> Result<()> {
    let mut write = store.write().await?;
    let set = query("UPDATE audit_chain SET base = $2 WHERE node = $1 AND COALESCE(base, '') = $3");
    let set = set.bind(&*base.node).bind(base.to_json()).bind(former.map(Checkpoint::to_json).unwrap_or_default());
    if write.execute(set).await? == 0 {
        return Err(StoreError::Changed);
    }
    write.commit().await
}

pub(crate) async fn forget(store: &SqlStore, node: &str, up_to: u64, limit: u32) -> Result<u64> {
    let forget = query(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE node = $1 AND sequence <= $2 AND sequence IS NOT NULL LIMIT $3)",
    );
    store.execute(forget.bind(node).bind(number(up_to)?).bind(i64::from(limit))).await
}

fn number(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(failure)
}

fn read_head(row: &AnyRow) -> Result<Head> {
    let base = row::optional_text(row, "base")?;
    Ok(Head {
        node: row::boxed(row, "node")?,
        count: row::size(row, "count")?,
        link: row::parse(row, "link", Link::parse)?,
        seal: row::boxed(row, "seal")?,
        base: base.map(|line| row::parsed("base", line.as_str(), Checkpoint::parse)).transpose()?,
    })
}

fn read(row: &AnyRow) -> Result<Entry> {
    let optional = |column| Ok::<_, StoreError>(row::optional_text(row, column)?.map(String::into_boxed_str));
    let record = Record {
        id: row::boxed(row, "id")?,
        node: row::boxed(row, "node")?,
        at: row::time(row, "at")?,
        kind: row::boxed(row, "kind")?,
        actor: row::boxed(row, "actor")?,
        address: optional("address")?,
        project: optional("project")?,
        repository: optional("repository")?,
        reference: optional("reference")?,
        digest: optional("digest")?,
        outcome: row::boxed(row, "outcome")?,
        reason: optional("reason")?,
        request_id: optional("request_id")?,
        times: row::size(row, "times")?,
    };
    Ok(Entry { sequence: row::optional_size(row, "sequence")?, record, mac: row::boxed(row, "mac")? })
}

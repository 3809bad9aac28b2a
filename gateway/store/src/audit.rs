//! The audit trail: records that wait, records in their places, and how far each node's chain has got. A record that goes with
//! a change is a part of its transaction; chaining is another, under the chain's own row, so that no push waits for it.

mod cells;
mod waiting;

use crate::sql::{Query, SqlStore, bounded, failure};
use cells::{Cells, Column, rows};
use portcullis_tenancy::audit::{Checkpoint, Entry, Head, Link, Record, Search};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{StoreError, Timestamp};
use sqlx::{AssertSqlSafe, query};
use std::fmt::Write as _;
pub(crate) use waiting::{stuck, waiting, waiting_nodes};

/// Records whose places one statement gives, at three values each.
const CHUNK: usize = 100;

/// A record's columns.
const ENTRY: [Column; 16] = [
    Column::text("id"),
    Column::text("node"),
    Column::number("sequence"),
    Column::number("at"),
    Column::text("kind"),
    Column::text("actor"),
    Column::text("address"),
    Column::text("project"),
    Column::text("repository"),
    Column::text("reference"),
    Column::text("digest"),
    Column::text("outcome"),
    Column::text("reason"),
    Column::text("request_id"),
    Column::number("times"),
    Column::text("mac"),
];
const NODE: [Column; 1] = [Column::text("node")];
const HEAD: [Column; 5] =
    [Column::text("node"), Column::number("count"), Column::text("link"), Column::text("seal"), Column::text("base")];
/// The highest place that is taken in a chain.
const HIGHEST: Column = Column {
    expression: "(SELECT max(sequence) FROM audit WHERE audit.node = audit_chain.node AND audit.sequence IS NOT NULL)",
    name: "highest",
    is_text: false,
};

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

pub(crate) async fn head(store: &SqlStore, node: &str) -> Result<Option<Head>> {
    let bind = |find: Query<'static>| find.bind(node.to_owned());
    Ok(rows(store, &HEAD, "FROM audit_chain WHERE node = $1", bind, read_head).await?.pop())
}

pub(crate) async fn heads(store: &SqlStore) -> Result<Vec<(Head, u64)>> {
    let columns: Vec<Column> = HEAD.into_iter().chain([HIGHEST]).collect();
    // What is no number is behind all of them.
    let highest = |cells: &Cells<'_>| cells.place("highest").unwrap_or(if cells.is_spoiled() { u64::MAX } else { 0 });
    let read = |cells: &Cells<'_>| (read_head(cells), highest(cells));
    rows(store, &columns, bounded!("FROM audit_chain ORDER BY audit_chain.node"), |find| find, read).await
}

/// From one node to the next, as many looks as there are nodes: records are many.
pub(crate) async fn headless(store: &SqlStore) -> Result<Vec<Box<str>>> {
    let rest = bounded!(
        "FROM (WITH RECURSIVE named (node) AS (SELECT min(node) FROM audit WHERE sequence IS NOT NULL UNION ALL \
         SELECT (SELECT min(node) FROM audit WHERE sequence IS NOT NULL AND audit.node > named.node) FROM named WHERE named.node IS NOT NULL) \
         SELECT node FROM named WHERE node IS NOT NULL \
         UNION ALL SELECT NULL WHERE EXISTS (SELECT 1 FROM audit WHERE node IS NULL AND sequence IS NOT NULL)) AS chained \
         WHERE NOT EXISTS (SELECT 1 FROM audit_chain WHERE audit_chain.node = chained.node)"
    );
    rows(store, &NODE, rest, |find| find, |cells| cells.text("node")).await
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

/// What stands before the first place was put there, and comes first.
pub(crate) async fn chained(store: &SqlStore, node: &str, after: u64, limit: u32) -> Result<Vec<Entry>> {
    let after = if after == 0 { i64::MIN } else { number(after)? };
    let rest = "FROM audit WHERE node = $1 AND sequence > $2 AND sequence IS NOT NULL ORDER BY audit.sequence LIMIT $3";
    let bind = |find: Query<'static>| find.bind(node.to_owned()).bind(after).bind(i64::from(limit));
    rows(store, &ENTRY, rest, bind, read).await
}

pub(crate) async fn search(store: &SqlStore, search: &Search) -> Result<Vec<Entry>> {
    let texts = [
        ("project =", &search.project),
        ("actor =", &search.actor),
        ("kind =", &search.kind),
        ("address =", &search.address),
    ];
    let times = [("at >=", search.since), ("at <", search.until)];
    let mut rest = String::from("FROM audit WHERE 1 = 1");
    let mut given = 0_usize;
    let mut condition = |text: &str| {
        given = given.saturating_add(1);
        let _ = write!(rest, " AND {text} ${given}");
    };
    texts.iter().filter(|(_, value)| value.is_some()).for_each(|(text, _)| condition(text));
    times.iter().filter(|(_, value)| value.is_some()).for_each(|(text, _)| condition(text));
    let _ = write!(rest, " ORDER BY audit.at DESC, audit.id DESC LIMIT ${}", given.saturating_add(1));
    let bind = |mut find: Query<'static>| {
        find = find.persistent(false);
        for text in texts.iter().filter_map(|(_, value)| value.as_ref()) {
            find = find.bind(text.clone());
        }
        for time in times.iter().filter_map(|(_, value)| *value) {
            find = find.bind(time.as_millisecond());
        }
        find.bind(i64::from(search.limit))
    };
    rows(store, &ENTRY, &rest, bind, read).await
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
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE node = $1 AND sequence <= $2 AND sequence IS NOT NULL \
         ORDER BY sequence LIMIT $3)",
    );
    store.execute(forget.bind(node).bind(number(up_to)?).bind(i64::from(limit))).await
}

fn number(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(failure)
}

/// A head of which something cannot be read is none that anybody sealed.
fn read_head(cells: &Cells<'_>) -> Head {
    let (node, count, link) = (cells.text("node"), cells.size("count").unwrap_or_default(), cells.text("link"));
    let link = cells.parsed(&link, Link::parse, Link([0; 32]));
    let seal = cells.text("seal");
    let is_spoiled = cells.is_spoiled();
    let base = cells.optional("base").map(|line| {
        let unreadable = Checkpoint {
            node: Box::default(),
            count: 0,
            link: Link([0; 32]),
            at: Timestamp::MIN,
            is_base: false,
            key: Box::default(),
            signature: Box::default(),
        };
        cells.parsed(&line, Checkpoint::parse, unreadable)
    });
    if is_spoiled {
        Head { node, count: 0, link, seal: Box::default(), base: None }
    } else {
        Head { node, count, link, seal, base }
    }
}

/// A record of which something cannot be read has no seal: it is not what was written down.
fn read(cells: &Cells<'_>) -> Entry {
    let record = Record {
        id: cells.text("id"),
        node: cells.text("node"),
        at: cells.time("at"),
        kind: cells.text("kind"),
        actor: cells.text("actor"),
        address: cells.optional("address"),
        project: cells.optional("project"),
        repository: cells.optional("repository"),
        reference: cells.optional("reference"),
        digest: cells.optional("digest"),
        outcome: cells.text("outcome"),
        reason: cells.optional("reason"),
        request_id: cells.optional("request_id"),
        times: cells.size("times").unwrap_or_default(),
    };
    let (sequence, mac) = (cells.place("sequence"), cells.text("mac"));
    Entry { sequence, record, mac: if cells.is_spoiled() { Box::default() } else { mac } }
}

//! Somebody who has the database writes into the audit trail what is none of ours: it is named, and keeps nobody from the rest.

use super::{Server, sqlite_url};
use crate::open;
use crate::suite::audit::{NODE, chain_all, keys, sealed};
use portcullis_tenancy::audit::{Fault, Kind, Search, Verified, Wrong, advance, verify};
use portcullis_tenancy::{Store, Timestamp};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

const KEEP: &str = "CREATE TABLE kept AS SELECT * FROM audit; CREATE TABLE kept_chain AS SELECT * FROM audit_chain;";
const PUT_BACK: &str = "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; DELETE FROM audit_chain; INSERT INTO audit_chain SELECT * FROM kept_chain;";
const UNCHECKED: &str = "PRAGMA ignore_check_constraints = ON;";

/// What both databases let him do, once he has taken their checks away, and the record at which it is told.
const EVERYWHERE: [(&str, u64); 10] = [
    ("UPDATE audit SET at = 9223372036854775807 WHERE sequence = 2", 2),
    ("UPDATE audit SET at = -9223372036854775807 WHERE sequence = 3", 3),
    ("UPDATE audit SET times = -1 WHERE sequence = 4", 4),
    ("UPDATE audit SET sequence = 0 WHERE sequence = 2", 0),
    ("UPDATE audit SET sequence = -7 WHERE sequence = 1", 0),
    ("UPDATE audit SET mac = 'nonsense' WHERE sequence = 4", 4),
    ("UPDATE audit_chain SET count = -1", 4),
    ("UPDATE audit_chain SET link = 'nonsense'", 4),
    ("UPDATE audit_chain SET seal = ''", 4),
    ("UPDATE audit_chain SET base = 'nonsense'", 1),
];

async fn run(url: &str, sql: &str) {
    let mut connection = AnyConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    connection.close().await.unwrap();
}

async fn verified(store: &dyn Store) -> Result<Verified, Fault> {
    let head = store.audit_head(NODE).await.unwrap().unwrap();
    let entries = store.chained_records(NODE, 0, 100).await.unwrap();
    verify(&keys().witness(), &head, entries, &[])
}

/// Four records in their places, and then this is done to them, one after the other.
async fn is_named(url: &str, taken_away: &str, before_each: &str, tamperings: &[(&str, u64)]) {
    let store = open(url, 2).await.unwrap();
    store.add_records(&["1", "2", "3", "4"].map(|of| sealed(Kind::Push, of))).await.unwrap();
    chain_all(&store, NODE).await;
    run(url, KEEP).await;
    if !taken_away.is_empty() {
        run(url, taken_away).await;
    }
    for (tampering, place) in EVERYWHERE.iter().chain(tamperings) {
        verified(&store).await.unwrap();
        run(url, &format!("{before_each} {tampering}")).await;
        let fault = verified(&store).await.unwrap_err();
        assert_eq!(fault.sequence, *place, "{tampering}: {fault}");
        let is_of_head = matches!(fault.wrong, Wrong::Head | Wrong::Base);
        assert_eq!(is_of_head, tampering.contains("audit_chain"), "{tampering}: {fault}");
        let found = store.search_records(&Search { limit: 10, ..Search::default() }).await.unwrap();
        assert_eq!(found.len(), 4, "{tampering}");
        assert_eq!(store.audit_heads().await.unwrap().len(), 1, "{tampering}");
        let headless = store.headless_nodes().await.unwrap();
        assert_eq!(headless.iter().any(|node| !node.is_ascii()), tampering.contains("SET node"), "{tampering}");
        store.waiting_nodes(Timestamp::now()).await.unwrap();
        run(url, PUT_BACK).await;
    }
}

#[tokio::test]
async fn whatever_is_written_into_a_row_is_named_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = [
        ("UPDATE audit SET actor = CAST(x'61ff' AS TEXT) WHERE sequence = 2", 2),
        ("UPDATE audit SET id = CAST(x'ff' AS TEXT) WHERE sequence = 1", 1),
        ("UPDATE audit SET actor = actor || CAST(x'00' AS TEXT) WHERE sequence = 2", 2),
        ("UPDATE audit SET actor = actor || CAST(zeroblob(5000) AS TEXT) WHERE sequence = 2", 2),
        ("UPDATE audit SET node = CAST(x'6eff' AS TEXT) WHERE sequence = 3", 3),
        ("UPDATE audit SET mac = CAST(x'ff' AS TEXT) WHERE sequence = 4", 4),
        ("UPDATE audit_chain SET link = CAST(x'ff' AS TEXT)", 4),
        ("UPDATE audit_chain SET base = CAST(x'ff' AS TEXT)", 1),
    ];
    is_named(&sqlite_url(&directory), "", UNCHECKED, &bytes).await;
}

#[tokio::test]
async fn whatever_is_written_into_a_row_is_named_on_sqlite_without_types() {
    const LOOSE: &str = "ALTER TABLE audit RENAME TO typed; CREATE TABLE audit AS SELECT * FROM typed; \
        ALTER TABLE audit_chain RENAME TO typed_chain; CREATE TABLE audit_chain AS SELECT * FROM typed_chain;";
    let directory = tempfile::tempdir().unwrap();
    let types = [
        ("UPDATE audit SET at = 'never' WHERE sequence = 2", 2),
        ("UPDATE audit SET times = 2.5 WHERE sequence = 3", 3),
        ("UPDATE audit SET actor = CAST(actor AS BLOB) WHERE sequence = 4", 4),
        ("UPDATE audit SET actor = NULL WHERE sequence = 1", 1),
        ("UPDATE audit SET sequence = 'two' WHERE sequence = 2", 2),
        ("UPDATE audit SET node = x'00' WHERE sequence = 2", 2),
        ("UPDATE audit_chain SET count = 'many'", 4),
        ("UPDATE audit_chain SET seal = NULL", 4),
    ];
    is_named(&sqlite_url(&directory), LOOSE, "", &types).await;
}

#[tokio::test]
async fn whatever_is_written_into_a_row_is_named_on_postgres() {
    const UNCHECK: &str = "ALTER TABLE audit DROP CONSTRAINT audit_times_check, DROP CONSTRAINT audit_sequence_check, \
        ALTER actor DROP NOT NULL, ALTER node DROP NOT NULL, ALTER mac DROP NOT NULL; \
        ALTER TABLE audit_chain DROP CONSTRAINT audit_chain_count_check, ALTER seal DROP NOT NULL;";
    let nothing = [
        ("UPDATE audit SET actor = NULL WHERE sequence = 2", 2),
        ("UPDATE audit SET node = NULL WHERE sequence = 3", 3),
        ("UPDATE audit SET mac = NULL WHERE sequence = 4", 4),
        ("UPDATE audit_chain SET seal = NULL", 4),
    ];
    let server = Server::get();
    is_named(&server.database().await, UNCHECK, "", &nothing).await;
}

/// A record that nobody can read has its place like the others, or waits; those after it do not wait with it.
async fn does_not_stop_its_chain(url: &str, id: &str) {
    const MORE: u64 = 1100;
    let store = open(url, 2).await.unwrap();
    store.add_records(&["late", "nameless", "good"].map(|of| sealed(Kind::Push, of))).await.unwrap();
    run(url, "UPDATE audit SET at = 9223372036854775807 WHERE reference = 'late'").await;
    run(url, &format!("UPDATE audit SET id = {id} WHERE reference = 'nameless'")).await;
    let before_all = Timestamp::from_second(1_800_000_000).unwrap();
    assert_eq!(store.waiting_nodes(before_all).await.unwrap(), [NODE.into()], "a time that is none has passed");
    let step = advance(&store, &keys(), NODE, None).await.unwrap();
    let of = step.chained.iter().map(|entry| entry.record.reference.as_deref().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!((of, step.changed, step.stuck), (vec!["good", "late"], 1, 1));
    let fault = verified(&store).await.unwrap_err();
    assert_eq!((fault.sequence, fault.wrong), (2, Wrong::Changed));
    let waiting = store.waiting_records(None, 10).await.unwrap();
    assert!(waiting.len() == 1 && !keys().witness().has_sealed(&waiting[0]), "{waiting:?}");
    store.add_records(&[sealed(Kind::Push, "next")]).await.unwrap();
    let step = advance(&store, &keys(), NODE, step.head.map(|head| (head.count, head.link))).await.unwrap();
    assert_eq!((step.chained.len(), step.changed, step.stuck), (1, 0, 1), "it goes on");

    // However many he puts before all others.
    let copies = format!(
        "WITH RECURSIVE copy (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM copy WHERE number < {MORE}) \
         INSERT INTO audit (id, node, at, kind, actor, outcome, times, mac) \
         SELECT {id} || number, '{NODE}', 0, 'push', 'nobody', 'done', 1, '' FROM copy"
    );
    run(url, &copies).await;
    store.add_records(&[sealed(Kind::Push, "last")]).await.unwrap();
    let step = advance(&store, &keys(), NODE, step.head.map(|head| (head.count, head.link))).await.unwrap();
    let of = step.chained.iter().map(|entry| entry.record.reference.as_deref().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!((of, step.changed, step.stuck), (vec!["last"], 0, 1 + MORE));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_stop_its_chain_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    does_not_stop_its_chain(&sqlite_url(&directory), "CAST(x'ff' AS TEXT)").await;
}

#[tokio::test]
async fn a_record_whose_id_hides_what_cannot_be_read_does_not_stop_its_chain_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    does_not_stop_its_chain(&sqlite_url(&directory), "CAST(x'6100ff' AS TEXT)").await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_stop_its_chain_on_postgres() {
    let server = Server::get();
    does_not_stop_its_chain(&server.database().await, "'\u{fffd}'").await;
}

/// A text that is longer than any of ours comes shortened, and is named; so does what only looks as if it had been.
async fn is_shortened(url: &str) {
    let store = open(url, 2).await.unwrap();
    store.add_records(&["1", "2"].map(|of| sealed(Kind::Push, of))).await.unwrap();
    let head = chain_all(&store, NODE).await.unwrap();
    for (text, shown) in [("ä".repeat(4000), 201), ("x".repeat(4096), 4096), ("like it\u{1a}".to_owned(), 8)] {
        run(url, &format!("UPDATE audit SET reason = '{text}' WHERE sequence = 2")).await;
        let fault = verified(&store).await.unwrap_err();
        assert_eq!((fault.sequence, &fault.wrong), (2, &Wrong::Changed));
        let reason = fault.record.and_then(|record| record.reason).unwrap();
        assert_eq!(reason.chars().count(), shown);
        assert_eq!(reason.ends_with('\u{fffd}'), shown != 4096, "{reason}");
    }
    store.add_records(&["long", "looks", "good"].map(|of| sealed(Kind::Push, of))).await.unwrap();
    let long = "x".repeat(5000);
    run(url, &format!("UPDATE audit SET id = '{long}' WHERE reference = 'long'")).await;
    run(url, "UPDATE audit SET id = 'like it\u{1a}' WHERE reference = 'looks'").await;
    let step = advance(&store, &keys(), NODE, Some((head.count, head.link))).await.unwrap();
    assert_eq!((step.chained.len(), step.changed, step.stuck), (1, 0, 2), "an id that was shortened is nobody's");
    run(url, &format!("UPDATE audit_chain SET seal = '{long}'")).await;
    let head = store.audit_head(NODE).await.unwrap().unwrap();
    assert!(head.seal.is_empty(), "nobody sealed it");
}

#[tokio::test]
async fn a_text_that_is_too_long_is_shortened_and_named_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    is_shortened(&sqlite_url(&directory)).await;
}

#[tokio::test]
async fn a_text_that_is_too_long_is_shortened_and_named_on_postgres() {
    let server = Server::get();
    is_shortened(&server.database().await).await;
}

//! Both databases under the suite, and what each of them has of its own.

mod audit;
mod postgres;

use crate::suite::{self, Nodes};
use crate::{OpenError, SqlStore, open};
use portcullis_tenancy::ledger::Charge;
use portcullis_tenancy::{ProjectId, Store, StoreError, Timestamp};
use postgres::Server;
use sqlx::Connection;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

macro_rules! on_both_databases {
    ($($topic:ident :: $behaviour:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let directory = tempfile::tempdir().unwrap();
                crate::suite::$topic::$behaviour(super::nodes(&super::sqlite_url(&directory)).await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let server = super::Server::get();
                crate::suite::$topic::$behaviour(super::nodes(&server.database().await).await).await;
            })*
        }
    };
}
suite::every_behaviour!(on_both_databases);

/// A SQLite file that is not there yet.
fn sqlite_url(directory: &tempfile::TempDir) -> String {
    format!("sqlite://{}/portcullis.db", directory.path().display())
}

async fn nodes(url: &str) -> Nodes {
    Nodes { one: Arc::new(open(url, 4).await.unwrap()), other: Arc::new(open(url, 4).await.unwrap()) }
}

async fn nodes_that_start_at_once_share_one_schema(url: &str) {
    let opening: Vec<_> = (0..6)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move { open(&url, 2).await })
        })
        .collect();
    let mut stores: Vec<SqlStore> = Vec::new();
    for opening in opening {
        stores.push(opening.await.unwrap().unwrap());
    }
    for store in &stores {
        assert_eq!(store.generation().await.unwrap().0, 1);
    }
}

#[tokio::test]
async fn postgres_tells_the_time_and_sqlite_has_none_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(open(&sqlite_url(&directory), 2).await.unwrap().clock().await.unwrap(), None);
    let server = Server::get();
    let clock = open(&server.database().await, 2).await.unwrap().clock().await.unwrap().unwrap();
    let apart = Timestamp::now().duration_since(clock).abs();
    assert!(apart.as_secs() < 60, "{clock}");
}

async fn a_newer_or_foreign_schema_is_refused(url: &str) {
    open(url, 2).await.unwrap().close().await;
    let change = |sql: &'static str| async move {
        let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    change("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) SELECT 9999, 'tomorrow', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1").await;
    let error = refused(url).await;
    assert!(matches!(error, OpenError::NewerSchema(9999)), "{error}");
    change("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    change("UPDATE _sqlx_migrations SET checksum = substr(checksum, 2)").await;
    let error = refused(url).await;
    assert!(matches!(error, OpenError::OtherSchema(1)), "{error}");
}

async fn refused(url: &str) -> OpenError {
    match open(url, 2).await.err() {
        Some(StoreError::Failed(error)) => *error.downcast().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn the_schema_can_be_rolled_back_and_brought_up_again(url: &str, migrations: &sqlx::migrate::Migrator) {
    open(url, 2).await.unwrap().close().await;
    let pool = sqlx::AnyPool::connect(url).await.unwrap();
    migrations.undo(&pool, 0).await.unwrap();
    pool.close().await;
    let store = open(url, 2).await.unwrap();
    assert_eq!(store.generation().await.unwrap().0, 1);
    an_upgrade_counts_what_is_there(url, migrations, store).await;
}

/// Words in the place of digests.
fn with_digests(sql: &str) -> String {
    let words = [("NAMED", "1"), ("ORPHAN", "2"), ("MANIFEST", "3")];
    words.iter().fold(sql.to_owned(), |sql, (word, digit)| sql.replace(word, &format!("sha256:{}", digit.repeat(64))))
}

/// From the schema before the ledger counted, and back to it, with content.
async fn an_upgrade_counts_what_is_there(url: &str, migrations: &sqlx::migrate::Migrator, store: crate::SqlStore) {
    const BEFORE: i64 = 2;
    store.close().await;
    let pool = sqlx::AnyPool::connect(url).await.unwrap();
    migrations.undo(&pool, BEFORE).await.unwrap();
    for sql in [
        "INSERT INTO project (id, name, upstream_prefix, public, created_at) VALUES ('p', 'acme', 'acme', 0, 1)",
        "INSERT INTO blob (project_id, digest, size) VALUES ('p', 'NAMED', 70), ('p', 'ORPHAN', 30)",
        "INSERT INTO link (project_id, repository, digest, linked_at) VALUES ('p', 'acme/app', 'NAMED', 1)",
        "INSERT INTO manifest (project_id, repository, digest, media_type, size, annotations, pushed_at, pushed_by) \
         VALUES ('p', 'acme/app', 'MANIFEST', 't', 5, '[]', 1, 'x'), ('p', 'acme/copy', 'MANIFEST', 't', 5, '[]', 1, 'x')",
        "INSERT INTO manifest_reference (project_id, repository, manifest_digest, position, kind, digest, media_type, size) \
         VALUES ('p', 'acme/app', 'MANIFEST', 0, 'layer', 'NAMED', 't', 1)",
        "INSERT INTO journal (id, project_id, repository, step, tag, digest, started_at) \
         VALUES ('j', 'p', 'acme/app', 'delete-tag', 'old', 'MANIFEST', 1)",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(with_digests(sql))).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let store = open(url, 2).await.unwrap();
    let project = ProjectId("p".into());
    assert_eq!(store.recount(&project, false).await.unwrap(), (105, 105));
    let breakdown = store.breakdown(&project, 10).await.unwrap();
    assert_eq!(breakdown.reclaimable, 30, "what no manifest names waits from now on");
    let uncharge = with_digests("UPDATE blob SET uncharged_at = 1 WHERE digest = 'NAMED'");
    store.execute(sqlx::query(sqlx::AssertSqlSafe(uncharge))).await.unwrap();
    store.close().await;

    let pool = sqlx::AnyPool::connect(url).await.unwrap();
    migrations.undo(&pool, BEFORE).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM blob").fetch_one(&pool).await.unwrap();
    let links: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM link").fetch_one(&pool).await.unwrap();
    let entries: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM journal").fetch_one(&pool).await.unwrap();
    assert_eq!((left, links, entries), (1, 0, 1), "what was not charged stays unserved");
    pool.close().await;
    open(url, 2).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_open_one_sqlite_file_at_once_share_one_schema() {
    for _ in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let url = sqlite_url(&directory);
        // As left by a process that died before its migrations: the switch to the log no longer puts the others in a row.
        crate::sqlite::make_private(&directory.path().join("portcullis.db")).unwrap();
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        nodes_that_start_at_once_share_one_schema(&url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_open_one_postgres_at_once_share_one_schema() {
    let server = Server::get();
    nodes_that_start_at_once_share_one_schema(&server.database().await).await;
}

#[tokio::test]
async fn a_newer_or_foreign_schema_is_refused_by_name_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    a_newer_or_foreign_schema_is_refused(&sqlite_url(&directory)).await;
}

#[tokio::test]
async fn a_newer_or_foreign_schema_is_refused_by_name_on_postgres() {
    let server = Server::get();
    a_newer_or_foreign_schema_is_refused(&server.database().await).await;
}

#[tokio::test]
async fn the_schema_can_be_rolled_back_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    the_schema_can_be_rolled_back_and_brought_up_again(&sqlite_url(&directory), &crate::sqlite::MIGRATIONS).await;
}

#[tokio::test]
async fn the_schema_can_be_rolled_back_on_postgres() {
    let server = Server::get();
    the_schema_can_be_rolled_back_and_brought_up_again(&server.database().await, &crate::postgres::MIGRATIONS).await;
}

async fn a_change_that_is_dropped_half_way_leaves_nothing_and_holds_nobody_up(url: &str) {
    let store = open(url, 4).await.unwrap();
    let before = store.generation().await.unwrap();
    for _ in 0..6 {
        drop(store.change().await.unwrap());
    }
    assert_eq!(store.generation().await.unwrap(), before);
    store.change().await.unwrap().commit().await.unwrap();
    assert!(store.generation().await.unwrap() > before);
}

#[tokio::test]
async fn a_change_that_is_dropped_half_way_leaves_nothing_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    a_change_that_is_dropped_half_way_leaves_nothing_and_holds_nobody_up(&sqlite_url(&directory)).await;
}

#[tokio::test]
async fn a_change_that_is_dropped_half_way_leaves_nothing_on_postgres() {
    let server = Server::get();
    a_change_that_is_dropped_half_way_leaves_nothing_and_holds_nobody_up(&server.database().await).await;
}

/// Writes that the database itself refuses, among others of the same account at the same time.
async fn what_fails_drags_along_nobody_for_good(url: &str, poison: &[&'static str]) {
    let store: Arc<SqlStore> = Arc::new(open(url, 4).await.unwrap());
    let (acme, _) = suite::acme(&*store).await;
    for statement in poison {
        sqlx::raw_sql(*statement).execute(store.pool()).await.unwrap();
    }
    let push = |number: usize| {
        let (store, acme) = (Arc::clone(&store), acme.clone());
        tokio::spawn(async move {
            let repository = if number % 12 == 5 { "acme/poison" } else { "acme/app" };
            let pushed = suite::quota::image(&acme, repository, &number.to_string(), &[]);
            (number % 12 == 5, store.add_manifest(&pushed, &[], Charge::Anyway).await)
        })
    };
    for push in (0..24).map(push).collect::<Vec<_>>() {
        let (is_poison, pushed) = push.await.unwrap();
        assert_eq!(pushed.is_err(), is_poison, "{pushed:?}");
    }
    assert_eq!(store.manifests(&acme.id, &suite::repo("acme/app")).await.unwrap().len(), 22);
    let (counted, recorded) = store.recount(&acme.id, false).await.unwrap();
    assert_eq!(counted, recorded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_drags_along_nobody_for_good_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let poison = "CREATE TRIGGER poison BEFORE INSERT ON manifest WHEN NEW.repository = 'acme/poison' \
        BEGIN SELECT RAISE(ABORT, 'poison'); END";
    what_fails_drags_along_nobody_for_good(&sqlite_url(&directory), &[poison]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_drags_along_nobody_for_good_on_postgres() {
    let server = Server::get();
    let poison = [
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$",
        "CREATE TRIGGER poison BEFORE INSERT ON manifest FOR EACH ROW WHEN (NEW.repository = 'acme/poison') EXECUTE FUNCTION poison()",
    ];
    what_fails_drags_along_nobody_for_good(&server.database().await, &poison).await;
}

#[tokio::test]
async fn the_sqlite_file_and_its_log_are_their_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portcullis.db");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&sqlite_url(&directory), 2).await.unwrap();
    store.deployment("here").await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its log, and the log's index");
}

#[tokio::test]
async fn every_sqlite_connection_keeps_what_it_commits_and_checks_references() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&sqlite_url(&directory), 3).await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = store.pool().acquire().await.unwrap();
        says(&mut reader, EVERY).await;
        readers.push(reader);
    }
    assert!(store.pool().try_acquire().is_none(), "the third one writes");
    let mut write = store.write().await.unwrap();
    let writer = write.connection().await.unwrap();
    says(writer, EVERY).await;
    says(writer, &[("PRAGMA temp_store", "2")]).await;
}

const EVERY: &[(&str, &str)] = &[
    ("PRAGMA synchronous", "2"),
    ("PRAGMA foreign_keys", "1"),
    ("PRAGMA journal_mode", "wal"),
    ("PRAGMA busy_timeout", "10000"),
];

async fn says(connection: &mut sqlx::AnyConnection, pragmas: &[(&'static str, &str)]) {
    for (pragma, expected) in pragmas {
        let row = sqlx::query(*pragma).fetch_one(&mut *connection).await.unwrap();
        let value = sqlx::Row::try_get::<String, _>(&row, 0)
            .or_else(|_| sqlx::Row::try_get::<i64, _>(&row, 0).map(|value| value.to_string()));
        assert_eq!(value.unwrap(), *expected, "{pragma}");
    }
}

#[tokio::test]
async fn a_sqlite_transaction_that_will_write_keeps_other_processes_from_writing_from_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) =
        (open(&sqlite_url(&directory), 2).await.unwrap(), open(&sqlite_url(&directory), 2).await.unwrap());
    let mut impatient = there.pool().acquire().await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *impatient).await.unwrap();
    let write = here.write().await.unwrap();
    let meanwhile = sqlx::query("UPDATE rule_generation SET value = 7");
    meanwhile.execute(&mut *impatient).await.unwrap_err();
    write.commit().await.unwrap();
}

#[tokio::test]
async fn a_list_that_is_too_long_is_an_error_and_not_a_part_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&sqlite_url(&directory), 2).await.unwrap();
    let numbers = |count: i64| {
        sqlx::query("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n")
            .bind(count)
    };
    assert_eq!(store.all(numbers(100_000), |_| Ok(())).await.unwrap().len(), 100_000);
    assert!(matches!(store.all(numbers(100_001), |_| Ok(())).await, Err(StoreError::Failed(_))));
}

#[tokio::test]
async fn a_url_that_names_no_database_is_refused_without_showing_its_password() {
    for url in [
        "mysql://root:hunter2@localhost/x",
        "hunter2",
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite://",
        "sqlite:///tmp/x.db?mode=memory",
        "postgres://u:hunter2@[/x",
    ] {
        let error = refused(url).await;
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let nowhere = format!("sqlite://{}/nowhere/portcullis.db", directory.path().display());
    assert!(matches!(refused(&nowhere).await, OpenError::File { .. }));
}

#[tokio::test]
async fn a_postgres_that_is_not_in_utf8_is_refused() {
    let server = Server::get();
    let url = server.database_with("TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'").await;
    assert!(matches!(refused(&url).await, OpenError::Encoding(encoding) if encoding == "SQL_ASCII"));
}

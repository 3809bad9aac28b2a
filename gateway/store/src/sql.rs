//! One store for both databases: how it is opened, and the transactions that its queries run in.
//!
//! The SQL is what SQLite and PostgreSQL have in common; what they have not is in `sqlite.rs` and `postgres.rs`.

mod calls;

use crate::audit;
use crate::gather::{Member, Queue, RELEASE};
use crate::together::{Joined, together};
use crate::{postgres, row, sqlite};
use futures_util::TryStreamExt;
use portcullis_tenancy::audit::Entry;
use portcullis_tenancy::quota::Account;
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError, Timestamp};
use sqlx::any::{Any, AnyArguments, AnyPoolOptions, AnyRow};
use sqlx::error::ErrorKind;
use sqlx::migrate::MigrateError;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Transaction};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Longest wait for one call: for a connection, the locks and the answers together.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);
/// Longest wait for an opened store, another node's migrations included.
const OPEN: Duration = Duration::from_secs(60);
/// Longest wait for a connection of the pool.
const ACQUIRE: Duration = Duration::from_secs(5);
/// Most rows that one call returns; more is an error, never a silent cut.
const MAX_ROWS: usize = 100_000;

/// A query of either database.
pub(crate) type Query<'q> = sqlx::query::Query<'q, Any, AnyArguments>;

/// A select that ends one row past [`MAX_ROWS`], so that too many rows are noticed.
macro_rules! bounded {
    ($($sql:expr),+ $(,)?) => { concat!($($sql),+, " LIMIT 100001") };
}
pub(crate) use bounded;

/// Why a store cannot be opened. It stands inside [`StoreError::Failed`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is of neither database.
    #[error("store.url begins with sqlite:// or postgres://")]
    Scheme,
    /// The URL's rest makes no sense.
    #[error("store.url: {0}")]
    Url(String),
    /// A newer version has migrated the database.
    #[error(
        "its schema has the migration {0}, which this version of Portcullis does not know: start the newer version, or let it roll the schema back first"
    )]
    NewerSchema(i64),
    /// A migration in the database is not the one in this binary.
    #[error(
        "its migration {0} differs from the one in this version of Portcullis: the database belongs to another build"
    )]
    OtherSchema(i64),
    /// A migration failed, and was rolled back.
    #[error("its schema could not be brought up to date: {0}")]
    Migration(#[source] MigrateError),
    /// The database's file.
    #[error("{path}: {error}")]
    File {
        /// Its path.
        path: String,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The file lies where SQLite cannot share memory, on a network's file system for one.
    #[error("SQLite cannot keep a write-ahead log where the file lies (it stays in mode {0}); use a local disk")]
    Journal(String),
    /// The server does not answer.
    #[error("it could not be opened within {} s", OPEN.as_secs())]
    Late,
    /// The database is set up in a way that would corrupt names.
    #[error("the database's encoding is {0}; Portcullis needs UTF8 (create the database with ENCODING 'UTF8')")]
    Encoding(String),
}

/// A list is longer than one call may return.
#[derive(Debug, thiserror::Error)]
#[error("there are more than {MAX_ROWS} rows")]
struct TooMany;

/// The store in SQLite or PostgreSQL.
#[derive(Clone)]
pub struct SqlStore {
    /// On SQLite those that read; the one that writes is its queue's.
    pool: AnyPool,
    queues: Queues,
    /// Goes along with the change that this is for.
    record: Option<Arc<Entry>>,
}

/// Which writes stand in a row.
#[derive(Clone)]
enum Queues {
    /// All of them: SQLite takes one writer at a time.
    One(Arc<Queue>),
    /// Those of one project's ledger, which wait for its account's row in any case.
    Each(Arc<Mutex<HashMap<ProjectId, Weak<Queue>>>>),
}

/// Opens the store that the URL names, makes it where it is a SQLite file that is not there yet, and brings its schema up to date.
///
/// Several nodes and commands may do so at the same time.
pub async fn open(url: &str, max_connections: u32) -> Result<SqlStore> {
    sqlx::any::install_default_drivers();
    let options = AnyPoolOptions::new().max_connections(max_connections.max(2)).acquire_timeout(ACQUIRE);
    let opening = async {
        match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("sqlite") => {
                let (pool, writer) = sqlite::open(url, options).await?;
                let queue = Queue::of_file(writer);
                Ok(SqlStore { pool, queues: Queues::One(queue), record: None })
            }
            Some("postgres" | "postgresql") => {
                let pool = postgres::open(url, options).await?;
                Ok(SqlStore { pool, queues: Queues::Each(Arc::default()), record: None })
            }
            _ => Err(OpenError::Scheme.into()),
        }
    };
    tokio::time::timeout(OPEN, opening).await.map_err(|_| OpenError::Late)?
}

impl SqlStore {
    /// Closes all connections once their calls are done; later calls fail.
    pub async fn close(&self) {
        if let Queues::One(queue) = &self.queues {
            queue.close().await;
        }
        self.pool.close().await;
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.queues, Queues::One(_))
    }

    /// PostgreSQL's clock, with which all nodes on it can compare theirs; none for SQLite, whose clock is this machine's.
    pub async fn clock(&self) -> Result<Option<Timestamp>> {
        if self.is_sqlite() {
            return Ok(None);
        }
        let query = sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now");
        let read = self.optional(query, |row| row::time(row, "now"));
        tokio::time::timeout(DEADLINE, read).await.map_err(failure)?
    }

    /// Which database it is, and its version.
    pub async fn version(&self) -> Result<String> {
        let (name, select) = match self.queues {
            Queues::One(_) => ("SQLite", "SELECT sqlite_version() AS version"),
            Queues::Each(_) => ("PostgreSQL", "SELECT current_setting('server_version') AS version"),
        };
        let read = self.optional(sqlx::query(select), |row| row::text(row, "version"));
        let version = tokio::time::timeout(DEADLINE, read).await.map_err(failure)??;
        Ok(format!("{name} {}", version.unwrap_or_default()))
    }

    /// Fails where nothing can be written: on a standby, in a file that is read-only, without the right to. It changes nothing.
    pub async fn try_write(&self) -> Result<()> {
        tokio::time::timeout(DEADLINE, self.hold()).await.map_err(failure)?.map(drop)
    }

    /// Writes a copy of a SQLite store to a file that is not there yet, as of one moment, while others go on.
    pub async fn copy_to(&self, path: &std::path::Path) -> Result<()> {
        sqlite::make_private(path)?;
        // VACUUM INTO takes an empty file, and its private mode stays.
        let path = path.to_str().ok_or_else(|| OpenError::Url("its path is not UTF-8".into()))?;
        sqlx::query("VACUUM INTO $1").bind(path).execute(&self.pool).await.map_err(failed).map(|_| ())
    }

    /// Whether a SQLite store is whole.
    pub async fn check(&self) -> Result<()> {
        let check = sqlx::query("SELECT integrity_check AS said FROM pragma_integrity_check LIMIT 1");
        match self.optional(check, |row| row::text(row, "said")).await? {
            Some(said) if said == "ok" => Ok(()),
            said => Err(StoreError::Unreadable(said.unwrap_or_default())),
        }
    }

    /// The connections, for tests that look below the calls.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// The same store for one change that leaves this record, or for none.
    pub(crate) fn with(&self, record: Option<Entry>) -> Self {
        Self { record: record.map(Arc::new), ..self.clone() }
    }

    /// Begins a transaction that writes.
    pub(crate) async fn write(&self) -> Result<Write> {
        let inner = match &self.queues {
            Queues::One(queue) => Inner::Shared(queue.join().await?),
            Queues::Each(_) => Inner::Own(self.pool.begin().await.map_err(failed)?),
        };
        Ok(Write { inner, record: self.record.clone() })
    }

    /// Begins a transaction that writes to one project's ledger, whose row is taken first of all.
    pub(crate) async fn write_ledger(&self, project: &ProjectId) -> Result<Write> {
        let Queues::Each(queues) = &self.queues else { return self.write().await };
        let queue = {
            let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
            let known = queues.get(project).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let queue = Queue::of_account(self.pool.clone(), project.clone());
                queues.retain(|_, queue| queue.strong_count() > 0);
                queues.insert(project.clone(), Arc::downgrade(&queue));
                queue
            })
        };
        Ok(Write { inner: Inner::Shared(queue.join().await?), record: self.record.clone() })
    }

    /// Begins a transaction that changes the rules. Its first step bumps the generation, and thereby takes the one lock
    /// that puts all such transactions in a row: generations become visible in their order, and what one of them reads
    /// stays true until it commits.
    pub(crate) async fn change(&self) -> Result<Write> {
        let mut write = self.write().await?;
        write.execute(sqlx::query("UPDATE rule_generation SET value = value + 1")).await?;
        Ok(write)
    }

    /// Begins a transaction that holds the rules' lock without changing a rule: what takes many rows at once could
    /// deadlock with a change that takes the same ones in another order.
    pub(crate) async fn hold(&self) -> Result<Write> {
        let mut write = self.write().await?;
        write.execute(sqlx::query("UPDATE rule_generation SET value = value")).await?;
        Ok(write)
    }

    /// Runs one statement as a transaction of its own; returns how many rows it changed.
    pub(crate) async fn execute(&self, query: Query<'_>) -> Result<u64> {
        if let (Queues::Each(_), None) = (&self.queues, &self.record) {
            return Ok(query.execute(&self.pool).await.map_err(failed)?.rows_affected());
        }
        let mut write = self.write().await?;
        let changed = write.execute(query).await?;
        write.commit().await?;
        Ok(changed)
    }

    /// Runs statements, of which none needs what another one does, as a transaction of their own and in one go.
    pub(crate) async fn together(&self, statements: Vec<Query<'_>>) -> Result<()> {
        if let (Joined::Within, None) = (self.joined(), &self.record) {
            return self.execute(together(statements, Joined::Within)?).await.map(|_| ());
        }
        self.write().await?.commit_with(statements).await.map(|_| ())
    }

    /// How several statements go to it at once.
    pub(crate) fn joined(&self) -> Joined {
        match &self.queues {
            Queues::One(_) => Joined::Listed,
            Queues::Each(_) => Joined::Within,
        }
    }

    /// Reads at most one row.
    pub(crate) async fn optional<T>(&self, query: Query<'_>, read: impl Fn(&AnyRow) -> Result<T>) -> Result<Option<T>> {
        query.fetch_optional(&self.pool).await.map_err(failed)?.as_ref().map(read).transpose()
    }

    /// Reads all rows of a [`bounded!`] select.
    pub(crate) async fn all<T>(&self, query: Query<'_>, read: impl Fn(&AnyRow) -> Result<T>) -> Result<Vec<T>> {
        let mut rows = query.fetch(&self.pool);
        let mut all = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            if all.len() == MAX_ROWS {
                return Err(failure(TooMany));
            }
            all.push(read(&row)?);
        }
        Ok(all)
    }
}

/// A transaction that writes; undone where it is dropped before its commit.
pub(crate) struct Write {
    inner: Inner,
    /// Written down with it.
    record: Option<Arc<Entry>>,
}

enum Inner {
    Own(Transaction<'static, Any>),
    Shared(Member),
}

impl Write {
    /// Runs a statement; returns how many rows it changed.
    pub(crate) async fn execute(&mut self, query: Query<'_>) -> Result<u64> {
        Ok(query.execute(self.connection().await?).await.map_err(failed)?.rows_affected())
    }

    /// Runs statements in one go, of which none needs what another one does, and no two change one row.
    pub(crate) async fn together(&mut self, statements: Vec<Query<'_>>) -> Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        let all = together(statements, self.joined())?;
        self.execute(all).await.map(|_| ())
    }

    /// Runs a statement that must find its row.
    pub(crate) async fn must(&mut self, query: Query<'_>) -> Result<()> {
        match self.execute(query).await? {
            0 => Err(StoreError::Missing),
            _ => Ok(()),
        }
    }

    /// Reads at most one row.
    pub(crate) async fn optional<T>(
        &mut self,
        query: Query<'_>,
        read: impl Fn(&AnyRow) -> Result<T>,
    ) -> Result<Option<T>> {
        self.rows(query).await?.first().map(read).transpose()
    }

    /// Reads the rows that a statement returns; the statement is bounded by what it is about.
    pub(crate) async fn all<T>(&mut self, query: Query<'_>, read: impl Fn(&AnyRow) -> Result<T>) -> Result<Vec<T>> {
        self.rows(query).await?.iter().map(read).collect()
    }

    /// The same for a look, which changes nothing and locks nothing.
    pub(crate) async fn look<T>(&mut self, query: Query<'_>, read: impl Fn(&AnyRow) -> Result<T>) -> Result<Vec<T>> {
        self.bare_rows(query, false).await?.iter().map(read).collect()
    }

    /// The rows of a look, or of a last statement that `changes` something: without a savepoint, where that can be spared.
    async fn bare_rows(&mut self, query: Query<'_>, changes: bool) -> Result<Vec<AnyRow>> {
        match &mut self.inner {
            Inner::Shared(member) if member.may_be_bare() => member.bare(query, changes).await,
            _ => self.rows(query).await,
        }
    }

    async fn rows(&mut self, query: Query<'_>) -> Result<Vec<AnyRow>> {
        if self.joined() == Joined::Listed
            && let Inner::Shared(member) = &mut self.inner
            && let Some(mark) = member.mark()?
        {
            // Its savepoint goes along with its first look.
            let both = together(vec![sqlx::query(AssertSqlSafe(mark)), query], Joined::Listed)?;
            return both.fetch_all(member.marked()?).await.map_err(failed);
        }
        query.fetch_all(self.connection().await?).await.map_err(failed)
    }

    /// What writes of the same transaction have made of the account, where it is not written down yet.
    pub(crate) fn account_before(&self) -> Option<Account> {
        match &self.inner {
            Inner::Own(_) => None,
            Inner::Shared(member) => member.account_before(),
        }
    }

    /// Leaves the account, as it is after this write, for the transaction's end to write down. Whether that does.
    pub(crate) fn defer(&mut self, account: Account) -> bool {
        match &mut self.inner {
            Inner::Own(_) => false,
            Inner::Shared(member) => member.defer(account),
        }
    }

    /// Runs statements as [`Write::together`] does, and makes all of it durable. Returns how many rows the last one returns.
    pub(crate) async fn commit_with(mut self, mut statements: Vec<Query<'_>>) -> Result<usize> {
        let record = self.record.take();
        if let Some(record) = &record {
            statements.insert(0, audit::insert(record)?);
        }
        let goes_along = self.joined() == Joined::Listed && !statements.is_empty();
        if goes_along {
            // One way less: the end of its savepoint goes along.
            statements.push(sqlx::query(RELEASE));
        }
        let rows = if statements.is_empty() {
            0
        } else {
            self.bare_rows(together(statements, self.joined())?, true).await?.len()
        };
        match self.inner {
            Inner::Own(tx) => tx.commit().await.map_err(failed)?,
            Inner::Shared(member) if goes_along => member.commit_released().await?,
            Inner::Shared(member) => member.commit().await?,
        }
        Ok(rows)
    }

    /// Makes it durable.
    pub(crate) async fn commit(self) -> Result<()> {
        self.commit_with(Vec::new()).await.map(|_| ())
    }

    /// How several statements go to it at once.
    pub(crate) fn joined(&self) -> Joined {
        match &self.inner {
            Inner::Own(_) => Joined::Within,
            Inner::Shared(member) => member.joined(),
        }
    }

    pub(crate) async fn connection(&mut self) -> Result<&mut AnyConnection> {
        match &mut self.inner {
            Inner::Own(tx) => Ok(tx),
            Inner::Shared(member) => member.connection().await,
        }
    }
}

/// Any error as a failure of the store.
pub(crate) fn failure(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Failed(error.into())
}

/// A database's error: a row that refers to nothing means that what it belongs to is gone.
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.kind() == ErrorKind::ForeignKeyViolation => StoreError::Missing,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Unreadable(error.to_string())
        }
        _ => failure(error),
    }
}

/// Brings the schema up to date, or says why it cannot.
pub(crate) async fn migrate(migrations: &sqlx::migrate::Migrator, connection: &mut AnyConnection) -> Result<()> {
    migrations.run_direct(None, connection, false).await.map_err(|error| {
        match error {
            MigrateError::VersionMissing(version) => OpenError::NewerSchema(version),
            MigrateError::VersionMismatch(version) => OpenError::OtherSchema(version),
            other => OpenError::Migration(other),
        }
        .into()
    })
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        failure(error)
    }
}

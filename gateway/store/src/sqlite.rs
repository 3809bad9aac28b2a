//! What SQLite wants of its own: a private file, the write-ahead log, and migrations that two processes may start at once.

use crate::sql::{DEADLINE, OpenError, failed, migrate};
use portcullis_tenancy::store::Result;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// `FULL` loses nothing that was committed, power cuts included. A log of up to 32 MiB and a cache of 8 MiB a connection: a push
/// changes some thirty pages all over the indexes, and each of them is written to the file once for many pushes.
const SESSION: &str = "PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
    PRAGMA wal_autocheckpoint = 8192; PRAGMA cache_size = -8192;";
/// What savepoints go back to stays in memory.
const WRITER: &str = "PRAGMA temp_store = MEMORY;";
/// How long the switch to the write-ahead log may be in another process's way.
const SWITCH: Duration = Duration::from_secs(5);
/// `SQLITE_BUSY`
const BUSY: &str = "5";

/// The connections that read, and the one that writes. There is one writer at a time in any case, and what a connection has in
/// its cache is good for as long as no other one writes.
pub(crate) async fn open(url: &str, pool: AnyPoolOptions) -> Result<(AnyPool, AnyPool)> {
    let options = AnyConnectOptions::from_str(url).map_err(|error| OpenError::Url(error.to_string()))?;
    let sqlite =
        SqliteConnectOptions::from_url(&options.database_url).map_err(|error| OpenError::Url(error.to_string()))?;
    let path = sqlite.get_filename();
    if options.database_url.query().is_some() || path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(OpenError::Url("it is sqlite:// and the path of a file, without parameters".into()).into());
    }
    make_private(path)?;

    let mut connection = options.connect().await.map_err(failed)?;
    connection.execute(SESSION).await.map_err(failed)?;
    use_write_ahead_log(&mut connection).await?;
    // The migrator takes no lock on SQLite. Inside this transaction a second process waits, and then finds all done.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    migrate(&MIGRATIONS, &mut tx).await?;
    tx.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)?;

    // A file does not go away like a server does.
    let pool = pool.test_before_acquire(false);
    let readers = pool.get_max_connections().saturating_sub(1).max(1);
    // A begin that was given up waits for its lock to the end before another one can be tried.
    let writer = pool.clone().max_connections(1).acquire_timeout(DEADLINE).after_connect(|connection, _| {
        Box::pin(async move {
            connection.execute(SESSION).await?;
            connection.execute(WRITER).await.map(|_| ())
        })
    });
    let pool = pool
        .max_connections(readers)
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SESSION).await.map(|_| ()) }));
    let writer = writer.connect_with(options.clone()).await.map_err(failed)?;
    Ok((pool.connect_with(options).await.map_err(failed)?, writer))
}

/// The file holds hashes and sealed keys: it is its owner's alone. The log beside it inherits the mode.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    let failed = |error| OpenError::File { path: path.display().to_string(), error };
    // An existing file is not opened here: closing it again would drop the locks that this process holds on it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?)
        }
        Err(error) => Err(failed(error).into()),
    }
}

/// The mode is a property of the file and stays. The switch itself does not wait for others, so it is tried again.
async fn use_write_ahead_log(connection: &mut AnyConnection) -> Result<()> {
    let begun = Instant::now();
    loop {
        let switched: sqlx::Result<String> =
            sqlx::query_scalar("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await;
        match switched {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => return Err(OpenError::Journal(mode).into()),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(BUSY) && begun.elapsed() < SWITCH => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// The file that a store's URL names; none for PostgreSQL.
pub fn sqlite_file(url: &str) -> Option<PathBuf> {
    let options = AnyConnectOptions::from_str(url).ok().filter(|_| url.starts_with("sqlite"))?;
    let sqlite = SqliteConnectOptions::from_url(&options.database_url).ok()?;
    Some(sqlite.get_filename().to_owned())
}

/// Whether another process has a store's file open: then its log cannot be closed. What it holds is not changed.
pub async fn is_in_use(path: &Path) -> bool {
    let url = format!("sqlite://{}", path.display());
    let exclusive = async {
        let options = AnyConnectOptions::from_str(&url)?;
        let mut connection = options.connect().await?;
        // Leaving the write-ahead log needs the file for this connection alone.
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode = DELETE").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(mode)
    };
    !matches!(exclusive.await, Ok(mode) if mode == "delete")
}

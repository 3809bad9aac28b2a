//! What PostgreSQL wants of its own: limits for each session, and a database in UTF-8.

use crate::sql::{OpenError, failed, migrate};
use portcullis_tenancy::ProjectId;
use portcullis_tenancy::store::Result;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor};
use std::str::FromStr;
use std::time::Duration;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Limits are the server's, so that what this side gave up does not go on over there. `READ COMMITTED` is what the
/// transactions are written for: each statement sees what was committed before the lock that it waited for was given.
const SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; \
    SET default_transaction_isolation = 'read committed'";

/// How long a connection that was in order counts as such.
const FRESH: Duration = Duration::from_millis(100);

pub(crate) async fn open(url: &str, pool: AnyPoolOptions) -> Result<AnyPool> {
    // Neither the URL nor its parts are shown: it may hold a password.
    let options = AnyConnectOptions::from_str(url)
        .map_err(|_| OpenError::Url("it does not parse as postgres://user@host/database".into()))?;

    let mut connection = options.connect().await.map_err(failed)?;
    let encoding: String = sqlx::query_scalar("SELECT current_setting('server_encoding')")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding(encoding).into());
    }
    // Nodes that start at once queue on the migrator's advisory lock; a session of its own gives it back whatever happens.
    migrate(&MIGRATIONS, &mut connection).await?;
    connection.close().await.map_err(failed)?;

    let pool = pool.test_before_acquire(false).before_acquire(|connection, meta| {
        Box::pin(async move {
            // Whoever gave it back has just tried it: what was cut off since fails one call.
            if meta.idle_for < FRESH {
                return Ok(true);
            }
            let tried = connection.ping().await;
            if let Err(error) = &tried {
                tracing::info!(%error, "a connection to the store went away while nobody used it, and is replaced");
            }
            Ok(tried.is_ok())
        })
    });
    pool.after_connect(|connection, _| Box::pin(async move { connection.execute(SESSION).await.map(|_| ()) }))
        .connect_with(options)
        .await
        .map_err(failed)
}

/// Takes a project's account before all that is done to it; where there is a cap over all projects, that before: all ledgers
/// then stand in one row. A project that is gone has none.
pub(crate) async fn take_account(connection: &mut AnyConnection, project: &ProjectId) -> Result<()> {
    // The cap's row is locked first: the count has nothing to do with the project's row, and is made before that one is fetched.
    // What refers to the row need not wait for it.
    let take = "WITH cap AS MATERIALIZED (SELECT 1 AS taken FROM house WHERE total_bytes IS NOT NULL FOR UPDATE) \
        SELECT 1 AS taken FROM project WHERE (SELECT count(*) FROM cap) >= 0 AND id = $1 FOR NO KEY UPDATE";
    sqlx::query(take).bind(&*project.0).execute(connection).await.map(|_| ()).map_err(failed)
}

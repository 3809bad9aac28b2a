//! What a command works with: the configuration, the open store, the time at which it was given.

use super::output::Failure;
use crate::config::Config;
use crate::master_key;
use portcullis_store::SqlStore;
use portcullis_tenancy::Timestamp;

/// Commands take turns; they need few connections.
const CONNECTIONS: u32 = 2;

/// One command's surroundings.
pub(super) struct Session {
    pub(super) config: Config,
    pub(super) store: SqlStore,
    /// To the millisecond: the store keeps no more.
    pub(super) now: Timestamp,
    /// How wide a table may be; none where no terminal bounds it.
    pub(super) width: Option<usize>,
}

impl Session {
    /// Opens the store, and makes `data_dir` where nothing was started yet.
    pub(super) async fn open(config: Config) -> Result<Self, Failure> {
        master_key::prepare_dir(&config.data_dir).map_err(|error| Failure::Refused(error.to_string()))?;
        let store = portcullis_store::open(&config.store.url, CONNECTIONS).await?;
        let width = terminal_size::terminal_size().map(|(width, _)| width.0.into());
        let now = Timestamp::now();
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        Ok(Self { config, store, now, width })
    }
}

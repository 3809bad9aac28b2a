//! What a command works with: the configuration, the open store, the time at which it was given.

use super::operator;
use super::output::Failure;
use crate::app::random;
use crate::config::Config;
use crate::{master_key, node_id};
use portcullis_store::SqlStore;
use portcullis_tenancy::audit::{AuditKeys, Kind, Note};
use portcullis_tenancy::{Store, Timestamp};
use std::sync::Arc;

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

    /// This node's name in the audit trail.
    pub(super) fn node(&self) -> Result<Box<str>, Failure> {
        node_id::open(&self.config.data_dir).map_err(|error| Failure::Refused(error.to_string()))
    }

    /// What vouches for records of the audit trail.
    pub(super) async fn audit_keys(&self) -> Result<AuditKeys, Failure> {
        let keys = self.store.keys().await?;
        let master = master_key::open(&self.config.data_dir, &keys);
        master.map(|master| AuditKeys::new(&master)).map_err(|error| Failure::Refused(error.to_string()))
    }

    /// The store for one change, which leaves this record in its own transaction.
    pub(super) async fn audited(&self, note: Note) -> Result<Arc<dyn Store>, Failure> {
        let (keys, node) = (self.audit_keys().await?, self.node()?);
        Ok(self.store.audited(keys.seal(note, &node, Timestamp::now(), &random)))
    }

    /// Writes down what is no one change.
    pub(super) async fn tell(&self, note: Note) -> Result<(), Failure> {
        let (keys, node) = (self.audit_keys().await?, self.node()?);
        Ok(self.store.add_records(&[keys.seal(note, &node, Timestamp::now(), &random)]).await?)
    }

    /// A note of what whoever gives the command does.
    pub(super) fn note(kind: Kind) -> Note {
        Note::new(kind, &operator())
    }
}

//! The only SQL: what the rules need to be kept, in SQLite or PostgreSQL, and the cache through which the data path reads it.
//!
//! It never decides anything: it keeps what it is given and says what it holds, or that it cannot.

mod audit;
mod cached;
mod gather;
mod journal;
mod key;
mod ledger;
mod limit;
mod policy;
mod postgres;
mod project;
mod quota;
mod robot;
mod row;
mod session;
mod sql;
mod sqlite;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
#[cfg(test)]
mod tests;
mod together;
mod watch;

pub use cached::CachedStore;
pub use sql::{OpenError, SqlStore, open};
pub use sqlite::{is_in_use, sqlite_file};
pub use watch::{Call, Observer, Watch};

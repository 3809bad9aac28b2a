//! Why a command of the house was refused. Every message says what to do next.

use crate::StoreError;

/// A refused or failed command. All but [`TenancyError::Store`] and [`TenancyError::Internal`] are the caller's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TenancyError {
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It is there already, or something else is in the way.
    #[error("{0}")]
    Conflict(String),
    /// The request itself makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of our own failed, which no other request can mend.
    #[error("{0}")]
    Internal(String),
}

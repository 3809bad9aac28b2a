//! What the registry protocol says: names, digests, scopes, routes, manifests and errors as types. No I/O, no clock, no randomness.

pub mod challenge;
pub mod digest;
pub mod error;
pub mod manifest;
pub mod name;
pub mod reference;
pub mod route;
pub mod scope;
pub mod text;

pub use digest::Digest;
pub use error::{ErrorCode, ProtocolError};
pub use name::RepositoryName;
pub use reference::{Reference, Tag};
pub use route::Operation;
pub use scope::{Action, Actions, Scope};

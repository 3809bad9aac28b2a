//! Tokens: access tokens (RFC 9068's `at+jwt`), refresh tokens, and the key ring that signs and checks them.
//!
//! Checks come in this order: length, structure, `kid`, `alg`, `typ`, `exp`, then the signature, then `iss` and `aud`.
//! A key that a token carries itself is never looked at; the algorithm is the key's, never the token's.

mod claims;
mod ring;

pub use ring::KeyRing;

use crate::{ProjectId, RobotId, StoreError, Timestamp};
use portcullis_oci::Scope;
use std::time::Duration;

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Scopes that take more than this many bytes as JSON are kept as a stored set, and the token carries its id.
pub const MAX_INLINE_SCOPES: usize = 1536;
/// How far clocks may be apart.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// Who a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// Nobody: public projects only.
    Anonymous,
    /// A robot, by the secret it logged in with.
    Robot {
        /// The robot.
        robot: RobotId,
        /// The secret.
        secret: Box<str>,
        /// `acme+ci`, the `sub` claim, for upstreams and logs.
        username: String,
    },
}

/// What an access token carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The scopes themselves, and the id of every project that they name.
    Scopes {
        /// The scopes, exact.
        scopes: Vec<Scope>,
        /// (project name, project id)
        projects: Vec<(Box<str>, ProjectId)>,
    },
    /// The id of a stored [`ScopeSet`].
    Stored(Box<str>),
}

/// An exact set of scopes kept in the store because a token would become too large by it. Its id is the digest of its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSet {
    /// The digest of `scopes` and `projects`.
    pub id: Box<str>,
    /// The scopes.
    pub scopes: Vec<Scope>,
    /// (project name, project id)
    pub projects: Vec<(Box<str>, ProjectId)>,
    /// Until when it is needed.
    pub expires_at: Timestamp,
}

/// An access token's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who it speaks for.
    pub bearer: Bearer,
    /// What it may be used for.
    pub carried: Carried,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Past its end, but within the grace that was asked for. Good for an upload that is under way, for nothing else.
    pub expired: bool,
    /// Its `jti`.
    pub id: Box<str>,
}

/// A refresh token's contents: useless at `/v2/`, alive as long as its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The robot.
    pub robot: RobotId,
    /// The secret.
    pub secret: Box<str>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum TokenError {
    #[error("the token is too long")]
    TooLong,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token's signing key is not known (any more)")]
    UnknownKey,
    #[error("the token's algorithm is not its key's")]
    Algorithm,
    #[error("the token is of another kind")]
    Kind,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token was issued by or for somebody else")]
    Foreign,
}

/// Puts scopes into a token inline, or into a set to be stored where they would make it too large (T7).
pub fn carry(
    scopes: Vec<Scope>,
    projects: Vec<(Box<str>, ProjectId)>,
    expires_at: Timestamp,
) -> (Carried, Option<ScopeSet>) {
    if claims::to_json(&scopes, &projects).len() <= MAX_INLINE_SCOPES {
        return (Carried::Scopes { scopes, projects }, None);
    }
    let set = ScopeSet::new(scopes, projects, expires_at);
    (Carried::Stored(set.id.clone()), Some(set))
}

impl ScopeSet {
    /// A set of these scopes. Their order does not matter: equal sets get equal ids.
    pub fn new(mut scopes: Vec<Scope>, mut projects: Vec<(Box<str>, ProjectId)>, expires_at: Timestamp) -> Self {
        scopes.sort_by_cached_key(Scope::to_string);
        scopes.dedup();
        projects.sort();
        projects.dedup();
        let id = claims::digest_of(&claims::to_json(&scopes, &projects));
        Self { id, scopes, projects, expires_at }
    }

    /// The scopes and projects as the store keeps them: the text whose digest is the set's id.
    pub fn to_json(&self) -> String {
        claims::to_json(&self.scopes, &self.projects)
    }

    /// Reads back what [`ScopeSet::to_json`] wrote. A text that does not have the id is refused: a changed row gives nothing.
    pub fn from_json(id: &str, text: &str, expires_at: Timestamp) -> Result<Self, StoreError> {
        let unreadable = || StoreError::Unreadable("a scope set is not what its id says".into());
        if *claims::digest_of(text) != *id {
            return Err(unreadable());
        }
        let (scopes, projects) = claims::from_json(text).ok_or_else(unreadable)?;
        Ok(Self { id: id.into(), scopes, projects: projects.0, expires_at })
    }
}

#[cfg(test)]
mod tests;

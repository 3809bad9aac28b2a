//! Attached policies: which component, with which settings, to a project or to the platform. What a component says is the
//! policy host's business.

use crate::ledger::Actor;
use crate::store::{Result, Store, StoreError};
use crate::{ProjectId, TenancyError, Timestamp};
use portcullis_oci::Digest;

/// Most bytes of a policy's name.
const MAX_NAME_BYTES: usize = 63;

/// A policy as it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Random identity.
    pub id: Box<str>,
    /// Whose requests it is asked about; none is everybody's, and asked first.
    pub project: Option<ProjectId>,
    /// Its name, unique for the project, or for the platform.
    pub name: PolicyName,
    /// The component's digest.
    pub digest: Digest,
    /// Where the component came from, for people: a reference, or a file's name.
    pub source: Box<str>,
    /// Its settings, JSON.
    pub settings: Box<str>,
    /// Whether its verdicts count.
    pub mode: Mode,
    /// What its failures mean.
    pub on_error: OnError,
    /// Its place in the chain; equal ones go by name.
    pub order: i32,
    /// When it was attached as it is.
    pub attached_at: Timestamp,
    /// By whom.
    pub attached_by: Actor,
}

/// Whether a policy's verdicts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They do.
    Enforce,
    /// They are told and counted, and everything passes.
    Monitor,
}

/// What a policy's failures mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The request is refused.
    Deny,
    /// The request passes.
    Allow,
}

/// A policy's name: lower-case letters, digits and single hyphens between them, at most 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Box<str>);

impl PolicyName {
    /// Parses a name.
    pub fn parse(text: &str) -> std::result::Result<Self, TenancyError> {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.len() <= MAX_NAME_BYTES && text.split('-').all(word) {
            return Ok(Self(text.into()));
        }
        Err(TenancyError::Invalid(format!(
            "a policy's name is lower-case letters and digits with hyphens between them, at most {MAX_NAME_BYTES} bytes, not {text:?}"
        )))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mode {
    /// `enforce` or `monitor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }
}

impl OnError {
    /// `deny` or `allow`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

/// Takes a policy away from a project, or from the platform.
pub async fn detach(
    store: &dyn Store,
    project: Option<&ProjectId>,
    name: &PolicyName,
) -> std::result::Result<(), TenancyError> {
    let removed: Result<()> = store.remove_attachment(project, name).await;
    removed.map_err(|error| match error {
        StoreError::Missing => TenancyError::NotFound(format!(
            "no policy {name} is attached there; `portcullis policy status` lists what is"
        )),
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_hyphens_between_them() {
        for good in ["a", "tag-immutability", "7", "a-7-b", &"a".repeat(63)] {
            assert_eq!(PolicyName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-", "a-", "-a", "a--b", "A", "a_b", "a.b", "a b", "ä", &"a".repeat(64)] {
            assert!(matches!(PolicyName::parse(bad), Err(TenancyError::Invalid(_))), "{bad}");
        }
    }
}

//! Attached policies: which component, with which settings, to a project or to the platform. What a component says is the
//! policy host's business.

use crate::ledger::Actor;
use crate::store::{Result, Store, StoreError};
use crate::{ProjectId, Random, TenancyError, Timestamp, random_id};
use jiff::SignedDuration;
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
    /// Whether an instance serves more than one call.
    pub reuse: Option<Reuse>,
    /// When it was attached as it is.
    pub attached_at: Timestamp,
    /// By whom.
    pub attached_by: Actor,
}

/// For how long one instance serves calls, whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Calls.
    pub calls: u32,
    /// Seconds.
    pub seconds: u32,
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

/// What is to be attached. What is left out stays as it was, or is the default.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: PolicyName,
    /// The component's digest.
    pub digest: Digest,
    /// Where the component came from, for people.
    pub source: Box<str>,
    /// Its settings, JSON; `{}` by default.
    pub settings: Option<Box<str>>,
    /// Whether its verdicts count; they do by default.
    pub mode: Option<Mode>,
    /// What its failures mean; a refusal by default.
    pub on_error: Option<OnError>,
    /// Its place in the chain; 0 by default.
    pub order: Option<i32>,
    /// Whether an instance serves more than one call; none does by default.
    pub reuse: Option<Option<Reuse>>,
}

/// An attachment that is not in force yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What is to be attached.
    pub attachment: Attachment,
    /// When the one was attached whose place it takes; what was left out was taken from that one.
    pub replaces: Option<Timestamp>,
}

/// The attachment that is wanted, completed from the one that it takes the place of. It is not in force yet: whoever made sure
/// that it can be loaded puts it there with [`attach`].
pub async fn draft(
    store: &dyn Store,
    project: Option<&ProjectId>,
    wanted: Wanted,
    by: Actor,
    now: Timestamp,
    random: Random<'_>,
) -> std::result::Result<Draft, TenancyError> {
    let all = store.attachments().await?;
    let before = all.into_iter().find(|old| old.project.as_ref() == project && old.name == wanted.name);
    let before = before.as_ref();
    // By its time one is told from the next, however fast they follow, and whatever the clock does.
    let replaces = before.map(|old| old.attached_at);
    let soonest = replaces.and_then(|time| time.checked_add(SignedDuration::from_millis(1)).ok());
    let attachment = Attachment {
        id: before.map_or_else(|| random_id(random), |old| old.id.clone()),
        project: project.cloned(),
        name: wanted.name,
        digest: wanted.digest,
        source: wanted.source,
        settings: wanted.settings.or(before.map(|old| old.settings.clone())).unwrap_or_else(|| "{}".into()),
        mode: wanted.mode.or(before.map(|old| old.mode)).unwrap_or(Mode::Enforce),
        on_error: wanted.on_error.or(before.map(|old| old.on_error)).unwrap_or(OnError::Deny),
        order: wanted.order.or(before.map(|old| old.order)).unwrap_or(0),
        reuse: wanted.reuse.unwrap_or(before.and_then(|old| old.reuse)),
        attached_at: soonest.map_or(now, |soonest| now.max(soonest)),
        attached_by: by,
    };
    Ok(Draft { attachment, replaces })
}

/// Puts a draft into force. Where somebody was faster, nothing is changed: what was left out was read before that.
pub async fn attach(store: &dyn Store, draft: &Draft, component: &[u8]) -> std::result::Result<(), TenancyError> {
    let attachment = &draft.attachment;
    let put: Result<()> = store.put_attachment(attachment, draft.replaces, component).await;
    put.map_err(|error| match error {
        StoreError::Changed => TenancyError::Conflict(format!(
            "the policy {} was changed meanwhile, and nothing is attached; repeat the command",
            attachment.name
        )),
        error => error.into(),
    })
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

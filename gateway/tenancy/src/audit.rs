//! The audit trail: what a record is, how records are chained, how a chain is verified. No SQL, no clock; the key is passed in.

mod advance;
mod chain;
mod checkpoint;
mod line;
#[cfg(test)]
mod tests;
mod verify;

pub use advance::{AdvanceError, Step, advance, forget};
pub use chain::{AuditKeys, Head, Link, Witness};
pub use checkpoint::{Checkpoint, NoCheckpoint};
pub use line::{Line, NoLine};
pub use verify::{Fault, Verified, Verifier, Wrong, verify};

use crate::{Random, Timestamp, random_id};
use portcullis_oci::text::is_harmful;
use std::net::IpAddr;

/// Longest text of a record, in characters.
const MAX_TEXT: usize = 300;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What a record is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it is written down: `robot-create`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Wrong credentials.
    LoginFailure = "login-failure",
    /// Valid credentials that are good for something else.
    AccessDenial = "access-denial",
    /// A policy said no.
    PolicyDenial = "policy-denial",
    /// There was no room.
    QuotaDenial = "quota-denial",
    /// Too much, or too often.
    LimitDenial = "limit-denial",
    /// A project has passed its soft limit.
    SoftLimit = "soft-limit",
    /// A manifest came.
    Push = "push",
    /// A blob came.
    BlobPush = "blob-push",
    /// A manifest went.
    Delete = "delete",
    /// A tag went.
    TagDelete = "tag-delete",
    /// A blob went.
    BlobDelete = "blob-delete",
    /// A project was made.
    ProjectCreate = "project-create",
    /// A project was deleted.
    ProjectDelete = "project-delete",
    /// A deleted project's name is free again.
    ProjectPurge = "project-purge",
    /// A robot was made.
    RobotCreate = "robot-create",
    /// A robot has a new secret.
    RobotRotate = "robot-rotate",
    /// A robot was stopped.
    RobotDisable = "robot-disable",
    /// A robot goes on.
    RobotEnable = "robot-enable",
    /// A robot was deleted.
    RobotDelete = "robot-delete",
    /// A project agreed to a foreign robot's grant.
    GrantAccept = "grant-accept",
    /// A project refused it, or took its consent back.
    GrantRefuse = "grant-refuse",
    /// There is a new signing key.
    KeyRotate = "key-rotate",
    /// A project may hold so much.
    QuotaSet = "quota-set",
    /// All projects together may hold so much.
    QuotaTotal = "quota-total",
    /// A quota was asked for.
    QuotaRequest = "quota-request",
    /// It was granted.
    QuotaApprove = "quota-approve",
    /// It was not.
    QuotaDecline = "quota-decline",
    /// Limits were set, or given back to the configuration.
    LimitSet = "limit-set",
    /// A policy was attached.
    PolicyAttach = "policy-attach",
    /// A policy was detached.
    PolicyDetach = "policy-detach",
    /// Nothing is written upstream any more.
    MaintenanceOn = "maintenance-on",
    /// It is again.
    MaintenanceOff = "maintenance-off",
    /// What the upstream held before was put on record.
    Import = "import",
    /// The record was made to say what the upstream has.
    Repair = "repair",
    /// A copy took the store's place.
    Restore = "restore",
}

impl Kind {
    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// `refused`, or `done`.
    const fn outcome(self) -> &'static str {
        match self {
            Self::LoginFailure | Self::AccessDenial | Self::PolicyDenial | Self::QuotaDenial | Self::LimitDenial => {
                "refused"
            }
            _ => "done",
        }
    }
}

/// What is to be written down: who did what. Where and when are added when it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: Kind,
    /// Who: a robot's user name, `operator …`, or `anonymous`; whom a failed login said that it was.
    pub actor: Box<str>,
    /// From where.
    pub address: Option<IpAddr>,
    /// The project.
    pub project: Option<Box<str>>,
    /// The repository.
    pub repository: Option<Box<str>>,
    /// Tags, a robot, a policy, a size: what was done something to.
    pub reference: Option<Box<str>>,
    /// The digest.
    pub digest: Option<Box<str>>,
    /// Why, or which rule.
    pub reason: Option<Box<str>>,
    /// The request's id.
    pub request_id: Option<Box<str>>,
    /// For how many it stands.
    pub times: u64,
}

impl Note {
    /// Somebody did something.
    pub fn new(kind: Kind, actor: &str) -> Self {
        Self {
            kind,
            actor: clean(actor),
            address: None,
            project: None,
            repository: None,
            reference: None,
            digest: None,
            reason: None,
            request_id: None,
            times: 1,
        }
    }

    /// From where.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.address = Some(address.to_canonical());
        self
    }

    /// In which project.
    #[must_use]
    pub fn project(mut self, name: &str) -> Self {
        self.project = Some(clean(name));
        self
    }

    /// In which repository.
    #[must_use]
    pub fn repository(mut self, name: &str) -> Self {
        self.repository = Some(clean(name));
        self
    }

    /// To what.
    #[must_use]
    pub fn reference(mut self, text: &str) -> Self {
        self.reference = Some(clean(text));
        self
    }

    /// To what content.
    #[must_use]
    pub fn digest(mut self, digest: &str) -> Self {
        self.digest = Some(clean(digest));
        self
    }

    /// Why.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(clean(reason));
        self
    }

    /// In which request.
    #[must_use]
    pub fn request(mut self, id: &str) -> Self {
        self.request_id = Some(clean(id));
        self
    }
}

/// What happened, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Random identity.
    pub id: Box<str>,
    /// The node that wrote it down.
    pub node: Box<str>,
    /// When, to the millisecond.
    pub at: Timestamp,
    /// [`Kind::name`]; a newer version may have written another.
    pub kind: Box<str>,
    /// See [`Note::actor`].
    pub actor: Box<str>,
    /// See [`Note::address`].
    pub address: Option<Box<str>>,
    /// See [`Note::project`].
    pub project: Option<Box<str>>,
    /// See [`Note::repository`].
    pub repository: Option<Box<str>>,
    /// See [`Note::reference`].
    pub reference: Option<Box<str>>,
    /// See [`Note::digest`].
    pub digest: Option<Box<str>>,
    /// `done` or `refused`.
    pub outcome: Box<str>,
    /// See [`Note::reason`].
    pub reason: Option<Box<str>>,
    /// See [`Note::request_id`].
    pub request_id: Option<Box<str>>,
    /// See [`Note::times`].
    pub times: u64,
}

impl Record {
    fn new(note: Note, node: &str, at: Timestamp, random: Random<'_>) -> Self {
        Self {
            id: random_id(random),
            node: node.into(),
            at: Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at),
            kind: note.kind.name().into(),
            actor: note.actor,
            address: note.address.map(|address| address.to_string().into()),
            project: note.project,
            repository: note.repository,
            reference: note.reference,
            digest: note.digest,
            outcome: note.kind.outcome().into(),
            reason: note.reason,
            request_id: note.request_id,
            times: note.times,
        }
    }

    /// Bytes that say the same for equal records alone: every field with its length, in a fixed order.
    fn canonical(&self) -> Vec<u8> {
        const NONE: [u8; 4] = u32::MAX.to_be_bytes();
        let fields: [Option<&str>; 12] = [
            Some(&self.id),
            Some(&self.node),
            Some(&self.kind),
            Some(&self.actor),
            self.address.as_deref(),
            self.project.as_deref(),
            self.repository.as_deref(),
            self.reference.as_deref(),
            self.digest.as_deref(),
            Some(&self.outcome),
            self.reason.as_deref(),
            self.request_id.as_deref(),
        ];
        let mut bytes = b"portcullis audit record 1".to_vec();
        bytes.extend(self.at.as_millisecond().to_be_bytes());
        bytes.extend(self.times.to_be_bytes());
        for field in fields {
            match field {
                None => bytes.extend(NONE),
                Some(text) => {
                    bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX - 1).to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
        }
        bytes
    }
}

/// A record in its place, or waiting for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in its node's chain, from 1 on; none while it waits.
    pub sequence: Option<u64>,
    /// What happened.
    pub record: Record,
    /// Made with the deployment's key: while it waits over the record alone, then over all of the chain up to it. Base64url.
    pub mac: Box<str>,
}

/// What is looked for. Every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The project.
    pub project: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// [`Kind::name`]
    pub kind: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// At most so many, the newest first.
    pub limit: u32,
}

/// Untrusted text as it may stand in a record: bounded, without control or bidirectional characters.
pub fn clean(text: &str) -> Box<str> {
    let mut letters = text.chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c });
    let mut cleaned: String = letters.by_ref().take(MAX_TEXT).collect();
    if letters.next().is_some() {
        cleaned.push('…');
    }
    cleaned.into()
}

//! What a policy is asked and what it answers, as plain types with the contract's own names; they never hold a credential.
//!
//! The same types cross into a guest (through the component model) and into a file (through serde, in kebab-case), so that a
//! question can be recorded, replayed and kept as a test case. What a field means stands in `policies-wasm/wit/policy.wit`.

// The names are the contract's, and the contract documents them.
#![allow(missing_docs)]

mod facts;
mod oci;
mod pairs;
mod size;

pub use facts::{Fact, FactSet, Facts, ImageConfig, Usage};

use pairs::Pairs;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use wasmtime::component::{ComponentType, Lift, Lower};

/// Everything that one call of a policy depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Question {
    /// Who asks, when and from where.
    #[serde(default)]
    pub context: Context,
    /// The hook and its records.
    pub ask: Ask,
    /// What was looked up because an attached policy wants it.
    #[serde(default)]
    pub facts: Arc<Facts>,
    /// The manifest as it was sent, for `manifest-read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_manifest: Option<Arc<str>>,
}

impl Question {
    /// The hook at which it is asked.
    pub fn hook(&self) -> Hook {
        match &self.ask {
            Ask::Token(_) => Hook::Token,
            Ask::Request(_) => Hook::Request,
            Ask::ManifestPush { .. } => Hook::ManifestPush,
            Ask::Pull { .. } => Hook::Pull,
            Ask::Response { .. } => Hook::Response,
        }
    }
}

/// A hook with the records that it is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    Token(TokenRequest),
    Request(Request),
    ManifestPush {
        #[serde(default)]
        target: Target,
        manifest: Manifest,
    },
    Pull {
        #[serde(default)]
        target: Target,
        #[serde(default)]
        manifest: Option<Manifest>,
    },
    Response {
        request: Request,
        outcome: Outcome,
    },
}

/// Where a policy can be asked.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case")]
#[component(enum)]
#[repr(u8)]
pub enum Hook {
    #[component(name = "token")]
    Token,
    #[component(name = "request")]
    Request,
    #[component(name = "manifest-push")]
    ManifestPush,
    #[component(name = "pull")]
    Pull,
    #[component(name = "response")]
    Response,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 5] = [Self::Token, Self::Request, Self::ManifestPush, Self::Pull, Self::Response];

    /// Its name in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Request => "request",
            Self::ManifestPush => "manifest-push",
            Self::Pull => "pull",
            Self::Response => "response",
        }
    }
}

/// A set of hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookSet(u8);

impl HookSet {
    /// This set with one hook more.
    #[must_use]
    pub const fn with(self, hook: Hook) -> Self {
        Self(self.0 | (1 << hook as u8))
    }

    /// What either set holds.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the hook is in here.
    pub const fn contains(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u8) != 0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[component(record)]
pub struct Scope {
    #[component(name = "kind")]
    pub kind: String,
    #[component(name = "name")]
    pub name: String,
    #[component(name = "actions")]
    pub actions: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(enum)]
#[repr(u8)]
pub enum SubjectKind {
    #[default]
    #[component(name = "anonymous")]
    Anonymous,
    #[component(name = "robot")]
    Robot,
    #[component(name = "federated")]
    Federated,
    #[component(name = "user")]
    User,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Subject {
    #[component(name = "kind")]
    pub kind: SubjectKind,
    #[component(name = "id")]
    pub id: String,
    #[component(name = "project")]
    pub project: Option<String>,
    #[component(name = "issuer")]
    pub issuer: Option<String>,
    #[component(name = "claims-json")]
    pub claims_json: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Context {
    #[component(name = "request-id")]
    pub request_id: String,
    #[component(name = "project")]
    pub project: String,
    #[component(name = "now-ms")]
    pub now_ms: u64,
    #[component(name = "client-ip")]
    pub client_ip: String,
    #[component(name = "user-agent")]
    pub user_agent: String,
    #[component(name = "subject")]
    pub subject: Subject,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(enum)]
#[repr(u8)]
pub enum GrantType {
    #[default]
    #[component(name = "basic")]
    Basic,
    #[component(name = "password")]
    Password,
    #[component(name = "refresh")]
    Refresh,
    #[component(name = "federated")]
    Federated,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct TokenRequest {
    #[component(name = "service")]
    pub service: String,
    #[component(name = "grant-type")]
    pub grant_type: GrantType,
    #[component(name = "offline")]
    pub offline: bool,
    #[component(name = "requested")]
    pub requested: Vec<Scope>,
    #[component(name = "granted")]
    pub granted: Vec<Scope>,
    #[component(name = "default-ttl-s")]
    pub default_ttl_s: u32,
    #[component(name = "max-ttl-s")]
    pub max_ttl_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(enum)]
#[repr(u8)]
pub enum Operation {
    #[component(name = "ping")]
    Ping,
    #[component(name = "catalog")]
    Catalog,
    #[component(name = "tags-list")]
    TagsList,
    #[component(name = "referrers")]
    Referrers,
    #[component(name = "manifest-pull")]
    ManifestPull,
    #[component(name = "manifest-head")]
    ManifestHead,
    #[component(name = "blob-pull")]
    BlobPull,
    #[component(name = "blob-head")]
    BlobHead,
    #[component(name = "upload-start")]
    UploadStart,
    #[component(name = "upload-chunk")]
    UploadChunk,
    #[component(name = "upload-finish")]
    UploadFinish,
    #[component(name = "mount")]
    Mount,
    #[component(name = "manifest-push")]
    ManifestPush,
    #[component(name = "manifest-delete")]
    ManifestDelete,
    #[component(name = "tag-delete")]
    TagDelete,
    #[component(name = "blob-delete")]
    BlobDelete,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Target {
    #[component(name = "repository")]
    pub repository: String,
    #[component(name = "tags")]
    pub tags: Vec<String>,
    #[component(name = "digest")]
    pub digest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[component(record)]
pub struct Request {
    #[component(name = "operation")]
    pub operation: Operation,
    #[component(name = "method")]
    #[serde(default)]
    pub method: String,
    #[component(name = "target")]
    #[serde(default)]
    pub target: Option<Target>,
    #[component(name = "headers")]
    #[serde(default, deserialize_with = "pairs::read")]
    pub headers: Pairs,
    #[component(name = "length")]
    #[serde(default)]
    pub length: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Platform {
    #[component(name = "os")]
    pub os: String,
    #[component(name = "architecture")]
    pub architecture: String,
    #[component(name = "cpu-variant")]
    pub cpu_variant: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Descriptor {
    #[component(name = "media-type")]
    pub media_type: String,
    #[component(name = "digest")]
    pub digest: String,
    #[component(name = "size")]
    pub size: u64,
    #[component(name = "stored-size")]
    pub stored_size: Option<u64>,
    #[component(name = "artifact-type")]
    pub artifact_type: Option<String>,
    #[component(name = "platform")]
    pub platform: Option<Platform>,
    #[component(name = "urls")]
    pub urls: Vec<String>,
    #[component(name = "annotations")]
    #[serde(deserialize_with = "pairs::read")]
    pub annotations: Pairs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Manifest {
    #[component(name = "media-type")]
    pub media_type: String,
    #[component(name = "artifact-type")]
    pub artifact_type: Option<String>,
    #[component(name = "digest")]
    pub digest: String,
    #[component(name = "size")]
    pub size: u64,
    #[component(name = "config")]
    pub config: Option<Descriptor>,
    #[component(name = "layers")]
    pub layers: Vec<Descriptor>,
    #[component(name = "children")]
    pub children: Vec<Descriptor>,
    #[component(name = "subject")]
    pub subject: Option<Descriptor>,
    #[component(name = "annotations")]
    #[serde(deserialize_with = "pairs::read")]
    pub annotations: Pairs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Outcome {
    #[component(name = "status")]
    pub status: u16,
    #[component(name = "bytes-out")]
    pub bytes_out: u64,
    #[component(name = "duration-us")]
    pub duration_us: u64,
}

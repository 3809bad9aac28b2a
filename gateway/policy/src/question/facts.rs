//! Facts: what the gateway looked up before the call, because an attached policy wants it.

use super::pairs::{self, Pairs};
use super::{Descriptor, Platform};
use crate::error::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wasmtime::component::{ComponentType, Lift, Lower};

/// A kind of fact that `describe` may want.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case")]
#[component(enum)]
#[repr(u8)]
pub enum Fact {
    #[component(name = "tag-digest")]
    TagDigest,
    #[component(name = "tags-of-digest")]
    TagsOfDigest,
    #[component(name = "image-config")]
    ImageConfig,
    #[component(name = "stored-sizes")]
    StoredSizes,
    #[component(name = "usage")]
    Usage,
    #[component(name = "pushed-at")]
    PushedAt,
    #[component(name = "referrers")]
    Referrers,
    #[component(name = "verified-signers")]
    VerifiedSigners,
}

impl Fact {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::TagDigest,
        Self::TagsOfDigest,
        Self::ImageConfig,
        Self::StoredSizes,
        Self::Usage,
        Self::PushedAt,
        Self::Referrers,
        Self::VerifiedSigners,
    ];

    /// Its name in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TagDigest => "tag-digest",
            Self::TagsOfDigest => "tags-of-digest",
            Self::ImageConfig => "image-config",
            Self::StoredSizes => "stored-sizes",
            Self::Usage => "usage",
            Self::PushedAt => "pushed-at",
            Self::Referrers => "referrers",
            Self::VerifiedSigners => "verified-signers",
        }
    }
}

/// A set of facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactSet(u8);

impl FactSet {
    /// This set with one fact more.
    #[must_use]
    pub const fn with(self, fact: Fact) -> Self {
        Self(self.0 | (1 << fact as u8))
    }

    /// What either set holds.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the fact is in here.
    pub const fn contains(self, fact: Fact) -> bool {
        self.0 & (1 << fact as u8) != 0
    }

    /// Whether nothing is wanted.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What was looked up. A field is `None` where nobody wanted it, or where it does not exist here.
///
/// `stored-sizes` has no field: it is filled into each descriptor's `stored-size`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Facts {
    /// The digest that each of the question's tags points to now; a tag that does not exist is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_digest: Option<BTreeMap<String, String>>,
    /// The tags that point to each of the question's digests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags_of_digest: Option<BTreeMap<String, Vec<String>>>,
    /// The image's config, where the manifest has one that is an image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_config: Option<ImageConfig>,
    /// The project's usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// When each of the question's digests was pushed, in ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<BTreeMap<String, u64>>,
    /// What refers to the question's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Vec<Descriptor>>,
    /// The signers of the question's digest whose signatures were verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_signers: Option<Vec<String>>,
    /// What could not be looked up, and why: whoever wants it fails without being run. No part of a recorded question.
    #[serde(skip)]
    pub failed: Vec<(Fact, Failure)>,
}

impl Facts {
    /// Why somebody who wants these facts cannot be asked.
    pub(crate) fn failure_of(&self, wanted: FactSet) -> Option<&Failure> {
        self.failed.iter().find(|(fact, _)| wanted.contains(*fact)).map(|(_, failure)| failure)
    }
}

/// What an image's config says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
#[allow(missing_docs)] // the names are the contract's
pub struct ImageConfig {
    #[component(name = "platform")]
    pub platform: Platform,
    #[component(name = "created-ms")]
    pub created_ms: Option<u64>,
    #[component(name = "user")]
    pub user: Option<String>,
    #[component(name = "labels")]
    #[serde(deserialize_with = "pairs::read")]
    pub labels: Pairs,
}

/// A project's storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
#[allow(missing_docs)] // the names are the contract's
pub struct Usage {
    #[component(name = "used-bytes")]
    pub used_bytes: u64,
    #[component(name = "quota-bytes")]
    pub quota_bytes: Option<u64>,
}

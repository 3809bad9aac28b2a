//! What a policy answers, as the contract's own records. Nothing of it is believed before `evaluate` has checked it.

// The names are the contract's, and the contract documents them.
#![allow(missing_docs)]

use crate::question::{Fact, Hook, Scope};
use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Denial {
    #[component(name = "message")]
    pub message: String,
    #[component(name = "code")]
    pub code: Option<String>,
    #[component(name = "detail-json")]
    pub detail_json: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Effects {
    #[component(name = "warnings")]
    pub warnings: Vec<String>,
    #[component(name = "audit")]
    pub audit: Vec<(String, String)>,
    #[component(name = "cache-ttl-s")]
    pub cache_ttl_s: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(variant)]
pub enum Decision {
    #[component(name = "abstain")]
    Abstain,
    #[component(name = "allow")]
    Allow(Effects),
    #[component(name = "deny")]
    Deny(Denial),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[component(record)]
pub struct Narrowing {
    #[component(name = "scopes")]
    pub scopes: Vec<Scope>,
    #[component(name = "ttl-s")]
    pub ttl_s: u32,
    #[component(name = "effects")]
    pub effects: Effects,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(variant)]
pub enum TokenDecision {
    #[component(name = "abstain")]
    Abstain,
    #[component(name = "narrow")]
    Narrow(Narrowing),
    #[component(name = "deny")]
    Deny(Denial),
}

/// What a policy says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(record)]
pub struct Info {
    #[component(name = "name")]
    pub name: String,
    #[component(name = "version")]
    pub version: String,
    #[component(name = "hooks")]
    pub hooks: Vec<Hook>,
    #[component(name = "wants")]
    pub wants: Vec<Fact>,
    #[component(name = "metrics")]
    pub metrics: Vec<String>,
    #[component(name = "settings-schema")]
    pub settings_schema: String,
}

/// What one call of one policy answered, as yet unchecked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing to say, or a hook that only observes.
    Abstain,
    /// Let it pass, with effects.
    Allow(Effects),
    /// A token with fewer scopes or a shorter life.
    Narrow(Narrowing),
    /// Refuse.
    Deny(Denial),
}

impl From<Decision> for Reply {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Abstain => Self::Abstain,
            Decision::Allow(effects) => Self::Allow(effects),
            Decision::Deny(denial) => Self::Deny(denial),
        }
    }
}

impl From<TokenDecision> for Reply {
    fn from(decision: TokenDecision) -> Self {
        match decision {
            TokenDecision::Abstain => Self::Abstain,
            TokenDecision::Narrow(narrowing) => Self::Narrow(narrowing),
            TokenDecision::Deny(denial) => Self::Deny(denial),
        }
    }
}

//! What a policy's author writes against. It never decides anything itself.
//!
//! A policy is one type: its settings, the hooks that it answers, and a call of [`policy!`].
//!
//! ```
//! use portcullis_policy_sdk::prelude::*;
//!
//! /// What an administrator may set.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields, rename_all = "kebab-case")]
//! struct Settings {
//!     /// Most layers of an image.
//!     max_layers: usize,
//! }
//!
//! struct FewLayers(Settings);
//!
//! impl Policy for FewLayers {
//!     type Settings = Settings;
//!     const NAME: &'static str = "few-layers";
//!     const VERSION: &'static str = "0.1.0";
//!     const HOOKS: &'static [Hook] = &[Hook::ManifestPush];
//!
//!     fn configure(settings: Settings) -> Result<Self, Problems> {
//!         Ok(FewLayers(settings))
//!     }
//!
//!     fn on_manifest_push(&self, _: &Context, _: &Target, manifest: &Manifest) -> Decision {
//!         let (found, limit) = (manifest.layers.len(), self.0.max_layers);
//!         if found > limit {
//!             return deny(format!("image has {found} layers, limit {limit}"));
//!         }
//!         Decision::Abstain
//!     }
//! }
//!
//! policy!(FewLayers);
//! # fn main() {}
//! ```
//!
//! Natively, as in unit tests, the host's answers come from [`testing`]; built for `wasm32-unknown-unknown` they come
//! from the gateway.

mod component;
mod decisions;
pub mod facts;
mod glob;
pub mod host;
pub mod json;
#[cfg(any(target_family = "wasm", test))]
mod memory;
mod names;
mod policy;
mod questions;
mod settings;
mod size;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[doc(hidden)]
#[allow(missing_docs, clippy::all, reason = "generated; the contract's own file documents it")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "policy",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_policy",
        default_bindings_module: "portcullis_policy_sdk::bindings",
        additional_derives: [PartialEq],
    });
}

pub use bindings::portcullis::policy::types::{
    Context, Decision, Denial, Descriptor, Effects, Fact, GrantType, Hook, ImageConfig, Manifest, Narrowing, Operation,
    Outcome, Platform, Request, Scope, Subject, SubjectKind, Target, TokenDecision, TokenRequest, Usage,
};
#[doc(hidden)]
pub use component::Component;
pub use decisions::{allow, deny, deny_token, narrow, warn};
pub use glob::{Glob, Globs};
pub use policy::Policy;
pub use questions::is_referrers_tag;
pub use settings::{Problem, Problems, parse, schema};
pub use size::Bytes;

/// Everything that a policy usually needs.
pub mod prelude {
    pub use crate::{
        Bytes, Context, Decision, Descriptor, Fact, Glob, Globs, Hook, ImageConfig, Manifest, Operation, Outcome,
        Platform, Policy, Problems, Request, Scope, Subject, SubjectKind, Target, TokenDecision, TokenRequest, Usage,
        allow, deny, deny_token, facts, host, is_referrers_tag, narrow, policy, warn,
    };
    pub use schemars::JsonSchema;
    pub use serde::Deserialize;
}

/// Makes the crate a component that answers as the given policy. A crate holds one policy.
#[macro_export]
macro_rules! policy {
    ($policy:ty) => {
        #[doc(hidden)]
        #[cfg(target_family = "wasm")]
        mod portcullis_component {
            use super::*;
            type ThisPolicy = $crate::Component<$policy>;
            $crate::bindings::export_policy!(ThisPolicy with_types_in $crate::bindings);
        }

        // Natively nothing is exported; but what would be is not dead.
        #[cfg(not(target_family = "wasm"))]
        const _: fn(<$policy as $crate::Policy>::Settings) -> Result<$policy, $crate::Problems> =
            <$policy as $crate::Policy>::configure;
    };
}

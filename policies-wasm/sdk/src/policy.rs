//! What a policy is to its author: one type with hooks, all of which abstain until they are written.

use crate::{Context, Decision, Fact, Hook, Manifest, Outcome, Problems, Request, Target, TokenDecision, TokenRequest};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// A policy. Only the hooks that [`Policy::HOOKS`] names are ever called.
pub trait Policy: Sized + 'static {
    /// What can be set. Its JSON Schema is shown to administrators, and settings are checked against it.
    type Settings: DeserializeOwned + JsonSchema;

    /// Its name, as it appears in refusals: lower-case letters, digits and hyphens.
    const NAME: &'static str;
    /// Its version, as it appears in the audit record. `env!("CARGO_PKG_VERSION")` is a good one.
    const VERSION: &'static str;
    /// The hooks that it answers.
    const HOOKS: &'static [Hook];
    /// What the gateway has to look up before it asks. A fact that is not named here has no answer.
    const WANTS: &'static [Fact] = &[];
    /// The names that it counts under, at most 16.
    const METRICS: &'static [&'static str] = &[];

    /// Makes the policy of settings that have the right form, or says what is wrong with them.
    ///
    /// # Errors
    /// What no form can say: a pattern that is none, a window that ends before it begins.
    fn configure(settings: Self::Settings) -> Result<Self, Problems>;

    /// A client asks for a token.
    fn on_token(&self, _context: &Context, _request: &TokenRequest) -> TokenDecision {
        TokenDecision::Abstain
    }

    /// Any request at all, before its body is read.
    fn on_request(&self, _context: &Context, _request: &Request) -> Decision {
        Decision::Abstain
    }

    /// A manifest is pushed; it was parsed, and goes upstream where nobody objects.
    fn on_manifest_push(&self, _context: &Context, _target: &Target, _manifest: &Manifest) -> Decision {
        Decision::Abstain
    }

    /// A manifest is pulled; it is given where the gateway has it at hand.
    fn on_pull(&self, _context: &Context, _target: &Target, _manifest: Option<&Manifest>) -> Decision {
        Decision::Abstain
    }

    /// An answer went out. Nothing can be changed any more.
    fn on_response(&self, _context: &Context, _request: &Request, _outcome: &Outcome) {}
}

//! From the contract's functions to a [`Policy`]'s. It keeps the configured policy and never judges.

use crate::bindings::exports::portcullis::policy::guest::{Guest, Info};
use crate::{
    Context, Decision, Manifest, Outcome, Policy, Request, Target, TokenDecision, TokenRequest, deny, deny_token,
    parse, schema,
};
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

thread_local! {
    /// A component holds one policy, and has one thread.
    static CONFIGURED: RefCell<Option<Rc<dyn Any>>> = const { RefCell::new(None) };
}

/// The contract's exports, answered by `P`.
pub struct Component<P>(PhantomData<P>);

impl<P: Policy> Component<P> {
    fn policy() -> Option<Rc<P>> {
        CONFIGURED.with(|configured| configured.borrow().clone())?.downcast().ok()
    }

    fn unconfigured() -> String {
        format!("{} was asked before it was configured", P::NAME)
    }

    fn make(settings: &str) -> Result<P, Vec<String>> {
        parse::<P::Settings>(settings).and_then(P::configure).map_err(|problems| problems.lines())
    }
}

impl<P: Policy> Guest for Component<P> {
    fn describe() -> Info {
        Info {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            hooks: P::HOOKS.to_vec(),
            wants: P::WANTS.to_vec(),
            metrics: P::METRICS.iter().map(|&metric| metric.to_owned()).collect(),
            settings_schema: schema::<P::Settings>(),
        }
    }

    fn validate_settings(settings: String) -> Result<(), Vec<String>> {
        Self::make(&settings).map(drop)
    }

    fn configure(settings: String) -> Result<(), String> {
        let policy = Self::make(&settings).map_err(|problems| problems.join("; "))?;
        CONFIGURED.with(|configured| *configured.borrow_mut() = Some(Rc::new(policy)));
        #[cfg(target_family = "wasm")]
        crate::memory::keep();
        Ok(())
    }

    fn on_token(context: Context, request: TokenRequest) -> TokenDecision {
        Self::policy().map_or_else(|| deny_token(Self::unconfigured()), |policy| policy.on_token(&context, &request))
    }

    fn on_request(context: Context, request: Request) -> Decision {
        Self::policy().map_or_else(|| deny(Self::unconfigured()), |policy| policy.on_request(&context, &request))
    }

    fn on_manifest_push(context: Context, target: Target, manifest: Manifest) -> Decision {
        Self::policy()
            .map_or_else(|| deny(Self::unconfigured()), |policy| policy.on_manifest_push(&context, &target, &manifest))
    }

    fn on_pull(context: Context, target: Target, manifest: Option<Manifest>) -> Decision {
        Self::policy()
            .map_or_else(|| deny(Self::unconfigured()), |policy| policy.on_pull(&context, &target, manifest.as_ref()))
    }

    fn on_response(context: Context, request: Request, outcome: Outcome) {
        if let Some(policy) = Self::policy() {
            policy.on_response(&context, &request, &outcome);
        }
    }
}

//! The contract with guests: bindings to `policies-wasm/wit`, what the host gives, and which component is a policy.

mod host;

pub use host::{Level, LogLine};

use crate::error::LoadError;
use crate::limits::Meter;
use crate::question::{FactSet, Facts};
use std::sync::Arc;
use wasmtime::component::{Component, ComponentExportIndex, HasSelf, InstancePre, Linker};

/// Bindings made from the contract's text. The records are this crate's own plain types.
mod bindings {
    // The contract documents its items; this is what the macro makes of them.
    #![allow(missing_docs, clippy::all, clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

    /// What the contract's interface `types` defines, and what the macro expects beside it.
    pub mod types {
        pub use crate::question::{
            Context, Descriptor, ImageConfig, Manifest, Outcome, Request, Target, TokenRequest, Usage,
        };
        pub use crate::verdict::{Decision, Info, TokenDecision};

        /// The interface has no functions.
        pub trait Host {}
        impl<T: ?Sized> Host for T {}
        /// The interface has no functions.
        pub trait HostWithStore<T> {}
        impl<T, D: ?Sized> HostWithStore<T> for D {}

        pub fn add_to_linker<T: 'static, D: wasmtime::component::HasData>(
            linker: &mut wasmtime::component::Linker<T>,
            _guest: fn(&mut T) -> D::Data<'_>,
        ) -> wasmtime::Result<()> {
            linker.instance("portcullis:policy/types@0.1.0").map(|_| ())
        }
    }

    wasmtime::component::bindgen!({
        path: "../../policies-wasm/wit",
        world: "policy",
        with: { "portcullis:policy/types": types },
        imports: { default: trappable },
    });
}

/// What the host keeps for one instance.
pub(crate) struct Guest {
    /// Its limits and what it used.
    pub(crate) meter: Meter,
    /// The facts that it may ask for.
    pub(crate) wants: FactSet,
    /// The facts of the question under way.
    pub(crate) facts: Arc<Facts>,
    /// The manifest of the question under way, as it was sent.
    pub(crate) raw_manifest: Option<Arc<str>>,
    /// The metrics that it declared.
    pub(crate) metrics: Arc<[String]>,
    /// What it said in the call under way.
    pub(crate) said: Said,
    /// Most log lines kept of a call.
    pub(crate) log_lines: usize,
    /// Most bytes kept of a log line.
    pub(crate) log_line_bytes: usize,
}

/// What a guest told the host during one call.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) log: Vec<LogLine>,
    /// Log lines beyond the limit.
    pub(crate) dropped: u32,
    /// By how much each declared metric grew; empty where nothing was counted.
    pub(crate) counts: Vec<u64>,
}

/// All of an instance's functions, their types checked.
pub(crate) use bindings::Policy as Bound;

/// Where a component's functions are.
#[derive(Clone)]
pub(crate) struct Exports {
    /// All of them, to be bound at once: worth it for an instance that is called more than once.
    pub(crate) all: bindings::PolicyIndices,
    pub(crate) describe: ComponentExportIndex,
    pub(crate) validate_settings: ComponentExportIndex,
    pub(crate) configure: ComponentExportIndex,
    pub(crate) on_token: ComponentExportIndex,
    pub(crate) on_request: ComponentExportIndex,
    pub(crate) on_manifest_push: ComponentExportIndex,
    pub(crate) on_pull: ComponentExportIndex,
    pub(crate) on_response: ComponentExportIndex,
}

/// Puts the contract's two interfaces, and nothing else, into a linker.
pub(crate) fn give_host_functions(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    bindings::Policy::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)
}

/// A component that is a policy: it imports nothing but the contract's interfaces, and exports all of `guest`. What else it
/// exports does not matter.
pub(crate) fn check_world(
    linker: &Linker<Guest>,
    component: &Component,
) -> Result<(InstancePre<Guest>, Exports), LoadError> {
    for (name, _) in component.component_type().imports(component.engine()) {
        if !GIVEN.iter().any(|given| name.strip_prefix(given).is_some_and(|rest| rest.starts_with('@'))) {
            return Err(LoadError::Import(crate::text::plain(name, 128)));
        }
    }
    let refused = |error: wasmtime::Error| LoadError::World(crate::text::plain(&format!("{error:#}"), 512));
    let pre = linker.instantiate_pre(component).map_err(refused)?;
    let all = bindings::PolicyIndices::new(&pre).map_err(refused)?;
    let interface = component
        .get_export_index(None, "portcullis:policy/guest@0.1.0")
        .ok_or_else(|| LoadError::World("it exports no portcullis:policy/guest@0.1.0".to_owned()))?;
    let export = |name: &str| {
        component
            .get_export_index(Some(&interface), name)
            .ok_or_else(|| LoadError::World(format!("it exports no `{name}`")))
    };
    let exports = Exports {
        all,
        describe: export("describe")?,
        validate_settings: export("validate-settings")?,
        configure: export("configure")?,
        on_token: export("on-token")?,
        on_request: export("on-request")?,
        on_manifest_push: export("on-manifest-push")?,
        on_pull: export("on-pull")?,
        on_response: export("on-response")?,
    };
    Ok((pre, exports))
}

/// The interfaces that a policy may import.
const GIVEN: [&str; 3] = ["portcullis:policy/types", "portcullis:policy/facts", "portcullis:policy/host"];

/// Makes a component of a core module that carries the contract's types in a section of its own, as `wit-bindgen` leaves it.
pub fn wrap_core_module(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| LoadError::Malformed(crate::text::plain(&format!("{error:#}"), 512)))
}

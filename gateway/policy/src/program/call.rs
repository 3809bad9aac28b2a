//! One instance and the calls into it: limits are set before anything of the guest runs, and every error has its kind.

use super::Program;
use crate::contract::{Bound, Guest, Said};
use crate::engine::AtWork;
use crate::error::{Failure, FailureKind};
use crate::limits::{CallLimits, Meter};
use crate::question::{Ask, Question};
use crate::verdict::{Decision, Info, Reply, TokenDecision};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower};

/// An instance. What trapped once is never called again: whoever gets an error drops it.
pub(crate) struct Running<'a> {
    program: &'a Program,
    pub(crate) parts: Parts,
    _at_work: AtWork<'a>,
}

/// An instance without its program, so that it can be kept.
pub(crate) struct Parts {
    store: Store<Guest>,
    instance: Instance,
    /// All functions, their types checked once; only in an instance that is kept, since it costs more than one call saves.
    bound: Option<Bound>,
}

impl Program {
    /// Makes a fresh instance, whose time starts now.
    pub(crate) fn start(&self, limits: &CallLimits, cpu: Duration) -> Result<Running<'_>, Failure> {
        let at_work = self.engine.at_work();
        let class = self.engine.limits().classes.of(self.class);
        let guest = Guest {
            meter: Meter::new(limits, class.table_elements, cpu),
            wants: self.wants,
            facts: Arc::default(),
            raw_manifest: None,
            metrics: Arc::clone(&self.metrics),
            said: Said::default(),
            log_lines: limits.log_lines,
            log_line_bytes: limits.log_line_bytes,
        };
        let slots = self.engine.slots(self.class);
        let slots = slots.ok_or_else(|| Failure::new(FailureKind::Pool, "the class has no slots"))?;
        let mut store = Store::new(&slots.engine, guest);
        store.limiter(|guest| &mut guest.meter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| context.data_mut().meter.tick());
        store.set_hostcall_fuel(limits.output_bytes);
        if slots.fuel {
            // Measured, not limited: time is what limits.
            store.set_fuel(u64::MAX).map_err(|error| Failure::of_engine(&error, None))?;
        }
        match self.pre.instantiate(&mut store) {
            Ok(instance) => {
                Ok(Running { program: self, parts: Parts { store, instance, bound: None }, _at_work: at_work })
            }
            Err(error) => Err(Failure::of_engine(&error, store.data().meter.stopped())),
        }
    }

    /// Takes up an instance that is kept, whose time starts now.
    pub(crate) fn resume(&self, mut parts: Parts, cpu: Duration) -> Result<Running<'_>, Failure> {
        let at_work = self.engine.at_work();
        parts.store.set_epoch_deadline(1);
        parts.store.data_mut().meter.restart(cpu);
        if parts.bound.is_none() {
            let bound = self.exports.all.load(&mut parts.store, &parts.instance);
            parts.bound = Some(bound.map_err(|error| Failure::of_engine(&error, None))?);
        }
        Ok(Running { program: self, parts, _at_work: at_work })
    }
}

impl Running<'_> {
    pub(crate) fn describe(&mut self) -> Result<Info, Failure> {
        let export = self.program.exports.describe;
        self.call::<(), (Info,)>(&export, ()).map(|(info,)| info)
    }

    pub(crate) fn validate_settings(&mut self, settings: &str) -> Result<Result<(), Vec<String>>, Failure> {
        let export = self.program.exports.validate_settings;
        self.call::<(&str,), (Result<(), Vec<String>>,)>(&export, (settings,)).map(|(result,)| result)
    }

    pub(crate) fn configure(&mut self, settings: &str) -> Result<Result<(), String>, Failure> {
        let export = self.program.exports.configure;
        self.call::<(&str,), (Result<(), String>,)>(&export, (settings,)).map(|(result,)| result)
    }

    /// Asks the hook that the question is for.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Reply, Failure> {
        let guest = self.parts.store.data_mut();
        guest.facts = Arc::clone(&question.facts);
        guest.raw_manifest.clone_from(&question.raw_manifest);
        if self.parts.bound.is_some() {
            return self.ask_bound(question);
        }
        let exports = &self.program.exports;
        let context = &question.context;
        match &question.ask {
            Ask::Token(request) => {
                self.call(&exports.on_token, (context, request)).map(|(decision,): (TokenDecision,)| decision.into())
            }
            Ask::Request(request) => {
                self.call(&exports.on_request, (context, request)).map(|(decision,): (Decision,)| decision.into())
            }
            Ask::ManifestPush { target, manifest } => self
                .call(&exports.on_manifest_push, (context, target, manifest))
                .map(|(decision,): (Decision,)| decision.into()),
            Ask::Pull { target, manifest } => self
                .call(&exports.on_pull, (context, target, manifest.as_ref()))
                .map(|(decision,): (Decision,)| decision.into()),
            Ask::Response { request, outcome } => {
                self.call(&exports.on_response, (context, request, outcome)).map(|()| Reply::Abstain)
            }
        }
    }

    fn ask_bound(&mut self, question: &Question) -> Result<Reply, Failure> {
        let Parts { store, bound, .. } = &mut self.parts;
        let Some(bound) = bound else {
            return Err(Failure::new(FailureKind::Trap, "the instance's functions are not bound"));
        };
        let (guest, context) = (bound.portcullis_policy_guest(), &question.context);
        let result = match &question.ask {
            Ask::Token(request) => guest.call_on_token(&mut *store, context, request).map(Reply::from),
            Ask::Request(request) => guest.call_on_request(&mut *store, context, request).map(Reply::from),
            Ask::ManifestPush { target, manifest } => {
                guest.call_on_manifest_push(&mut *store, context, target, manifest).map(Reply::from)
            }
            Ask::Pull { target, manifest } => {
                guest.call_on_pull(&mut *store, context, target, manifest.as_ref()).map(Reply::from)
            }
            Ask::Response { request, outcome } => {
                guest.call_on_response(&mut *store, context, request, *outcome).map(|()| Reply::Abstain)
            }
        };
        result.map_err(|error| Failure::of_engine(&error, store.data().meter.stopped()))
    }

    /// What the guest said since this was last asked.
    pub(crate) fn take_said(&mut self) -> Said {
        std::mem::take(&mut self.parts.store.data_mut().said)
    }

    /// What the call used so far.
    pub(crate) fn spent(&self) -> Spent {
        let meter = &self.parts.store.data().meter;
        let counted = self.program.engine.slots(self.program.class).is_some_and(|slots| slots.fuel);
        let left = if counted { self.parts.store.get_fuel().ok() } else { None };
        let fuel = left.map(|left| u64::MAX.saturating_sub(left));
        Spent { cpu: meter.spent(), wall: meter.wall(), memory_bytes: meter.memory(), fuel }
    }

    /// Lets go of what belongs to the question, and keeps the instance.
    pub(crate) fn into_parts(mut self) -> Parts {
        let guest = self.parts.store.data_mut();
        guest.facts = Arc::default();
        guest.raw_manifest = None;
        self.parts
    }

    fn call<P, R>(&mut self, export: &ComponentExportIndex, parameters: P) -> Result<R, Failure>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        let Parts { store, instance, .. } = &mut self.parts;
        let result = instance
            .get_typed_func::<P, R>(&mut *store, export)
            .and_then(|function| function.call(&mut *store, parameters));
        result.map_err(|error| Failure::of_engine(&error, store.data().meter.stopped()))
    }
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// CPU time, to within a tick of one millisecond; for a call shorter than that its wall time, as far as it is shorter.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Bytes of all memories at the end, which is their peak.
    pub memory_bytes: usize,
    /// Fuel, where the engine counts it.
    pub fuel: Option<u64>,
}

//! What can go wrong: when a policy is loaded (its author's or operator's fault), and when it is asked.

use crate::limits::Stop;
use serde::{Deserialize, Serialize};

/// Why a component cannot be loaded, or settings not be taken. The text is for the one who attaches it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// More bytes than allowed.
    #[error("the component has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No WebAssembly, or none that a policy may be.
    #[error("the component is malformed: {0}")]
    Malformed(String),
    /// It is made to be hard to compile, or looks so.
    #[error("the component has {what}, more than the limit of {limit}")]
    Structure {
        /// What there is too much of.
        what: String,
        /// The limit.
        limit: u32,
    },
    /// It could not be compiled within its limits.
    #[error("the component could not be compiled: {0}")]
    Compile(String),
    /// It imports what no policy is given.
    #[error("the component imports `{0}`, but a policy is given portcullis:policy alone")]
    Import(String),
    /// It does not export what a policy exports.
    #[error("the component is no policy of world portcullis:policy/policy@0.1.0: {0}")]
    World(String),
    /// It fits into no class of slots.
    #[error("the component fits into no class of slots: {0}")]
    Slots(String),
    /// `describe` failed, or says what it must not.
    #[error("`describe` is not acceptable: {0}")]
    Describe(String),
    /// Its schema is refused.
    #[error("the settings' schema is not acceptable: {0}")]
    Schema(String),
    /// The settings are refused.
    #[error("the settings are refused: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// `configure` takes longer than a call may, and each call would need it.
    #[error("`configure` used {used_ms} ms of CPU, and a fresh call has {limit_ms} ms: reuse instances, or do less")]
    SlowConfigure {
        /// What it used.
        used_ms: u64,
        /// What a fresh call has.
        limit_ms: u64,
    },
    /// A first call failed.
    #[error("a first call failed: {0}")]
    Smoke(Failure),
    /// The operator's fault: more policies on one project than allowed.
    #[error("more than {0} policies are attached")]
    TooMany(usize),
    /// Every slot of its class is in use.
    #[error("no slot is free for it now: {0}")]
    NoSlot(Failure),
    /// Its bytes cannot be had.
    #[error("{0}")]
    Unavailable(String),
    /// Our own fault.
    #[error("{0}")]
    Internal(String),
}

impl LoadError {
    /// Whether the same may be loaded a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::NoSlot(_) | Self::Unavailable(_))
    }

    /// What a failure of a first call means: `its_own`, where it is not for want of a slot.
    pub(crate) fn of_call(failure: Failure, its_own: impl FnOnce(Failure) -> Self) -> Self {
        if failure.kind == FailureKind::Pool { Self::NoSlot(failure) } else { its_own(failure) }
    }
}

/// The kinds of failure that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The guest trapped: it panicked, its stack overflowed, it called what it may not.
    Trap,
    /// Its time was used up.
    Timeout,
    /// It wanted more memory, or larger tables, than its limit.
    Memory,
    /// It answered what breaks the contract: malformed, too long, or wider than what was asked.
    Output,
    /// No slot was free.
    Pool,
    /// It is attached, but no version of it could be loaded.
    Missing,
    /// It was not run, for it rests after timeouts.
    Breaker,
    /// It was not run, for too many questions waited.
    Busy,
    /// It was not run, for what it wants to know could not be looked up.
    Lookup,
    /// It was not run, for what it judges cannot be read. Whoever sends something chooses whether it can be, so that this
    /// refuses whatever `on_error` says.
    Unreadable,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Trap,
        Self::Timeout,
        Self::Memory,
        Self::Output,
        Self::Pool,
        Self::Missing,
        Self::Breaker,
        Self::Busy,
        Self::Lookup,
        Self::Unreadable,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Pool => "pool",
            Self::Missing => "missing",
            Self::Breaker => "breaker",
            Self::Busy => "busy",
            Self::Lookup => "lookup",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Why a call gave no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}: {message}", kind.name())]
pub struct Failure {
    /// For counting.
    pub kind: FailureKind,
    /// For the policy's author and the operator; bounded, without control characters.
    pub message: String,
}

impl Failure {
    /// With its message made short and plain.
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: crate::text::plain(message.as_ref(), 512) }
    }

    /// What an error of the engine means.
    pub(crate) fn of_engine(error: &wasmtime::Error, stopped: Option<Stop>) -> Self {
        let kind = match stopped.or_else(|| error.downcast_ref::<Stop>().copied()) {
            Some(Stop::Cpu | Stop::Wall) => FailureKind::Timeout,
            Some(Stop::Memory | Stop::Table) => FailureKind::Memory,
            Some(Stop::HostCalls) => FailureKind::Trap,
            None if error.is::<wasmtime::PoolConcurrencyLimitError>() => FailureKind::Pool,
            None if error.is::<Misuse>() => FailureKind::Trap,
            None => match error.downcast_ref::<wasmtime::Trap>() {
                Some(wasmtime::Trap::Interrupt) => FailureKind::Timeout,
                Some(_) => FailureKind::Trap,
                None => FailureKind::Output,
            },
        };
        // Where in a module without names it happened says nothing, at length, and what happened stands behind it.
        let told = error.chain().map(ToString::to_string).filter(|cause| !cause.contains("wasm backtrace:"));
        Self::new(kind, told.collect::<Vec<_>>().join(": "))
    }
}

/// A guest called a host function that it may not call.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(pub(crate) String);

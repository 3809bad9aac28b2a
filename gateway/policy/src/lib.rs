//! Policies as WebAssembly components: the only crate that knows wasmtime. It never reads a store, a network or a clock of the
//! day; what a policy knows is what its question holds.
//!
//! The rooms, from the ground up: [`Limits`] and the meter that holds calls to them; [`Engine`], the pools of slots and the
//! compiler; the contract with guests; [`Program`], a loaded component; [`Policy`], a program with settings; [`Catalog`], who
//! has attached what, in generations; and the chain, [`Generation::ask`], which says what the answers are worth.
//!
//! Each call gets a fresh instance, and `configure` is called in it before the hook: its time counts within the call's. (No
//! snapshot of a configured instance is taken. A policy whose `configure` takes longer than a call may is refused when it is
//! attached, unless instances are reused.)

#![deny(unsafe_code)]

mod catalog;
mod contract;
mod engine;
mod error;
mod evaluate;
mod limits;
mod measure;
mod policy;
mod program;
pub mod question;
mod schema;
mod smoke;
mod text;
pub mod verdict;

pub use catalog::{Attachment, Catalog, Fetch, Fetched, Generation, Mode, OnError, Owner, Problem, Status};
pub use contract::{Level, LogLine, wrap_core_module};
pub use engine::{CacheError, CompileCache, Compiler, Engine, Options, precompile};
pub use error::{Failure, FailureKind, LoadError};
pub use evaluate::{Answer, Counts, Heard, Refusal, Verdict, check_reply};
pub use limits::{
    CallLimits, ChainLimits, Class, ClassLimits, Limits, PerClass, SettingsLimits, Stop, StructureLimits,
};
pub use measure::{Measured, Steps, measure_fresh, measure_reused, measure_steps};
pub use policy::{Policy, Ran, Reuse, Spent};
pub use program::Program;
pub use smoke::question as smoke_question;
pub use text::plain;

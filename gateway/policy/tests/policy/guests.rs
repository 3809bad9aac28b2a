//! Guests made of text, as policies, and what they are asked.

#[allow(dead_code)] // shared with other crates' tests; together they use all of it
#[path = "../../../../policies-wasm/hostile/guest.rs"]
mod guest;

#[allow(unused_imports)] // as above
pub(crate) use guest::{hostile, text, wrap};
use portcullis_policy::question::{Ask, Context, Operation, Question, Request, Scope, Target, TokenRequest};
use portcullis_policy::{Engine, Limits, Options, Policy, Program};
use std::sync::{Arc, OnceLock};

/// One engine for all tests that need no other.
pub(crate) fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Limits::default(), Options::default()).unwrap()).clone()
}

pub(crate) fn program(bytes: &[u8]) -> Arc<Program> {
    Arc::new(Program::load(&engine(), bytes).unwrap())
}

/// A hostile guest that got in.
pub(crate) fn policy(name: &str) -> Policy {
    Policy::new(program(&hostile(name)), "{}", None, None).unwrap()
}

/// A request that is not the smoke call's.
pub(crate) fn request() -> Question {
    question(Ask::Request(Request {
        operation: Operation::ManifestPull,
        method: "GET".to_owned(),
        target: Some(Target { repository: "acme/app".to_owned(), tags: vec!["1.0".to_owned()], digest: None }),
        headers: Vec::new(),
        length: None,
    }))
}

/// A token for `acme/app:pull,push`, of which `pull` is granted.
pub(crate) fn token() -> Question {
    let scope = |actions: &[&str]| Scope {
        kind: "repository".to_owned(),
        name: "acme/app".to_owned(),
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
    };
    question(Ask::Token(TokenRequest {
        requested: vec![scope(&["pull", "push"])],
        granted: vec![scope(&["pull"])],
        default_ttl_s: 300,
        max_ttl_s: 300,
        ..TokenRequest::default()
    }))
}

pub(crate) fn question(ask: Ask) -> Question {
    let context = Context { request_id: "request-1".to_owned(), project: "acme".to_owned(), ..Context::default() };
    Question { context, ask, facts: Arc::default(), raw_manifest: None }
}

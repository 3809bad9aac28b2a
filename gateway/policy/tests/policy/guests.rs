//! Guests made of text. A body is what a guest does; the contract's exports are put around it here, with functions that abstain
//! where the body has none.

use portcullis_policy::question::{Ask, Context, Operation, Question, Request, Scope, Target, TokenRequest};
use portcullis_policy::{Engine, Limits, Options, Policy, Program};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use wit_component::StringEncoding;
use wit_parser::Resolve;

/// One engine for all tests that need no other.
pub(crate) fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Limits::default(), Options::default()).unwrap()).clone()
}

/// A hostile guest's core module.
pub(crate) fn hostile(name: &str) -> Vec<u8> {
    wrap(&text(name))
}

/// A hostile guest's text.
pub(crate) fn text(name: &str) -> String {
    let path = contract().join(format!("hostile/{name}.wat"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
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

/// The core module around a body, with the contract's types inside.
pub(crate) fn wrap(body: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module(body)).unwrap_or_else(|error| panic!("{error}\n{body}"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(contract().join("wit")).unwrap();
    let world = resolve.select_world(&[package], Some("policy")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

fn contract() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies-wasm")
}

/// What follows `;; name:` in a body.
fn told<'a>(body: &'a str, name: &str) -> &'a str {
    let line = body.lines().find_map(|line| line.strip_prefix(";; ")?.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

const HOOKS: [&str; 5] = ["token", "request", "manifest-push", "pull", "response"];
const FACTS: [&str; 8] = [
    "tag-digest",
    "tags-of-digest",
    "image-config",
    "stored-sizes",
    "usage",
    "pushed-at",
    "referrers",
    "verified-signers",
];

/// Memory: 512 an answer of zeros (abstain, ok), 640 for the body's answer, 1024 the description, 2048 its metrics, 4096 for
/// the body's texts, from 8192 to 16384 and above what the host allocates.
fn module(body: &str) -> String {
    let positions = |names: &str, of: &[&str]| -> Vec<usize> {
        names.split_whitespace().map(|name| of.iter().position(|one| *one == name).unwrap()).collect()
    };
    let bytes = |list: &[usize]| list.iter().map(|one| format!("\\{one:02x}")).collect::<String>();
    let (hooks, wants) = (positions(told(body, "hooks"), &HOOKS), positions(told(body, "wants"), &FACTS));
    let metrics: Vec<&str> = told(body, "metrics").split_whitespace().collect();
    let schema = told(body, "schema");
    let mut metric_records = String::new();
    let mut at = 2304;
    for metric in &metrics {
        metric_records.push_str(&words(&[at, metric.len()]));
        at += metric.len();
    }
    let info =
        words(&[1100, 7, 1110, 5, 1120, hooks.len(), 1130, wants.len(), 2048, metrics.len(), SCHEMA_AT, schema.len()]);
    let default = |name: &str, signature: &str, result: &str| {
        let missing = !body.contains(&format!("(func ${name} "));
        if missing { format!("(func ${name} {signature} {result})\n") } else { String::new() }
    };
    let mut functions = String::new();
    let pointer = "(param i32) (result i32)";
    functions.push_str(&default("describe", "(result i32)", "(i32.const 1024)"));
    functions.push_str(&default("validate-settings", "(param i32 i32) (result i32)", "(i32.const 512)"));
    functions.push_str(&default("configure", "(param i32 i32) (result i32)", "(i32.const 512)"));
    for hook in ["on-token", "on-request", "on-manifest-push", "on-pull"] {
        functions.push_str(&default(hook, pointer, "(i32.const 512)"));
    }
    functions.push_str(&default("on-response", "(param i32)", ""));
    functions.push_str(&default("realloc", "(param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)",
        "(local $at i32)
         (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
         (global.set $heap (i32.add (local.get $at) (local.get $new)))
         (if (i32.gt_u (global.get $heap) (i32.const 120000)) (then (global.set $heap (i32.const 20480)) (local.set $at (i32.const 20480))))
         (local.get $at)"));
    let exports: String = [
        "describe",
        "validate-settings",
        "configure",
        "on-token",
        "on-request",
        "on-manifest-push",
        "on-pull",
        "on-response",
    ]
    .iter()
    .map(|name| format!("(export \"portcullis:policy/guest@0.1.0#{name}\" (func ${name}))\n"))
    .collect();
    format!(
        r#"(module
        {body}
        (memory (export "memory") 2)
        (global $heap (mut i32) (i32.const 20480))
        (func $is-smoke (param $args i32) (result i32) (i32.eq (i32.load offset=4 (local.get $args)) (i32.const 5)))
        {functions}
        {exports}
        (export "cabi_realloc" (func $realloc))
        (data (i32.const 1024) "{info}")
        (data (i32.const 1100) "hostile")
        (data (i32.const 1110) "0.1.0")
        (data (i32.const 1120) "{}")
        (data (i32.const 1130) "{}")
        (data (i32.const 2048) "{metric_records}")
        (data (i32.const 2304) "{}")
        (data (i32.const {SCHEMA_AT}) "{}"))"#,
        bytes(&hooks),
        bytes(&wants),
        metrics.concat(),
        schema.replace('\\', "\\\\").replace('"', "\\\""),
    )
}

/// Where a schema lies: below the second page, so that a long one fits.
const SCHEMA_AT: usize = 30_000;

fn words(words: &[usize]) -> String {
    words
        .iter()
        .flat_map(|word| u32::try_from(*word).unwrap().to_le_bytes())
        .map(|byte| format!("\\{byte:02x}"))
        .collect()
}

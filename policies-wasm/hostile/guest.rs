//! Guests made of text. A body is what a guest does; the contract's exports are put around it here, with functions that abstain
//! where the body has none. A file of its own, for tests of several crates take it in by its path.

use std::path::PathBuf;
use wit_component::StringEncoding;
use wit_parser::Resolve;

/// A hostile guest by its file's name: a core module, or the whole component where its text is one.
pub fn hostile(name: &str) -> Vec<u8> {
    made(&text(name))
}

/// A hostile guest's text.
pub fn text(name: &str) -> String {
    let path = folder().join(format!("hostile/{name}.wat"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a body makes: a core module, or the whole component where it is one.
pub fn made(body: &str) -> Vec<u8> {
    let whole = body.lines().any(|line| line.starts_with("(component"));
    if whole { wat::parse_str(body).unwrap_or_else(|error| panic!("{error}\n{body}")) } else { wrap(body) }
}

/// The core module around a body, with the contract's types inside.
pub fn wrap(body: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module(body)).unwrap_or_else(|error| panic!("{error}\n{body}"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(folder().join("wit")).expect("the contract can be read");
    let world = resolve.select_world(&[package], Some("policy")).expect("the contract has this world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the contract's types can be put into a module");
    module
}

/// `policies-wasm`, from wherever the crate is that this file is part of.
pub fn folder() -> PathBuf {
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = crates.map(|directory| directory.join("policies-wasm"));
    folders.find(|folder| folder.is_dir()).expect("the policies stand beside the workspace's crates")
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
/// What a guest exports, each with its type and what it answers where the body does not say.
const EXPORTS: [(&str, &str, &str); 8] = [
    ("describe", "(result i32)", "(i32.const 1024)"),
    ("validate-settings", "(param i32 i32) (result i32)", "(i32.const 512)"),
    ("configure", "(param i32 i32) (result i32)", "(i32.const 512)"),
    ("on-token", "(param i32) (result i32)", "(i32.const 512)"),
    ("on-request", "(param i32) (result i32)", "(i32.const 512)"),
    ("on-manifest-push", "(param i32) (result i32)", "(i32.const 512)"),
    ("on-pull", "(param i32) (result i32)", "(i32.const 512)"),
    ("on-response", "(param i32)", ""),
];
/// Where a schema lies: below the second page, so that a long one fits.
const SCHEMA_AT: usize = 30_000;

/// Memory: 512 an answer of zeros (abstain, ok), 640 for the body's answer, 1024 the description, 2048 its metrics, 4096 for
/// the body's texts, from 8192 to 16384 and above what the host allocates.
fn module(body: &str) -> String {
    let schema = told(body, "schema");
    let (hooks, wants) = (positions(told(body, "hooks"), &HOOKS), positions(told(body, "wants"), &FACTS));
    let metrics: Vec<&str> = told(body, "metrics").split_whitespace().collect();
    let mut metric_records = String::new();
    let mut at = 2304;
    for metric in &metrics {
        metric_records.push_str(&words(&[at, metric.len()]));
        at += metric.len();
    }
    let info =
        words(&[1100, 7, 1110, 5, 1120, hooks.len(), 1130, wants.len(), 2048, metrics.len(), SCHEMA_AT, schema.len()]);
    let (functions, exports) = functions(body);
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

/// The functions that the body leaves out, and the exports of all.
fn functions(body: &str) -> (String, String) {
    let missing = |name: &str| !body.contains(&format!("(func ${name} "));
    let (mut functions, mut exports) = (String::new(), String::new());
    for (name, signature, result) in EXPORTS {
        if missing(name) {
            functions.push_str(&format!("(func ${name} {signature} {result})\n"));
        }
        exports.push_str(&format!("(export \"portcullis:policy/guest@0.1.0#{name}\" (func ${name}))\n"));
    }
    if missing("realloc") {
        functions.push_str(
            "(func $realloc (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
               (local $at i32)
               (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
               (global.set $heap (i32.add (local.get $at) (local.get $new)))
               (if (i32.gt_u (global.get $heap) (i32.const 120000))
                 (then (global.set $heap (i32.const 20480)) (local.set $at (i32.const 20480))))
               (local.get $at))",
        );
    }
    (functions, exports)
}

/// What follows `;; name:` in a body.
fn told<'a>(body: &'a str, name: &str) -> &'a str {
    let line = body.lines().find_map(|line| line.strip_prefix(";; ")?.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

fn positions(names: &str, of: &[&str]) -> Vec<usize> {
    let position = |name: &str| of.iter().position(|one| *one == name);
    names.split_whitespace().map(|name| position(name).unwrap_or_else(|| panic!("no such name: {name}"))).collect()
}

fn bytes(list: &[usize]) -> String {
    list.iter().map(|one| format!("\\{one:02x}")).collect()
}

fn words(words: &[usize]) -> String {
    let bytes = words.iter().flat_map(|word| u32::try_from(*word).expect("addresses are short").to_le_bytes());
    bytes.map(|byte| format!("\\{byte:02x}")).collect()
}

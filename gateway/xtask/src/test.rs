//! Every test there is, in the order in which they are cheap.

use crate::parts::{Purpose, ensure};
use crate::processes::call;
use crate::{languages, policies, workspace};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// One thing to be tested.
struct Step {
    what: &'static str,
    work: Work,
    /// Whether it takes so long that it is left to `make test-all`.
    long: bool,
}

/// What has to be done for it.
enum Work {
    /// Words to cargo, on a store.
    Cargo(&'static [&'static str], &'static str),
    /// A chore.
    Chore(fn() -> Result<()>),
}

/// All of cargo's name the whole workspace, so that every crate is built once, with the same features, for all steps.
const STEPS: &[Step] = &[
    step("formatting", Work::Cargo(&["fmt", "--all", "--check"], "sqlite")),
    step(
        "lints",
        Work::Cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], "sqlite"),
    ),
    step("build", Work::Cargo(&["build", "--workspace", "--all-targets", "--locked"], "sqlite")),
    step("policies", Work::Chore(policies::build)),
    step("the policies' own tests", Work::Chore(policies::test)),
    Step { what: "policies in other languages", work: Work::Chore(languages::build), long: true },
    step("unit and property tests", Work::Cargo(UNITS, "sqlite")),
    step("examples in the documentation", Work::Cargo(&["test", "--workspace", "--doc", "--locked"], "sqlite")),
    step("the interface on SQLite", Work::Cargo(INTERFACE, "sqlite")),
    step("the interface on PostgreSQL", Work::Cargo(INTERFACE, "postgres")),
    step("clients, policies and load on SQLite", Work::Cargo(AROUND, "sqlite")),
    step("clients and load on PostgreSQL", Work::Cargo(AROUND_STORE, "postgres")),
];

/// The host of policies and the fuzzer's corpus stand by themselves.
const UNITS: &[&str] = &[
    "test",
    "--workspace",
    "--lib",
    "--bins",
    "--test",
    "memory",
    "--test",
    "policy",
    "--test",
    "corpus",
    "--locked",
    "--no-fail-fast",
];
const INTERFACE: &[&str] = &["test", "--workspace", "--test", "api", "--locked", "--no-fail-fast"];
const AROUND: &[&str] =
    &["test", "--workspace", "--test", "clients", "--test", "policies", "--test", "load", "--locked", "--no-fail-fast"];
/// What of it the store has a part in: attacks do not get that far.
const AROUND_STORE: &[&str] = &[
    "test",
    "--workspace",
    "--test",
    "clients",
    "--test",
    "load",
    "--locked",
    "--no-fail-fast",
    "--",
    "--skip",
    "hostile::",
];

/// Runs everything; `all` includes what takes long. The first failure ends it.
pub fn test(all: bool) -> Result<()> {
    let begun = Instant::now();
    ensure(Purpose::Test)?;
    let root = workspace()?;
    let steps: Vec<_> = STEPS.iter().filter(|step| all || !step.long).collect();
    let count = steps.len();
    for (number, step) in (1..).zip(steps) {
        let started = Instant::now();
        println!("== [{number}/{count}] {}", step.what);
        let done = match step.work {
            Work::Cargo(words, store) => cargo(&root, words, store, all),
            Work::Chore(chore) => chore(),
        };
        done.with_context(|| format!("[{number}/{count}] {} failed", step.what))?;
        println!("== [{number}/{count}] {}: passed in {:.0?}", step.what, started.elapsed());
    }
    println!("== everything passed in {:.0?}", begun.elapsed());
    Ok(())
}

/// Tests the policies in JavaScript and Python, and nothing else.
pub fn languages() -> Result<()> {
    ensure(Purpose::Test)?;
    languages::build()?;
    let words = ["test", "--workspace", "--test", "policies", "--locked", "languages", "--", "--include-ignored"];
    cargo(&workspace()?, &words, "sqlite", false)
}

fn cargo(root: &Path, words: &[&str], store: &str, all: bool) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(words).current_dir(root).env("PORTCULLIS_TEST_STORE", store);
    // Most tests of the interface wait: for a sweep, a deadline, an upstream that says nothing.
    if words == INTERFACE && std::env::var_os("RUST_TEST_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        cargo.env("RUST_TEST_THREADS", cores.saturating_mul(2).to_string());
    }
    if all && words.first() == Some(&"test") && !words.contains(&"--doc") {
        if !words.contains(&"--") {
            cargo.arg("--");
        }
        cargo.arg("--include-ignored");
    }
    call(&mut cargo)
}

const fn step(what: &'static str, work: Work) -> Step {
    Step { what, work, long: false }
}

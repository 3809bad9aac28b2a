//! Every test there is, in the order in which they are cheap.

use crate::parts::{Purpose, ensure};
use crate::processes::call;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::process::Command;
use std::time::Instant;

/// One thing to be tested: what, with which words to cargo, on which store.
struct Step {
    what: &'static str,
    cargo: &'static [&'static str],
    store: &'static str,
}

/// All of them name the whole workspace, so that every crate is built once, with the same features, for all steps.
const STEPS: &[Step] = &[
    step("formatting", &["fmt", "--all", "--check"]),
    step("lints", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    step("build", &["build", "--workspace", "--all-targets", "--locked"]),
    step("unit and property tests", &["test", "--workspace", "--lib", "--bins", "--locked", "--no-fail-fast"]),
    step("examples in the documentation", &["test", "--workspace", "--doc", "--locked"]),
    on_store("integration tests on SQLite", "sqlite"),
    on_store("integration tests on PostgreSQL", "postgres"),
];

/// Runs everything; `all` includes what takes long. The first failure ends it.
pub fn test(all: bool) -> Result<()> {
    let begun = Instant::now();
    ensure(Purpose::Test)?;
    let root = workspace()?;
    let count = STEPS.len();
    for (number, step) in (1..).zip(STEPS) {
        let started = Instant::now();
        println!("== [{number}/{count}] {}", step.what);
        let mut cargo = Command::new("cargo");
        cargo.args(step.cargo).current_dir(&root).env("PORTCULLIS_TEST_STORE", step.store);
        if all && step.cargo.first() == Some(&"test") && !step.cargo.contains(&"--doc") {
            cargo.args(["--", "--include-ignored"]);
        }
        call(&mut cargo).with_context(|| format!("[{number}/{count}] {} failed", step.what))?;
        println!("== [{number}/{count}] {}: passed in {:.0?}", step.what, started.elapsed());
    }
    println!("== everything passed in {:.0?}", begun.elapsed());
    Ok(())
}

const fn step(what: &'static str, cargo: &'static [&'static str]) -> Step {
    Step { what, cargo, store: "sqlite" }
}

const fn on_store(what: &'static str, store: &'static str) -> Step {
    Step { what, cargo: &["test", "--workspace", "--test", "*", "--locked", "--no-fail-fast"], store }
}

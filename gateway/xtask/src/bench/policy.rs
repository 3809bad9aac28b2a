//! What policies cost: the policy crate measures itself, and the page is kept.

use super::report::processor;
use crate::processes::{ask, call};
use crate::{policies, target};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Where the page is kept.
const PAGE: &str = "gateway/policy/BENCHMARKS.md";

/// Builds the policies and what measures them, prints what came out, and unless it was only to see whether it works writes it
/// down.
pub(super) fn run(root: &Path, quick: bool) -> Result<()> {
    policies::build()?;
    println!("building what measures (the first time takes some minutes)");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--package", "portcullis-policy", "--example", "calls"]);
    call(cargo.current_dir(root))?;
    println!("measuring");
    let mut calls = Command::new(target(root).join("release/examples/calls"));
    let tables = ask(calls.args(quick.then_some("--quick")).current_dir(root))?;
    println!("\n{tables}");
    if !quick {
        std::fs::write(root.join(PAGE), page(&tables)?)?;
        println!("written to {PAGE}");
    }
    Ok(())
}

fn page(tables: &str) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let (processor, kernel) = (processor()?, std::fs::read_to_string("/proc/sys/kernel/osrelease")?);
    let date = ask(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    Ok(format!(
        "# What policies cost

Written by `cargo xtask bench policy`; every figure comes from that one run of one thread, in the release profile. The full
record is a pushed manifest with 10 layers and 20 annotations. A fresh call makes, configures and asks an instance of its own; a
reused one asks an instance that is kept. Compare differences within the run: times by themselves belong to the machine.

{cores} x {processor}, kernel {}, {}, load {load} beside the run.

{tables}
- `its own code` is what a question takes beyond `call` and `record`, which are those of the guest of text: it reads nothing of
  the record and lets it pass. What a guest's allocator takes to receive the record counts as its own code.
- A record's price is one call of the guest's allocator for each text and each list in it, empty ones too, and a look-up of its
  memory for each field. The floor's row makes as many calls of an allocator that does next to nothing, and nothing else: no
  guest and no host can do with less under this contract ([decision 17](../decisions/0017-what-a-call-costs.md)).
- From the cache a policy is loaded as the gateway does it: found by its digest, its bytes not asked for.
- Fuel is about one for each instruction of the guest; it is the same in every run and on every machine.
",
        kernel.trim(),
        date.trim()
    ))
}

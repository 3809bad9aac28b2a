//! Hands the readers of hostile bytes to a fuzzer, one after the other, for as long as one likes. What it finds new goes below
//! `target/`; the corpus that is kept is changed by hand alone.

use crate::parts::{Purpose, ensure, find};
use crate::processes::{ask, call};
use crate::{target, workspace};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Longest input that is tried, in bytes: longer than most limits, and short enough to be tried often.
const MAX_INPUT: usize = 16 * 1024;
/// Longest time for one input before it is a finding, in seconds.
const PATIENCE: usize = 10;
/// The one target that needs the limits of policies, and thereby a long build.
const CONFIGURATION: &str = "configuration";

/// Which targets, and how long.
#[derive(clap::Args)]
pub struct Options {
    /// A target; all of them, one after the other, where none is named
    #[arg(long)]
    target: Vec<String>,
    /// How long each is tried, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Fuzzes; the first finding ends it.
pub fn run(options: &Options) -> Result<()> {
    ensure(Purpose::Gateway)?;
    if find(&["c++", "g++", "clang++"]).is_none() {
        bail!("missing: a C++ compiler for the fuzzer's engine; on Debian and Ubuntu: sudo apt-get install g++");
    }
    if ask(Command::new("cargo").args(["fuzz", "--version"])).is_err() {
        println!("missing: cargo-fuzz; it is built once, which takes some minutes");
        call(Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]))?;
    }
    let root = workspace()?;
    let known = targets(&root)?;
    if let Some(unknown) = options.target.iter().find(|target| !known.contains(target)) {
        bail!("there is no target {unknown}; there are {}", known.join(", "));
    }
    let chosen = if options.target.is_empty() { &known } else { &options.target };
    for (number, name) in (1..).zip(chosen) {
        println!("== [{number}/{}] {name}, for {} s", chosen.len(), options.seconds);
        fuzz(&root, name, options.seconds)?;
    }
    println!("== nothing was found");
    Ok(())
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let programs = fs::read_dir(root.join("gateway/fuzz/targets")).context("gateway/fuzz/targets")?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry?.path().file_stem().unwrap_or_default().to_string_lossy().into_owned())
    };
    let mut names = programs.map(name).collect::<Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

fn fuzz(root: &Path, name: &str, seconds: u64) -> Result<()> {
    let directory = root.join("gateway/fuzz");
    let own = target(root).join("fuzz");
    let (found, findings) = (own.join("corpus").join(name), own.join("findings").join(name));
    for made in [&found, &findings] {
        fs::create_dir_all(made).with_context(|| made.display().to_string())?;
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["fuzz", "run", "--fuzz-dir"]).arg(&directory);
    cargo.arg("--target-dir").arg(own.join("build"));
    // Sanitizers want a nightly compiler, and look for what safe code cannot do. And what is tried is what is shipped.
    cargo.args(["--sanitizer", "none", "--no-cfg-fuzzing", "--codegen-units", "16", "--features", "libfuzzer"]);
    if name != CONFIGURATION {
        cargo.arg("--no-default-features");
    }
    // What makes the gateway small makes each build here long.
    for (key, value) in [("LTO", "off"), ("STRIP", "none")] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    // What is new goes into the first directory.
    cargo.arg(name).args([&found, &directory.join("corpus").join(name)]).arg("--");
    cargo.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={MAX_INPUT}"));
    cargo.arg(format!("-timeout={PATIENCE}")).arg(format!("-artifact_prefix={}/", findings.display()));
    cargo.arg("-print_final_stats=1");
    call(&mut cargo).with_context(|| {
        let kept = directory.join("corpus").join(name);
        format!(
            "{name}: what broke it is in {}; mend it, and keep the smallest such input in {}, where `make test` tries it",
            findings.display(),
            kept.display()
        )
    })
}

//! Chores: run it, test it, measure it, and bring along what that needs.
#![allow(clippy::print_stdout, reason = "chores talk to people")]

mod bench;
mod demo;
mod fuzz;
mod languages;
mod parts;
mod policies;
mod processes;
mod registry;
mod run;
mod sample;
#[cfg(test)]
mod security;
mod test;
#[cfg(test)]
mod walls;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure Portcullis")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what is missing to run, test or measure, or say what to install
    Parts {
        /// What for
        #[arg(value_enum)]
        purpose: parts::Purpose,
    },
    /// Serve a demonstration in front of a registry until Ctrl-C
    ///
    /// UPSTREAM is the URL of the registry to stand in front of, where it is not to start one; PORTCULLIS_DATA is the
    /// directory that keeps everything, .portcullis where it is not set.
    Run,
    /// Build the policies, or test them
    Policies {
        /// Run their unit tests and cases natively, and build nothing
        #[arg(long)]
        test: bool,
    },
    /// Build the policies in JavaScript and Python, or test them
    Languages {
        /// Run their cases, and a gateway that asks them
        #[arg(long)]
        test: bool,
    },
    /// Run every test
    Test {
        /// Also those that take long
        #[arg(long)]
        all: bool,
    },
    /// Try the readers of hostile bytes with a fuzzer
    Fuzz(fuzz::Options),
    /// Measure beside HAProxy and write the report
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Parts { purpose } => parts::ensure(purpose),
        Chore::Run => run::run(),
        Chore::Languages { test: false } => languages::build(),
        Chore::Languages { test: true } => test::languages(),
        Chore::Policies { test: false } => policies::build(),
        Chore::Policies { test: true } => policies::test(),
        Chore::Test { all } => test::test(all),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Bench(options) => bench::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The directory with the workspace's `Cargo.toml`.
fn workspace() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(std::env::current_dir, |d| Ok(d.into()))?;
    let root = here.ancestors().find(|d| d.join("Cargo.lock").is_file());
    root.map(Path::to_path_buf).ok_or_else(|| anyhow::anyhow!("{} is outside of the workspace", here.display()))
}

/// Where cargo puts what it builds.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |d| root.join(d))
}

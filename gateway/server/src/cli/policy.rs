//! `policy`: from an empty directory to a policy that is known to do what it should. Guests run here under the limits that they
//! have in a gateway; no command of these needs one, or a configuration.

mod bench;
mod build;
pub(super) mod cases;
mod check;
mod directory;
mod guest;
mod inspect;
mod new;
mod test;

use super::output::{Answer, Failure};
use clap::Subcommand;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Begin a policy: a directory with one that works, its settings and its cases
    New(new::Arguments),
    /// Make a component of a policy's source
    Build(build::Arguments),
    /// Say whether a gateway would take it: world, imports, limits, settings, a first call of each hook
    Check(check::Arguments),
    /// Run its cases, and say which hooks and verdicts no case reaches
    Test(test::Arguments),
    /// Measure a decision, fresh and reused
    Bench(bench::Arguments),
    /// Show what a component is and says of itself
    Inspect(inspect::Arguments),
}

/// Does it. `json` says how it will be answered.
pub(super) fn run(command: Command, json: bool) -> Result<Answer, Failure> {
    match command {
        Command::New(arguments) => new::run(&arguments),
        Command::Build(arguments) => build::run(&arguments, json),
        Command::Check(arguments) => check::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
    }
}

/// How wide a table may be; none where no terminal bounds it.
fn width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| width.0.into())
}

/// A size for people.
fn size(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes.div_ceil(1024)) }
}

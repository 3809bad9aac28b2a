//! `policy`: each tenant's own rules, from an empty directory to a policy in force. Guests run here under the limits that they
//! have in a gateway.

mod artifact;
mod attach;
mod bench;
mod build;
pub(super) mod cases;
mod check;
mod directory;
mod guest;
mod inspect;
mod new;
mod push;
mod record;
mod replay;
mod scan;
mod status;
mod test;

use super::output::{Answer, Failure};
use super::session::Session;
use clap::Subcommand;
use std::time::Duration;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(flatten)]
    Author(Author),
    #[command(flatten)]
    Operate(Operate),
}

/// What their authors do, who have no gateway, and no configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Author {
    /// Begin a policy: a directory with one that works, its settings and its cases
    New(new::Arguments),
    /// Make a component of a policy's source
    Build(build::Arguments),
    /// Say whether a gateway would take it: world, imports, limits, settings, a first call of each hook
    Check(check::Arguments),
    /// Run its cases, and say which hooks and verdicts no case reaches
    Test(test::Arguments),
    /// Ask recorded questions again, and say where the answer is another one
    Replay(replay::Arguments),
    /// Measure a decision, fresh and reused
    Bench(bench::Arguments),
    /// Show what a component is and says of itself
    Inspect(inspect::Arguments),
    /// Put a component into the registry, with the login of docker or podman
    Push(push::Arguments),
}

/// What is done where a gateway is.
#[derive(Debug, Subcommand)]
pub(super) enum Operate {
    /// Attach a policy to a project or to the platform, or change one that is attached
    Attach(attach::Attach),
    /// Take a policy away from a project or from the platform
    Detach(attach::Detach),
    /// Show what is attached, and what the running gateway counted of it
    Status(status::Arguments),
    /// Keep real questions about a project, with what a policy said, as cases
    Record(record::Arguments),
    /// Say what policies would say of everything that a project has stored
    Scan(scan::Arguments),
}

/// Does what authors do. `json` says how it will be answered.
pub(super) fn author(command: Author, json: bool) -> Result<Answer, Failure> {
    match command {
        Author::New(arguments) => new::run(&arguments),
        Author::Build(arguments) => build::run(&arguments, json),
        Author::Check(arguments) => check::run(&arguments),
        Author::Test(arguments) => test::run(&arguments),
        Author::Replay(arguments) => replay::run(&arguments),
        Author::Bench(arguments) => bench::run(&arguments),
        Author::Inspect(arguments) => inspect::run(&arguments),
        Author::Push(arguments) => super::block_on(push::run(&arguments)),
    }
}

/// Does what is done where a gateway is.
pub(super) async fn operate(command: Operate, session: &Session) -> Result<Answer, Failure> {
    match command {
        Operate::Attach(wanted) => attach::attach(wanted, session).await,
        Operate::Detach(wanted) => attach::detach(wanted, session).await,
        Operate::Status(wanted) => status::run(&wanted, session).await,
        Operate::Record(wanted) => record::run(&wanted, session).await,
        Operate::Scan(wanted) => scan::run(&wanted, session).await,
    }
}

/// How wide a table may be; none where no terminal bounds it.
fn width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| width.0.into())
}

/// A size for people.
fn size(bytes: usize) -> String {
    match bytes {
        ..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => short(format!("{:.1}", bytes as f64 / f64::from(1 << 20)), "MiB"),
    }
}

/// A time for people.
fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        ..100.0 => format!("{us:.1} µs"),
        ..1_000.0 => format!("{us:.0} µs"),
        _ => short(format!("{:.1}", us / 1e3), "ms"),
    }
}

/// A number with its unit, without a decimal that says nothing.
fn short(number: String, unit: &str) -> String {
    format!("{} {unit}", number.strip_suffix(".0").unwrap_or(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [12, 1025, 1 << 20, 1_100_000, 32 << 20].map(size);
        assert_eq!(sizes, ["12 B", "2 KiB", "1 MiB", "1 MiB", "32 MiB"]);
        let times = [1_234, 12_345, 123_456, 5_000_000, 20_400_000].map(|ns| time(Duration::from_nanos(ns)));
        assert_eq!(times, ["1.2 µs", "12.3 µs", "123 µs", "5 ms", "20.4 ms"]);
    }
}

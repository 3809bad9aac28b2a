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
use std::time::Duration;

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

//! What came out, as Markdown that is also read on a terminal. Every figure in it was measured in this run.

use super::gate::DISTURBED;
use super::{Bench, Finding, Pushed, Reading, SMALL};
use crate::parts;
use crate::processes::ask;
use anyhow::Result;
use std::fmt::{self, Display, Formatter};
use std::process::Command;

/// A finished benchmark, to be shown.
pub struct Report<'a> {
    bench: &'a Bench,
    machine: Vec<(&'static str, String)>,
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;
const GIBIBYTE: f64 = 1024.0 * MEBIBYTE;

impl<'a> Report<'a> {
    /// Asks the machine what it is, and the programs for their versions.
    pub fn of(bench: &'a Bench) -> Result<Self> {
        let machine = vec![
            ("date", ask(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?),
            ("processor", format!("{} x {}", bench.cores, processor()?)),
            ("kernel", std::fs::read_to_string("/proc/sys/kernel/osrelease")?),
            ("Portcullis", portcullis(bench)),
            ("HAProxy", version(&["haproxy"], "-v")),
            ("nginx", version(&["nginx"], "-v")),
            ("registry", version(parts::REGISTRY, "--version")),
            ("wrk", version(&["wrk"], "--version")),
            ("h2load", version(&["h2load"], "--version")),
            ("curl", version(&["curl"], "--version")),
            (
                "runs",
                format!(
                    "medians of {} a contestant, {} s each (a blob: until it is there)",
                    bench.rounds,
                    bench.time.as_secs()
                ),
            ),
        ];
        Ok(Self { bench, machine })
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.bench.findings.iter().flat_map(|finding| self.rows_of(finding)).collect()
    }

    fn rows_of(&self, finding: &Finding) -> Vec<Vec<String>> {
        let Some((first, last)) = finding.lanes.first().zip(finding.lanes.last()) else { return Vec::new() };
        let alone = finding.lanes.len() == 1;
        let row = |what: String, figure: &dyn Fn(&Reading) -> f64, digits: usize| {
            let ours = median(&last.1, figure);
            let theirs = (!alone).then(|| median(&first.1, figure));
            let show = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| decimal(figure, digits));
            let ratio = theirs.map_or_else(|| "-".to_owned(), |theirs| decimal(ours / theirs, 2));
            vec![what, show(theirs), show(Some(ours)), ratio, String::new(), String::new()]
        };
        let (unit, factor) = finding.load.unit();
        let mut head = row(format!("{}: {unit}/s", finding.what), &|reading| reading.counted.rate * factor, 0);
        let to_reach = finding.to_reach.map_or_else(String::new, |ratio| format!(">= {ratio}"));
        let quiet = quiet(finding);
        if let [.., _, goal, quietness] = &mut head[..] {
            *goal = to_reach;
            *quietness = quiet;
        }
        if alone && let [.., ratio, _, _] = &mut head[..] {
            *ratio = self.to_small(last).map_or_else(|| "-".to_owned(), |ratio| decimal(ratio, 2));
        }
        let (each, scale) = finding.load.each();
        let cpu = row(
            format!("- processor time of the proxy, {each}"),
            &|reading| reading.watched.proxy.total() / reading.counted.amount * scale,
            1,
        );
        let mut rows = vec![head, cpu];
        if last.1.iter().any(|reading| reading.counted.p99.is_some()) {
            rows.push(row("- p99, ms".to_owned(), &|reading| reading.counted.p99.unwrap_or(f64::NAN), 2));
        }
        rows
    }

    /// Compared with the gateway's own small GET.
    fn to_small(&self, lane: &(&str, Vec<Reading>)) -> Option<f64> {
        let small = self.bench.findings.iter().find(|finding| finding.what == SMALL)?.lanes.last()?;
        let rate = |reading: &Reading| reading.counted.rate;
        Some(median(&lane.1, &rate) / median(&small.1, &rate))
    }

    fn times(&self) -> Vec<Vec<String>> {
        let lanes =
            self.bench.findings.iter().flat_map(|finding| finding.lanes.iter().map(move |lane| (finding, lane)));
        lanes
            .map(|(finding, (name, readings))| {
                let (_, scale) = finding.load.each();
                let share = |figure: &dyn Fn(&Reading) -> f64| {
                    decimal(median(readings, &|reading: &Reading| figure(reading) / reading.counted.amount * scale), 1)
                };
                let cores = |position: usize| {
                    decimal(median(readings, &|reading| reading.watched.cores.get(position).copied().unwrap_or(0.0)), 2)
                };
                vec![
                    finding.what.to_owned(),
                    (*name).to_owned(),
                    share(&|reading| reading.watched.proxy.user),
                    share(&|reading| reading.watched.proxy.system),
                    cores(0),
                    cores(1),
                    cores(3),
                    decimal(median(readings, &|reading| reading.watched.resident as f64) / MEBIBYTE, 0),
                ]
            })
            .collect()
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let machine: Vec<_> =
            self.machine.iter().map(|(name, value)| vec![(*name).to_owned(), value.trim().to_owned()]).collect();
        write!(
            f,
            "# Benchmarks

Written by `make bench`; every figure comes from that one run. HAProxy and Portcullis stand before the same
nginx, with the same certificate (ECDSA P-256, TLS 1.3), and run in turns. HAProxy checks nothing; Portcullis
checks the host, the token, the project and the scope of each request, rebuilds its path, and hashes what it relays.

{}
## Beside HAProxy

{}
- `ratio` is Portcullis to HAProxy. Ratios, and with care the processor time, can be compared with other runs
  and machines; all else belongs to this machine, on which client, proxy and upstream share the cores.
- `tokens issued` has no counterpart: its ratio is to the gateway's own small GET.
- `registry` rows have the bare registry in HAProxy's place. They are for information: a registry is slow enough
  to hide what stands before it.
- `quiet` counts the runs during which everything else on the machine used less than {DISTURBED} cores. A run that was
  disturbed is made again, a few times; after that the quietest counts, and is not called quiet.
- A small GET is a manifest of {} bytes by its digest. The load is closed: a client waits for its answer before it
  asks again, so p99 is that of a saturated machine and not of a given rate.
",
            table(&["machine", ""], &machine, 2),
            table(&["work", "HAProxy", "Portcullis", "ratio", "goal", "quiet"], &self.rows(), 1),
            super::content::MANIFEST_BYTES,
        )?;
        if let Some(pushed) = &self.bench.pushed {
            push(f, pushed)?;
        }
        write!(
            f,
            "
## Where the time goes

Processor time of the proxy in its own code and in the kernel, µs a request (a blob: ms a GiB); the cores that client,
proxy and upstream used; and the proxy's memory (RSS), MiB.

{}",
            table(&["work", "proxy", "user", "kernel", "client", "proxy", "upstream", "MiB"], &self.times(), 2)
        )
    }
}

fn push(f: &mut Formatter<'_>, pushed: &Pushed) -> fmt::Result {
    write!(
        f,
        "
## Memory of a push

A blob of {} MiB was pushed through the gateway to a real registry in one chunk of unknown length: {} MB/s, {} ms
of the gateway's processor time a GiB. Its memory (RSS) grew by {} MiB at its highest; less than 32 is the goal.
",
        decimal(pushed.bytes as f64 / MEBIBYTE, 0),
        decimal(pushed.bytes as f64 / pushed.seconds / 1e6, 0),
        decimal(pushed.watched.proxy.total() * 1e3 * GIBIBYTE / pushed.bytes as f64, 0),
        decimal(pushed.growth as f64 / MEBIBYTE, 1),
    )
}

fn quiet(finding: &Finding) -> String {
    let readings = || finding.lanes.iter().flat_map(|(_, readings)| readings);
    let quiet = readings().filter(|reading| reading.watched.is_quiet()).count();
    match readings().count() {
        all if all == quiet => "yes".to_owned(),
        all => format!("{quiet} of {all}"),
    }
}

/// The middle of a figure over some runs.
pub(super) fn median<T>(readings: &[T], figure: &dyn Fn(&T) -> f64) -> f64 {
    let mut figures: Vec<f64> = readings.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    let lower = figures.len().saturating_sub(1) / 2;
    match (figures.get(lower), figures.get(upper)) {
        (Some(lower), Some(upper)) => (lower + upper) / 2.0,
        _ => f64::NAN,
    }
}

/// A number with a space between its thousands.
pub(super) fn decimal(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && whole.len().saturating_sub(position).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// A table whose columns are aligned: the first so many to the left, the others to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], left: usize) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(2)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < left { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") }
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = widths.iter().enumerate().map(|(column, width)| {
        let dashes = "-".repeat(width.saturating_add(1));
        if column < left { format!("{dashes}-|") } else { format!("{dashes}:|") }
    });
    let rule = format!("|{}\n", rule.collect::<String>());
    line(&head) + &rule + &rows.iter().map(line).collect::<String>()
}

pub(super) fn processor() -> Result<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    Ok(model.map_or("unknown", |(_, model)| model).trim().to_owned())
}

/// The version, and the commit that it was built from, where that is known.
fn portcullis(bench: &Bench) -> String {
    let version = first_line(Command::new(&bench.binary).arg("--version"));
    let commit =
        ask(Command::new("git").args(["describe", "--always", "--dirty", "--exclude", "*"])).unwrap_or_default();
    format!("{version} {}", commit.trim())
}

fn version(names: &[&str], flag: &str) -> String {
    parts::find(names).map_or_else(|| "missing".to_owned(), |program| first_line(Command::new(program).arg(flag)))
}

/// The first line of what a program says, wherever it says it.
fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_kept_apart() {
        assert_eq!(decimal(1_234_567.4, 0), "1 234 567");
        assert_eq!(decimal(999.0, 0), "999");
        assert_eq!(decimal(1234.56, 1), "1 234.6");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), "1".to_owned()]];
        assert_eq!(table(&["work", "n"], &rows, 1), "| work |  n |\n|------|---:|\n| a    | 10 |\n| long |  1 |\n");
    }
}

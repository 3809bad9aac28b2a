//! What counting costs: pushes of manifests into one project, to a registry alone and through the gateway before one, in turns.

use super::content::{Content, MANIFEST, REPOSITORY, Scratch};
use super::gate::{Gate, Subjects, Watched, watch};
use super::postgres::Postgres;
use super::report::{decimal, median, processor, table};
use super::stage::{Gateway, Server};
use super::{DEADLINE, Options, build, load};
use crate::parts::{Purpose, ensure};
use crate::processes::ask;
use crate::target;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the page is kept.
const PAGE: &str = "gateway/store/BENCHMARKS.md";
/// Clients, each of which waits for its answer before it pushes again.
const CLIENTS: usize = 64;
/// What the gateway has to reach of the registry's own pushes.
const GOAL: f64 = 0.8;
/// Checked at every push and never reached.
const QUOTA: &str = "1TiB";

/// Each push is a manifest of its own under a tag of its own; its blob is there.
const SCRIPT: &str = r#"
local threads, pushed, path = 0, 0, "/v2/%REPOSITORY%/manifests/"
local before, after = [[%BEFORE%]], [[%AFTER%]]
function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end
function init(words)
    run = words[1]
end
function request()
    pushed = pushed + 1
    local name = run .. "-" .. number .. "-" .. pushed
    return wrk.format("PUT", path .. name, nil, before .. name .. after)
end
"#;

/// One contestant, with a registry of its own behind it.
struct Lane {
    name: &'static str,
    registry: Server,
    gateway: Option<Gateway>,
    /// Its store's server, where it has one.
    store: Option<u32>,
    authorization: Option<String>,
    runs: Vec<Run>,
}

/// One run.
struct Run {
    rate: f64,
    pushes: f64,
    p50: f64,
    p99: f64,
    failures: f64,
    watched: Watched,
}

/// Measures, prints what came out, and unless it was only to see whether it works writes it down.
pub(super) fn run(root: &Path, options: &Options) -> Result<()> {
    ensure(Purpose::Bench)?;
    let binary = match &options.gateway {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => build(root)?,
    };
    let scratch = Scratch::new(target(root).join("bench"))?;
    let (rounds, seconds, patience) = if options.quick { (1, 2, 5) } else { (options.rounds, 5, 180) };
    let postgres = Postgres::start(&scratch)?;
    let script = script(&scratch)?;
    let mut lanes = vec![
        Lane::alone(&scratch)?,
        Lane::gateway(&scratch, "Portcullis on SQLite", "sqlite", &binary, None)?,
        Lane::gateway(&scratch, "Portcullis on PostgreSQL", "postgresql", &binary, Some(&postgres))?,
    ];
    let config = Content::text(scratch.path("config"), "{}")?;
    lanes.iter().try_for_each(|lane| lane.put_blob(&config))?;
    let mut gate = Gate::new(Duration::from_secs(patience));
    for lane in &lanes {
        watch(&mut lane.load(&script, "warm", 1), lane.subjects())?;
    }
    for round in 0..rounds {
        for lane in &mut lanes {
            let mut attempt = 0_u32;
            let commands = || {
                attempt = attempt.saturating_add(1);
                lane.load(&script, &format!("r{round}-{attempt}"), seconds)
            };
            let run = Run::of(gate.run(commands, lane.subjects())?)?;
            println!("  {:<26} {:>7.0} pushes/s, others {:.2} cores", lane.name, run.rate, run.watched.foreign_cores);
            lane.runs.push(run);
        }
    }
    let page = page(&lanes, &binary, rounds, seconds)?;
    println!("\n{page}");
    if !options.quick && options.gateway.is_none() {
        std::fs::write(root.join(PAGE), page)?;
        println!("written to {PAGE}");
    }
    Ok(())
}

/// The file that tells wrk what to send.
fn script(scratch: &Scratch) -> Result<PathBuf> {
    let config = Content::text(scratch.path("config"), "{}")?;
    let kind = "application/vnd.oci.image.config.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": kind, "digest": config.digest, "size": 2}, "annotations": {"name": "%NAME%"},
    });
    let manifest = manifest.to_string();
    let (before, after) = manifest.split_once("%NAME%").context("the name was just put there")?;
    let text = SCRIPT.replace("%REPOSITORY%", REPOSITORY).replace("%BEFORE%", before).replace("%AFTER%", after);
    let file = scratch.path("push.lua");
    std::fs::write(&file, text)?;
    Ok(file)
}

impl Lane {
    fn alone(scratch: &Scratch) -> Result<Self> {
        let registry = Server::registry(scratch, "registry-alone")?;
        Ok(Self { name: "registry alone", registry, gateway: None, store: None, authorization: None, runs: Vec::new() })
    }

    fn gateway(
        scratch: &Scratch,
        name: &'static str,
        directory: &str,
        binary: &Path,
        store: Option<&Postgres>,
    ) -> Result<Self> {
        let registry = Server::registry(scratch, &format!("registry-{directory}"))?;
        let gateway =
            Gateway::start(scratch, directory, binary, &registry, store.map(|store| &*store.url), Some(QUOTA))?;
        let authorization = Some(gateway.bearer()?);
        let store = store.map(Postgres::id);
        Ok(Self { name, registry, gateway: Some(gateway), store, authorization, runs: Vec::new() })
    }

    fn server(&self) -> &Server {
        self.gateway.as_ref().map_or(&self.registry, |gateway| &gateway.server)
    }

    fn subjects(&self) -> Subjects {
        Subjects { proxy: self.server().id(), upstream: self.registry.id(), store: self.store, deadline: DEADLINE }
    }

    /// wrk, with the word that makes this run's tags its own.
    fn load(&self, script: &Path, run: &str, seconds: u32) -> Command {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(CLIENTS);
        let mut wrk = Command::new("wrk");
        wrk.args([format!("-t{threads}"), format!("-c{CLIENTS}"), format!("-d{seconds}s")]);
        wrk.args(["--latency", "--timeout", "30s", "-s"]).arg(script);
        wrk.args(["-H", &format!("content-type: {MANIFEST}")]);
        if let Some(value) = &self.authorization {
            wrk.args(["-H", &format!("authorization: {value}")]);
        }
        wrk.arg(&self.server().origin).args(["--", run]);
        wrk
    }

    /// The blob that every manifest names.
    fn put_blob(&self, blob: &Content) -> Result<()> {
        let curl = |url: &str| {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail", "--insecure", "--max-time", "30", "--dump-header", "-"]);
            curl.args(self.authorization.iter().flat_map(|value| ["-H".to_owned(), format!("authorization: {value}")]));
            curl.arg(url);
            curl
        };
        let origin = &self.server().origin;
        let opened = ask(curl(&format!("{origin}/v2/{REPOSITORY}/blobs/uploads/")).args(["--request", "POST"]))?;
        let location = super::push::location(&opened)?;
        let location = if location.starts_with('/') { format!("{origin}{location}") } else { location };
        let separator = if location.contains('?') { '&' } else { '?' };
        let mut put = curl(&format!("{location}{separator}digest={}", blob.digest));
        put.args(["--request", "PUT", "-H", "content-type: application/octet-stream", "--data-binary"]);
        ask(put.arg(format!("@{}", blob.file.display()))).map(|_| ())
    }
}

impl Run {
    /// What wrk said. A run without a single push has no times.
    fn of(watched: Watched) -> Result<Self> {
        let [rate, pushes, p50, p99, failures] = read(&watched.output).with_context(|| watched.output.clone())?;
        Ok(Self { rate, pushes, p50, p99, failures, watched })
    }
}

/// Pushes a second, pushes, the times within which half and 99 of 100 had their answer in milliseconds, and failures.
fn read(output: &str) -> Result<[f64; 5]> {
    let failures = ["Non-2xx or 3xx responses: ", "connect ", "read ", "write ", "timeout "].iter();
    let failures = failures.filter_map(|what| load::word_after(output, what).ok());
    let failures = failures.filter_map(|word| word.trim_end_matches(',').parse::<f64>().ok()).sum();
    let pushes = load::number(load::word_before(output, " requests in ")?)?;
    if pushes < 1.0 {
        bail!("nothing was pushed");
    }
    let rate = load::number(load::word_after(output, "Requests/sec:")?)?;
    let within = |part| load::milliseconds(load::word_after(output, part)?);
    Ok([rate, pushes, within(" 50%")?, within(" 99%")?, failures])
}

fn page(lanes: &[Lane], binary: &Path, rounds: u32, seconds: u32) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let (processor, kernel) = (processor()?, std::fs::read_to_string("/proc/sys/kernel/osrelease")?);
    let date = ask(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    let version = ask(Command::new(binary).arg("--version"))?;
    let rows: Vec<Vec<String>> = lanes.iter().map(|lane| lane.row(lanes.first())).collect();
    let times: Vec<Vec<String>> = lanes.iter().map(Lane::times).collect();
    Ok(format!(
        "# What counting costs a push

Written by `cargo xtask bench quota`; every figure comes from that one run. {CLIENTS} clients push into one project, each the next
manifest as soon as it has the answer to the one before: a small one of its own each time, under a tag of its own, naming a blob
that is there. The project has a quota, which is checked at every push and never reached. Every contestant has a registry of its
own behind it; they run in turns, medians of {rounds} runs of {seconds} s. Client, gateway, store and registry share the machine:
compare ratios.

{cores} x {processor}, kernel {}, {}, {}.

{}
- `ratio` is to the registry alone in the same turn, the median of all turns: what changes from turn to turn is the machine. The
  goal is that no push fails, and {GOAL} of what the registry takes by itself.
- Both stores are durable: SQLite with `synchronous = FULL`, PostgreSQL with `fsync = on`, on the same disk as the registries.
  PostgreSQL's log has gone round before, as on a server in use: no run waits for a file of it to be made.
- `quiet` counts the runs during which everything else on the machine used less than 0.1 cores.

## Where the time goes

Processor time of the contestant in its own code and in the kernel, µs a push, and the cores that client, contestant, its
database server and the registry behind it used.

{}",
        kernel.trim(),
        version.trim(),
        date.trim(),
        table(&["", "pushes/s", "p50, ms", "p99, ms", "failed", "ratio", "goal", "quiet"], &rows, 1),
        table(&["", "user", "kernel", "client", "contestant", "database", "registry"], &times, 1),
    ))
}

impl Lane {
    fn row(&self, alone: Option<&Self>) -> Vec<String> {
        let of = |figure: &dyn Fn(&Run) -> f64| median(&self.runs, figure);
        let turns = alone.into_iter().flat_map(|alone| self.runs.iter().zip(&alone.runs));
        let ratios: Vec<f64> = turns.map(|(run, alone)| run.rate / alone.rate).collect();
        let failures = self.runs.iter().fold(0.0, |sum, run| sum + run.failures);
        let quiet = self.runs.iter().filter(|run| run.watched.is_quiet()).count();
        let is_gateway = self.gateway.is_some();
        vec![
            self.name.to_owned(),
            decimal(of(&|run| run.rate), 0),
            decimal(of(&|run| run.p50), 1),
            decimal(of(&|run| run.p99), 1),
            decimal(failures, 0),
            decimal(median(&ratios, &|ratio| *ratio), 2),
            if is_gateway { format!(">= {GOAL}") } else { String::new() },
            format!("{quiet} of {}", self.runs.len()),
        ]
    }

    fn times(&self) -> Vec<String> {
        let of = |figure: &dyn Fn(&Run) -> f64| median(&self.runs, figure);
        let cores = |place: usize| decimal(of(&|run| run.watched.cores.get(place).copied().unwrap_or(0.0)), 2);
        let each = |figure: &dyn Fn(&Run) -> f64| decimal(of(&|run| figure(run) / run.pushes * 1e6), 0);
        vec![
            self.name.to_owned(),
            each(&|run| run.watched.proxy.user),
            each(&|run| run.watched.proxy.system),
            cores(0),
            cores(1),
            cores(2),
            cores(3),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_of_pushes_is_read_with_its_failures() {
        let output = "Running 5s test @ https://127.0.0.1:1\n  2 threads and 64 connections\n  Latency Distribution\n     50%   \
                      40.10ms\n     99%    1.20s \n  3500 requests in 5.01s, 1.20MB read\nRequests/sec:    698.60\n";
        assert_eq!(read(output).unwrap(), [698.6, 3500.0, 40.1, 1200.0, 0.0]);
        let failed =
            format!("{output}  Non-2xx or 3xx responses: 7\n  Socket errors: connect 0, read 1, write 0, timeout 2\n");
        assert_eq!(read(&failed).unwrap()[4], 10.0);
    }
}

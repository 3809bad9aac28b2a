//! What a request and a blob cost: HAProxy and the gateway before the same upstream, in turns, in one run.
//!
//! Client, proxy and upstream share the machine, so that ratios within one run and time per request mean something, and
//! figures by themselves little. Nothing here passes or fails by a time.

mod content;
mod gate;
mod load;
mod policy;
mod postgres;
mod push;
mod quota;
mod report;
mod stage;
mod usage;

use crate::parts::{Purpose, ensure};
use crate::processes::call;
use crate::{target, workspace};
use anyhow::{Context as _, Result};
use content::{Content, PULLED_BYTES, PUSHED_BYTES, Scratch, blob_path, manifest_path};
use gate::{Gate, Subjects, Watched, watch};
use load::{Counted, Load};
use push::{Pushed, Pusher};
use report::Report;
use stage::{Gateway, Server};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// What to measure
    #[arg(value_enum, default_value_t = What::Gateway)]
    what: What,
    /// One round of short runs, to see whether everything works; no report is written
    #[arg(long)]
    quick: bool,
    /// How often every contestant runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure only the work whose description holds this; no report is written
    #[arg(long)]
    only: Option<String>,
    /// A gateway that was built before, instead of building it; no report is written
    #[arg(long)]
    gateway: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The gateway beside HAProxy
    Gateway,
    /// What policies cost: a call, a load, a deployment
    Policy,
    /// What counting costs: pushes beside the registry alone
    Quota,
}

/// One piece of work, done by all contestants in turns.
struct Race<'a> {
    what: &'static str,
    load: Load,
    path: String,
    /// The first is what the last is compared with.
    lanes: Vec<Lane<'a>>,
    /// What the ratio of the last to the first has to be.
    to_reach: Option<f64>,
}

/// One contestant.
struct Lane<'a> {
    name: &'static str,
    server: &'a Server,
    upstream: &'a Server,
    authorization: Option<String>,
}

/// What came of a race.
struct Finding {
    what: &'static str,
    load: Load,
    to_reach: Option<f64>,
    lanes: Vec<(&'static str, Vec<Reading>)>,
}

/// One run.
struct Reading {
    counted: Counted,
    watched: Watched,
}

/// A benchmark under way.
struct Bench {
    binary: PathBuf,
    scratch: Scratch,
    rounds: u32,
    time: Duration,
    cores: usize,
    only: Option<String>,
    gate: Gate,
    findings: Vec<Finding>,
    pushed: Option<Pushed>,
}

/// The race that memory and issued tokens are compared with.
const SMALL: &str = "small GET, 64 connections";
const REGISTRY: &str = "registry: manifest, 64 connections";
const PUSH: &str = "registry: push of 2 GiB";
/// What one run may take at most.
const DEADLINE: Duration = Duration::from_secs(60);

/// Measures, prints what came out, and writes it down.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace()?;
    match options.what {
        What::Policy => return policy::run(&root, options.quick),
        What::Quota => return quota::run(&root, options),
        What::Gateway => {}
    }
    ensure(Purpose::Bench)?;
    let binary = match &options.gateway {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => build(&root)?,
    };
    let (rounds, seconds, patience) = if options.quick { (1, 2, 5) } else { (options.rounds, 3, 180) };
    let mut bench = Bench {
        binary,
        scratch: Scratch::new(target(&root).join("bench"))?,
        rounds,
        time: Duration::from_secs(seconds),
        cores: std::thread::available_parallelism()?.get(),
        only: options.only.clone(),
        gate: Gate::new(Duration::from_secs(patience)),
        findings: Vec::new(),
        pushed: None,
    };
    bench.all()?;
    let report = Report::of(&bench)?.to_string();
    println!("\n{report}");
    if !options.quick && options.only.is_none() && options.gateway.is_none() {
        std::fs::write(root.join("gateway/BENCHMARKS.md"), report)?;
        println!("written to gateway/BENCHMARKS.md");
    }
    Ok(())
}

fn build(root: &Path) -> Result<PathBuf> {
    println!("building the gateway (the first time takes some minutes)");
    call(Command::new("cargo").args(["build", "--release", "--locked", "--package", "portcullis"]).current_dir(root))?;
    Ok(target(root).join("release/portcullis"))
}

impl Bench {
    fn all(&mut self) -> Result<()> {
        println!("making what is served");
        let config = Content::text(self.scratch.path("config"), "{}")?;
        let manifest = Content::manifest(self.scratch.path("manifest"), &config)?;
        self.before_nginx(&manifest)?;
        if self.is_wanted(PUSH) || self.is_wanted(REGISTRY) {
            self.before_a_registry(&config, &manifest)?;
        }
        Ok(())
    }

    /// HAProxy and the gateway before the same static files.
    fn before_nginx(&mut self, manifest: &Content) -> Result<()> {
        let blob = Content::zeros(self.scratch.path("pulled"), PULLED_BYTES)?;
        let nginx = Server::nginx(&self.scratch, self.cores, manifest, &blob)?;
        let gateway = Gateway::start(&self.scratch, "gateway", &self.binary, &nginx, None, None)?;
        let haproxy = Server::haproxy(&self.scratch, self.cores, &nginx, &gateway)?;
        let bearer = gateway.bearer()?;
        let lane = |name, server| Lane { name, server, upstream: &nginx, authorization: Some(bearer.clone()) };
        let race = |what, load, path, to_reach| {
            let lanes = vec![lane("HAProxy", &haproxy), lane("Portcullis", &gateway.server)];
            Race { what, load, path, lanes, to_reach }
        };
        let (small, large) = (manifest_path(manifest), blob_path(&blob));
        let small = |what, load, to_reach| race(what, load, small.clone(), to_reach);
        let large = |what, http2, to_reach| race(what, Load::Body { http2 }, large.clone(), to_reach);
        let tokens = Race {
            what: "tokens issued, 64 connections",
            load: Load::Kept(64),
            path: Gateway::token_path(),
            lanes: vec![Lane { authorization: Some(gateway.basic()), ..lane("Portcullis", &gateway.server) }],
            to_reach: Some(0.3),
        };
        let races = [
            small(SMALL, Load::Kept(64), Some(0.8)),
            small("small GET, 16 connections", Load::Kept(16), Some(0.8)),
            small("small GET, 1 connection", Load::Kept(1), Some(0.8)),
            small("small GET, HTTP/2, 8 x 8 streams", Load::Streams(8, 8), Some(0.7)),
            small("small GET, a connection for each", Load::Fresh(16), None),
            large("1 GiB blob, HTTP/1.1", false, Some(0.8)),
            large("1 GiB blob, HTTP/2", true, Some(0.7)),
            tokens,
        ];
        races.iter().try_for_each(|race| self.race(race))
    }

    /// The gateway before a real registry, and that registry alone.
    fn before_a_registry(&mut self, config: &Content, manifest: &Content) -> Result<()> {
        let registry = Server::registry(&self.scratch, "registry")?;
        let gateway = Gateway::start(&self.scratch, "gateway-before-registry", &self.binary, &registry, None, None)?;
        let pusher = Pusher::new(&gateway, &registry)?;
        pusher.blob(config)?;
        if self.is_wanted(PUSH) {
            println!("{PUSH}");
            self.pushed = Some(pusher.blob(&Content::zeros(self.scratch.path("pushed"), PUSHED_BYTES)?)?);
        }
        pusher.manifest(manifest)?;
        let lane = |name, server, authorization| Lane { name, server, upstream: &registry, authorization };
        self.race(&Race {
            what: REGISTRY,
            load: Load::Kept(64),
            path: manifest_path(manifest),
            lanes: vec![
                lane("registry alone", &registry, None),
                lane("Portcullis", &gateway.server, Some(gateway.bearer()?)),
            ],
            to_reach: None,
        })
    }

    fn is_wanted(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| what.contains(only))
    }

    fn race(&mut self, race: &Race<'_>) -> Result<()> {
        if !self.is_wanted(race.what) {
            return Ok(());
        }
        println!("{}", race.what);
        let mut lanes: Vec<_> = race.lanes.iter().map(|lane| (lane.name, Vec::new())).collect();
        for lane in &race.lanes {
            // For connections to be opened and caches to be filled.
            watch(&mut race.command(lane, Duration::from_secs(1), self.cores), lane.subjects())?;
        }
        for _ in 0..self.rounds {
            for (lane, (_, readings)) in race.lanes.iter().zip(&mut lanes) {
                let watched = self.gate.run(|| race.command(lane, self.time, self.cores), lane.subjects())?;
                let counted = race.load.read(&watched.output)?;
                let (unit, factor) = race.load.unit();
                let rate = counted.rate * factor;
                println!("  {:<14} {rate:>9.0} {unit}/s, others {:.2} cores", lane.name, watched.foreign_cores);
                readings.push(Reading { counted, watched });
            }
        }
        self.findings.push(Finding { what: race.what, load: race.load, to_reach: race.to_reach, lanes });
        Ok(())
    }
}

impl Race<'_> {
    fn command(&self, lane: &Lane<'_>, time: Duration, cores: usize) -> Command {
        let url = format!("{}{}", lane.server.origin, self.path);
        self.load.command(&url, lane.authorization.as_deref(), time, cores)
    }
}

impl Lane<'_> {
    fn subjects(&self) -> Subjects {
        Subjects { proxy: self.server.id(), upstream: self.upstream.id(), store: None, deadline: DEADLINE }
    }
}

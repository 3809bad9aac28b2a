//! A demonstration that keeps its state: a registry, the gateway before it, a project with two robots, and lines to paste.

use crate::demo::Demo;
use crate::parts::{self, Purpose};
use crate::processes::{Owned, call};
use crate::{registry, target, workspace};
use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long the gateway may finish what is under way, and how long the registry.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(40), Duration::from_secs(5));
/// How long either may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// What happens while everything runs.
enum Event {
    /// The gateway takes requests.
    Ready,
    /// Somebody wants it to end.
    End,
}

/// Serves until Ctrl-C.
pub fn run() -> Result<()> {
    let upstream = std::env::var("UPSTREAM").ok().filter(|url| !url.is_empty());
    parts::ensure(if upstream.is_some() { Purpose::Gateway } else { Purpose::Run })?;
    let root = workspace()?;
    println!("building the gateway (the first time takes some minutes)");
    call(Command::new("cargo").args(["build", "--release", "--locked", "--package", "portcullis"]).current_dir(&root))?;
    let data = std::env::var_os("PORTCULLIS_DATA").filter(|path| !path.is_empty());
    let data = root.join(data.unwrap_or_else(|| ".portcullis".into()));
    let mut demo = Demo::open(&target(&root).join("release/portcullis"), &data)?;
    serve(&mut demo, upstream.as_deref())
}

fn serve(demo: &mut Demo, upstream: Option<&str>) -> Result<()> {
    let (events, happened) = channel();
    end_on_signal(events.clone())?;
    let mut registry = match upstream {
        Some(url) => {
            demo.stand_before(url)?;
            None
        }
        None => {
            let port = demo.stand_before_own_registry()?;
            Some(registry::start(&demo.directory().join("registry"), port, READY)?)
        }
    };
    demo.create_project()?;
    let mut gateway = Owned::start("the gateway", &demo.serve(), Stdio::piped(), Stdio::inherit())?;
    let lines = gateway.stdout().context("it was started with a pipe")?;
    std::thread::spawn(move || pass_on(lines, &events));

    let outcome = watch(&happened, &mut gateway, registry.as_mut(), demo);
    println!("ending: what is under way may finish; Ctrl-C again ends it at once");
    // Where we exit without waiting the kernel asks the children to end, too.
    std::thread::spawn(move || {
        while let Ok(event) = happened.recv() {
            if matches!(event, Event::End) {
                std::process::exit(130);
            }
        }
    });
    gateway.stop(PATIENCE.0);
    if let Some(mut registry) = registry {
        registry.stop(PATIENCE.1);
    }
    outcome
}

/// Waits until somebody wants it to end, or something ends by itself, which is an error.
fn watch(happened: &Receiver<Event>, gateway: &mut Owned, mut registry: Option<&mut Owned>, demo: &Demo) -> Result<()> {
    let mut waited = Some(Duration::ZERO);
    let step = Duration::from_millis(250);
    loop {
        match happened.recv_timeout(step) {
            Ok(Event::Ready) => {
                waited = None;
                demo.welcome()?;
            }
            Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                waited = waited.map(|so_far| so_far.saturating_add(step));
                if waited.is_some_and(|waited| waited > READY) {
                    bail!("the gateway was not ready within {READY:?}");
                }
            }
        }
        gateway.still_runs()?;
        registry.as_deref_mut().map_or(Ok(()), Owned::still_runs)?;
    }
}

fn end_on_signal(events: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if events.send(Event::End).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Tells when the gateway is ready, and passes its other lines on.
fn pass_on(lines: ChildStdout, events: &Sender<Event>) {
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        if line.starts_with("portcullis ready ") {
            let _ = events.send(Event::Ready);
        } else {
            println!("{line}");
        }
    }
}

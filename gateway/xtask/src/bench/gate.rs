//! A run is begun when the machine is quiet and thrown away when it did not stay so, as far as patience goes.

use super::usage::{Cpu, Snapshot, resident};
use anyhow::{Context as _, Result, bail};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Other processes that use this many cores or more disturb a run.
pub const DISTURBED: f64 = 0.1;
/// How long the machine is looked at before a run.
const LOOK: Duration = Duration::from_millis(400);
/// How often a run is made again.
const TRIES: u32 = 4;
/// How often memory is looked at while a program runs.
const STEP: Duration = Duration::from_millis(100);

/// What is looked at while a program runs.
#[derive(Clone, Copy)]
pub struct Subjects {
    /// The process under test.
    pub proxy: u32,
    /// What stands behind it.
    pub upstream: u32,
    /// The database server, where the process under test keeps its store in one.
    pub store: Option<u32>,
    /// What it may take at most.
    pub deadline: Duration,
}

/// A program's run.
pub struct Watched {
    /// What it wrote.
    pub output: String,
    /// Time of the process under test.
    pub proxy: Cpu,
    /// How many cores the client, the process under test, its database server and the upstream used.
    pub cores: [f64; 4],
    /// Most memory of the process under test, in bytes.
    pub resident: u64,
    /// How many cores others used.
    pub foreign_cores: f64,
}

impl Watched {
    /// Whether nothing else used the machine.
    pub fn is_quiet(&self) -> bool {
        self.foreign_cores < DISTURBED
    }
}

/// What is left of the time to wait in, and to make runs again in.
pub struct Gate {
    patience: Duration,
}

impl Gate {
    /// A gate that spends at most this much time on waiting and on runs thrown away.
    pub fn new(patience: Duration) -> Self {
        Self { patience }
    }

    /// Runs a program until a run was quiet; where none is, the quietest of them counts, and says so.
    pub fn run(&mut self, mut command: impl FnMut() -> Command, subjects: Subjects) -> Result<Watched> {
        let mut best: Option<Watched> = None;
        for _ in 0..TRIES {
            self.wait()?;
            let begun = Instant::now();
            let watched = watch(&mut command(), subjects)?;
            let quiet = watched.is_quiet();
            if best.as_ref().is_none_or(|best| watched.foreign_cores < best.foreign_cores) {
                best = Some(watched);
            }
            if quiet || self.patience.is_zero() {
                break;
            }
            self.patience = self.patience.saturating_sub(begun.elapsed());
        }
        best.context("no run was made")
    }

    /// Waits until nobody else uses the machine.
    fn wait(&mut self) -> Result<()> {
        let mut before = Snapshot::take()?;
        loop {
            std::thread::sleep(LOOK);
            let now = Snapshot::take()?;
            if now.since(&before).foreign_cores() < DISTURBED || self.patience.is_zero() {
                return Ok(());
            }
            self.patience = self.patience.saturating_sub(LOOK);
            before = now;
        }
    }
}

/// Runs a program to its end and watches what it does to the machine. Its failure is an error.
pub fn watch(command: &mut Command, subjects: Subjects) -> Result<Watched> {
    let name = command.get_program().to_string_lossy().into_owned();
    let before = Snapshot::take()?;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| name.clone())?;
    let mut client = Client { child };
    let output = client.child.stdout.take().context("it was started with a pipe")?;
    let errors = client.child.stderr.take().context("it was started with a pipe")?;
    let [output, errors] = [read_all(output), read_all(errors)];
    let (status, resident) = client.follow(subjects).with_context(|| name.clone())?;
    let after = Snapshot::take()?;
    let read = |text: std::thread::JoinHandle<String>| text.join().unwrap_or_default();
    let (output, errors) = (read(output), read(errors));
    if !status.success() {
        bail!("{name}: {status}\n{output}{errors}");
    }
    let span = after.since(&before);
    let (proxy, upstream) = (span.tree(subjects.proxy), span.tree(subjects.upstream));
    let store = subjects.store.map(|id| span.tree(id)).unwrap_or_default();
    let wall = span.wall().as_secs_f64();
    let cores = [span.ended_children(), proxy, store, upstream].map(|cpu| cpu.total() / wall);
    Ok(Watched { output, proxy, cores, resident, foreign_cores: span.foreign_cores() })
}

/// A program that is killed where it is not waited for.
struct Client {
    child: Child,
}

impl Client {
    /// Waits for its end, and returns the most memory that the process under test held meanwhile.
    fn follow(&mut self, subjects: Subjects) -> Result<(std::process::ExitStatus, u64)> {
        let begun = Instant::now();
        let mut most = resident(subjects.proxy)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, most));
            }
            if begun.elapsed() > subjects.deadline {
                bail!("it did not end within {:?}", subjects.deadline);
            }
            std::thread::sleep(STEP);
            most = most.max(resident(subjects.proxy)?);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        text
    })
}

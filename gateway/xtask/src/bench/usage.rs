//! What the kernel has counted: time and memory of processes, and time of the whole machine.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Linux counts time for its users in hundredths of a second on every platform that Rust knows.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// In the program itself.
    pub user: f64,
    /// In the kernel for it.
    pub system: f64,
}

impl Cpu {
    /// All of it.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    fn plus(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }

    fn minus(self, other: Self) -> Self {
        Self { user: self.user - other.user, system: self.system - other.system }
    }
}

struct Process {
    parent: u32,
    own: Cpu,
    /// Of children that have ended and been waited for.
    waited: Cpu,
}

/// The counters at one moment.
pub struct Snapshot {
    taken: Instant,
    machine: f64,
    processes: HashMap<u32, Process>,
}

/// What happened between two moments.
pub struct Span<'a> {
    from: &'a Snapshot,
    to: &'a Snapshot,
}

impl Snapshot {
    /// The counters now.
    pub fn take() -> Result<Self> {
        let taken = Instant::now();
        let ids = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // What ends while we look is no error.
        let processes = ids.filter_map(|id| Some((id, process(id)?))).collect();
        Ok(Self { taken, machine: machine()?, processes })
    }

    /// From an earlier moment to this one.
    pub fn since<'a>(&'a self, from: &'a Self) -> Span<'a> {
        Span { from, to: self }
    }

    /// A process and all that it started.
    fn tree(&self, root: u32) -> Cpu {
        let is_below = |mut id: u32| {
            // Parents are older than their children, so this ends; a process that ends meanwhile only shortens it.
            while id != root {
                match self.processes.get(&id) {
                    Some(process) if process.parent != id && process.parent != 0 => id = process.parent,
                    _ => return false,
                }
            }
            true
        };
        let own = self.processes.iter().filter(|(id, _)| is_below(**id)).map(|(_, process)| process.own);
        own.fold(Cpu::default(), Cpu::plus)
    }

    fn waited(&self) -> Cpu {
        self.processes.get(&std::process::id()).map_or_else(Cpu::default, |process| process.waited)
    }

    /// This process, what it started, and what of that has ended.
    fn ours(&self) -> f64 {
        self.tree(std::process::id()).plus(self.waited()).total()
    }
}

impl Span<'_> {
    /// How long it took.
    pub fn wall(&self) -> Duration {
        self.to.taken.duration_since(self.from.taken)
    }

    /// What a process and all that it started used.
    pub fn tree(&self, root: u32) -> Cpu {
        self.to.tree(root).minus(self.from.tree(root))
    }

    /// What those of our children used that ended meanwhile.
    pub fn ended_children(&self) -> Cpu {
        self.to.waited().minus(self.from.waited())
    }

    /// Cores that were busy with what is not ours.
    pub fn foreign_cores(&self) -> f64 {
        let busy = self.to.machine - self.from.machine;
        let ours = self.to.ours() - self.from.ours();
        ((busy - ours) / self.wall().as_secs_f64()).max(0.0)
    }
}

/// Memory that a process holds now, in bytes.
pub fn resident(id: u32) -> Result<u64> {
    status(id, "VmRSS:")
}

/// The most memory that a process ever held, in bytes.
pub fn most_resident(id: u32) -> Result<u64> {
    status(id, "VmHWM:")
}

fn status(id: u32, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| line.to_owned())?;
    Ok(kibibytes.saturating_mul(1024))
}

fn process(id: u32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The program's name stands in brackets and may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |position: usize| Some(fields.get(position)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        own: Cpu { user: ticks(11)?, system: ticks(12)? },
        waited: Cpu { user: ticks(13)?, system: ticks(14)? },
    })
}

/// Seconds that all cores together were busy since the start, time that the host took away included.
fn machine() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line =
        text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat has no line for cpu")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are part of user and nice.
    let [user, nice, system, _, _, irq, softirq, steal, ..] = ticks[..] else {
        anyhow::bail!("/proc/stat has fewer fields than expected: {line}");
    };
    Ok((user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND)
}

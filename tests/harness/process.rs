//! Children that the test owns: each has its log in a file, dies with the test, and is shown when the test fails.

use rustix::process::{Pid, Signal as Signum, kill_process, kill_process_group};
use std::fmt::Write as _;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take to become ready before the test fails.
pub const READY: Duration = Duration::from_secs(60);

/// Memory that a process holds, in KiB.
#[track_caller]
pub fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it holds memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// The signals that tests send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Reload.
    Hup,
    /// Drain and end.
    Term,
    /// End at once.
    Kill,
}

/// A running child. Dropping it kills it, and what it started in its process group.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` (made by [`owned`]) with both outputs appended to `log`.
    #[track_caller]
    pub fn start(name: &str, mut command: Command, log: &Path) -> Process {
        let file =
            File::options().create(true).append(true).open(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file can be cloned")).stderr(file);
        let child = spawn(command).unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Process { name: name.to_owned(), child, log: log.to_owned(), ended: None }
    }

    /// Asks `ready` again and again until it gives a value. Fails the test, with the log, where the child ends first or [`READY`] is over.
    #[track_caller]
    pub fn wait_ready<T>(&mut self, mut ready: impl FnMut(&Process) -> Option<T>) -> T {
        let deadline = Instant::now() + READY;
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            if let Some(status) = self.try_wait() {
                panic!("{} ended with {status} before it was ready\n{}", self.name, self.tail());
            }
            assert!(Instant::now() < deadline, "{} was not ready within {READY:?}\n{}", self.name, self.tail());
            pause();
        }
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal to the child alone; without effect where it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_none() {
            // The child has not been waited for, so its id cannot belong to another process.
            let _ = kill_process(pid_of(&self.child), signum(signal));
        }
    }

    /// How it ended, where it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child of ours can be waited for");
        }
        self.ended
    }

    /// Waits for it to end by itself. Fails the test, with the log, where that takes longer than `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end within {limit:?}\n{}", self.name, self.tail());
            pause();
        }
    }

    /// Asks it to end in order, and kills it where it has not ended within half a minute; for children that have children of their own.
    pub fn stop(&mut self) {
        self.signal(Signal::Term);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.try_wait().is_none() && Instant::now() < deadline {
            pause();
        }
        self.kill();
    }

    /// Kills it and what it started, and waits until it is gone.
    pub fn kill(&mut self) {
        kill_group(&mut self.child);
        let _ = self.try_wait();
    }

    fn tail(&self) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(60);
        let mut shown = format!("---- the last lines of {}\n", self.name);
        for line in log.lines().skip(skip) {
            let _ = writeln!(shown, "{line}");
        }
        shown + "----"
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// A command whose process is killed by the kernel when the test process ends, however it ends.
pub fn owned(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Spawns a command made by [`owned`] in a process group of its own.
pub(crate) fn spawn(mut command: Command) -> std::io::Result<Child> {
    command.process_group(0);
    let (reply, child) = channel();
    SPAWNER.lock().expect("nobody panics while sending").send((command, reply)).expect("the spawner never ends");
    child.recv().expect("the spawner answers")
}

/// Kills the child's whole group and waits for the child.
pub(crate) fn kill_group(child: &mut Child) {
    if let Ok(None) = child.try_wait() {
        let _ = kill_process_group(pid_of(child), Signum::KILL);
        let _ = child.wait();
    }
}

/// A port for programs that cannot pick one and say which: free on every address a moment ago, given to nobody else by this process, and outside the range from which the kernel serves connections.
#[track_caller]
pub fn free_port() -> u16 {
    const RANGE: std::ops::Range<u32> = 20_000..32_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let size = RANGE.end - RANGE.start;
    let offset = std::process::id().wrapping_mul(97);
    for _ in 0..size {
        let turn = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(RANGE.start + offset.wrapping_add(turn) % size).expect("in the range");
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no port in {RANGE:?} is free");
}

/// The first of `names` that is on the `PATH` or in one of `further` directories.
pub fn find_program(names: &[&str], further: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = further
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    names.iter().flat_map(|name| directories.iter().map(move |d| d.join(name))).find(|candidate| candidate.is_file())
}

/// Where a program is; fails the test by the program's name where it is missing.
#[track_caller]
pub fn need_program(names: &[&str]) -> PathBuf {
    find_program(names, &[])
        .unwrap_or_else(|| panic!("missing: {} (`cargo xtask parts` installs it)", names.join(" or ")))
}

/// A moment between two looks at something that somebody else is changing.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

type Order = (Command, Sender<std::io::Result<Child>>);

/// One thread starts all children: the kernel's "parent died" means the thread that forked, and a test's thread ends before what tests share.
static SPAWNER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (orders, queue) = channel::<Order>();
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (mut command, reply) in queue {
                let _ = reply.send(command.spawn());
            }
        })
        .expect("a thread can be started");
    Mutex::new(orders)
});

fn pid_of(child: &Child) -> Pid {
    let raw = i32::try_from(child.id()).expect("process ids fit");
    Pid::from_raw(raw).expect("a child's id is not zero")
}

fn signum(signal: Signal) -> Signum {
    match signal {
        Signal::Hup => Signum::HUP,
        Signal::Term => Signum::TERM,
        Signal::Kill => Signum::KILL,
    }
}

//! Programs that chores start: run to their end, or kept as children that end with us.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a program in the foreground; its failure is an error.
pub fn call(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| shown.clone())?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a program and returns its standard output; its failure is an error with what it said.
pub fn ask(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().with_context(|| shown.clone())?;
    if !status.success() {
        bail!("{shown}: {status}\n{}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8(stdout)?)
}

/// A child in a process group of its own, so that Ctrl-C does not reach it before we say so, and which the kernel ends when we die.
pub struct Owned {
    name: &'static str,
    child: Child,
}

impl Owned {
    /// Starts it. The program and its arguments are those of `command`.
    pub fn start(name: &'static str, command: &Command, stdout: Stdio, stderr: Stdio) -> Result<Owned> {
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
        guarded.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
        let child = guarded.spawn().with_context(|| format!("{name} does not start"))?;
        Ok(Owned { name, child })
    }

    /// Its standard output, once, where it was started with a pipe.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens on the port.
    pub fn wait_for_port(&mut self, port: u16, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            self.still_runs()?;
            if begun.elapsed() > patience {
                bail!("{} was not ready within {patience:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error where it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended: {status}", self.name),
        }
    }

    /// Asks it to end, and kills it where it takes longer than `patience`.
    pub fn stop(&mut self, patience: Duration) {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > patience {
                eprintln!("{} did not end within {patience:?}: killed", self.name);
                self.signal(Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&mut self, signal: Signal) {
        // It has not been waited for, so its id still belongs to it.
        if let (Ok(None), Ok(raw)) = (self.child.try_wait(), i32::try_from(self.child.id()))
            && let Some(group) = Pid::from_raw(raw)
        {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(5));
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

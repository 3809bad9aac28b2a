//! Programs that run to their end: always within a time limit, with their whole output at hand.

use crate::process::{kill_group, owned, pause, spawn};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program to be run once.
pub struct Run {
    command: Command,
    shown: String,
    stdin: Vec<u8>,
    limit: Duration,
}

/// What a program said, and how it ended.
#[derive(Clone)]
pub struct Output {
    /// The command line.
    pub shown: String,
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// A program, by name or path.
    pub fn new(program: impl AsRef<OsStr>) -> Run {
        Run::from(owned(program))
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Run {
        args.into_iter().fold(self, Run::arg)
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Run {
        self.command.env(key, value);
        self
    }

    /// Its working directory.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Run {
        self.command.current_dir(directory);
        self
    }

    /// What it reads; nothing where this is not called.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = bytes.into();
        self
    }

    /// How long it may take; a minute where this is not called.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Run {
        self.limit = limit;
        self
    }

    /// Runs it. Fails the test where it does not start or outlives its limit: then it is killed, with all that it started.
    #[track_caller]
    pub fn run(mut self) -> Output {
        let (mut stdin, mut stdout, mut stderr) = (scratch(), scratch(), scratch());
        stdin.write_all(&self.stdin).and_then(|()| stdin.rewind()).expect("scratch file");
        self.command
            .stdin(stdin)
            .stdout(Stdio::from(stdout.try_clone().expect("scratch file")))
            .stderr(Stdio::from(stderr.try_clone().expect("scratch file")));
        let mut child = spawn(self.command).unwrap_or_else(|e| panic!("{}: {e}", self.shown));
        let deadline = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours can be waited for") {
                break Some(status);
            }
            if Instant::now() >= deadline {
                kill_group(&mut child);
                break None;
            }
            pause();
        };
        let output = Output {
            shown: self.shown,
            code: status.and_then(|s| s.code()),
            stdout: contents(&mut stdout),
            stderr: contents(&mut stderr),
        };
        assert!(status.is_some(), "took longer than {:?}\n{output}", self.limit);
        output
    }

    /// Runs it, and fails the test unless it ends with exit code 0.
    #[track_caller]
    pub fn succeeds(self) -> Output {
        let output = self.run();
        assert_eq!(output.code, Some(0), "should have succeeded\n{output}");
        output
    }

    /// Runs it, and fails the test unless it ends by itself with an exit code other than 0.
    #[track_caller]
    pub fn fails(self) -> Output {
        let output = self.run();
        assert!(output.code.is_some_and(|code| code != 0), "should have failed\n{output}");
        output
    }
}

impl From<Command> for Run {
    /// A command made by [`owned`].
    fn from(command: Command) -> Run {
        let words = command.get_args().map(OsStr::to_string_lossy);
        let shown: Vec<_> = words.skip_while(|word| word != "--").skip(1).collect();
        Run { shown: shown.join(" "), command, stdin: Vec::new(), limit: Duration::from_secs(60) }
    }
}

impl Output {
    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON: {e}\n{self}"))
    }

    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// Fails the test unless one of `needles` is in the output, upper and lower case alike.
    #[track_caller]
    pub fn says(&self, needles: &[&str]) -> &Output {
        let text = self.text().to_lowercase();
        assert!(
            needles.iter().any(|n| text.contains(&n.to_lowercase())),
            "should have said one of {needles:?}\n{self}"
        );
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\nexit code: {:?}", self.shown, self.code)?;
        writeln!(f, "---- stdout\n{}", self.stdout)?;
        write!(f, "---- stderr\n{}\n----", self.stderr)
    }
}

fn scratch() -> File {
    tempfile::tempfile().expect("the directory for temporary files is writable")
}

fn contents(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("scratch file");
    String::from_utf8_lossy(&bytes).into_owned()
}

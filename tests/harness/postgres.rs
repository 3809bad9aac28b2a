//! A PostgreSQL server of the tests' own: on a Unix socket alone, as an ordinary user, without a thought for durability.

use crate::command::Run;
use crate::process::{Process, find_program, owned};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tempfile::TempDir;

/// A running server; databases are made by [`Postgres::database`].
pub struct Postgres {
    process: Mutex<Process>,
    account: Option<Account>,
    directory: TempDir,
}

/// Whom the server runs as where the tests run as root, whom it refuses.
#[derive(Clone)]
struct Account {
    name: &'static str,
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// The server that all tests of this process share; the last one that lets go of it ends it.
    #[track_caller]
    pub fn shared() -> Arc<Postgres> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server for one test alone, which may be killed.
    #[track_caller]
    pub fn start() -> Postgres {
        let account = rustix::process::geteuid().is_root().then(Account::find);
        let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
        let path = directory.path();
        if let Some(account) = &account {
            std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)).expect("we are root");
        }
        Run::from(as_account(account.as_ref(), "initdb"))
            .args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(path.join("data"))
            .directory(path)
            .succeeds();
        let process = serve(account.as_ref(), path);
        Postgres { process: Mutex::new(process), account, directory }
    }

    /// The URL of a new, empty database.
    #[track_caller]
    pub fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Run::from(as_account(self.account.as_ref(), "createdb"))
            .args(["--username=postgres", "--host"])
            .arg(self.directory.path())
            .arg(&name)
            .directory(self.directory.path())
            .succeeds();
        let host = crate::http::encode(&self.directory.path().to_string_lossy());
        format!("postgres://postgres@localhost/{name}?host={host}")
    }

    /// One of its client's programs, such as `pg_dump`.
    #[track_caller]
    pub fn tool(&self, program: &str) -> Run {
        Run::from(as_account(self.account.as_ref(), program)).directory(self.directory.path())
    }

    /// Where its programs may write.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the server at once; what was committed may be lost with it.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Starts it again after [`Postgres::kill`].
    #[track_caller]
    pub fn revive(&self) {
        let _ = std::fs::remove_file(self.directory.path().join("data/postmaster.pid"));
        *self.process() = serve(self.account.as_ref(), self.directory.path());
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Account {
    #[track_caller]
    fn find() -> Account {
        for name in ["postgres", "nobody"] {
            let id = |which: &str| Run::new("id").arg(which).arg(name).run().stdout.trim().parse().ok();
            if let (Some(uid), Some(gid)) = (id("-u"), id("-g")) {
                return Account { name, uid, gid };
            }
        }
        panic!("missing: a user named postgres or nobody (the package postgresql has one)");
    }
}

#[track_caller]
fn serve(account: Option<&Account>, path: &Path) -> Process {
    let mut command = as_account(account, "postgres");
    command
        .current_dir(path)
        .arg("-D")
        .arg(path.join("data"))
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"])
        .arg("-c")
        .arg(format!("unix_socket_directories={}", path.display()));
    let mut process = Process::start("PostgreSQL", command, &path.join("log"));
    // Its own tools look here too: the last line says how far it has come.
    process.wait_ready(|_| {
        let state = std::fs::read_to_string(path.join("data/postmaster.pid")).ok()?;
        state.lines().last().filter(|line| line.trim() == "ready").map(drop)
    });
    process
}

#[track_caller]
fn as_account(account: Option<&Account>, program: &str) -> Command {
    let program = find_program(&[program], &versions())
        .unwrap_or_else(|| panic!("missing: {program} (`cargo xtask parts` installs it)"));
    let Some(account) = account else {
        return owned(program);
    };
    // The kernel forgets "die with the parent" when the user changes, so both are asked of one setpriv.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--init-groups"])
        .arg(format!("--reuid={}", account.name))
        .arg(format!("--regid={}", account.gid))
        .arg("--")
        .arg(program);
    command
}

/// Debian keeps the server's programs off the `PATH`, one directory a version; the newest comes first.
fn versions() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

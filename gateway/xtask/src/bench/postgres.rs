//! A PostgreSQL server for a benchmark: on a Unix socket alone, as an ordinary user, and as durable as it comes.

use super::content::Scratch;
use crate::parts;
use crate::processes::{Owned, ask};
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Files of its log, of 16 MiB each, that are there before the first run: more than all runs fill.
const LOG_FILES: u32 = 32;
/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// A running server with one empty database.
pub struct Postgres {
    process: Owned,
    /// The database's URL, as in `store.url`.
    pub url: String,
}

/// Whom it runs as where we are root, whom it refuses.
struct Account {
    name: &'static str,
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Makes a database and serves it.
    pub fn start(scratch: &Scratch) -> Result<Self> {
        let directory = scratch.directory("postgres")?;
        let account = if rustix::process::geteuid().is_root() { Some(Account::find()?) } else { None };
        if let Some(account) = &account {
            chown(&directory, Some(account.uid), Some(account.gid))?;
        }
        let data = directory.join("data");
        let mut initdb = program(account.as_ref(), "initdb")?;
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]);
        ask(initdb.arg(&data).current_dir(&directory))?;
        let mut serve = program(account.as_ref(), "postgres")?;
        serve.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c"]);
        serve.arg(format!("unix_socket_directories={}", directory.display()));
        let log = directory.join("log");
        let output = File::create(&log)?;
        let mut process = Owned::start("PostgreSQL", &serve, output.try_clone()?.into(), output.into())?;
        wait(&mut process, &data).with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        break_in(&directory)?;
        let host = directory.display().to_string().replace('%', "%25").replace('/', "%2F");
        Ok(Self { process, url: format!("postgres://postgres@localhost/postgres?host={host}") })
    }

    /// The server's process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Account {
    fn find() -> Result<Self> {
        let id = |which: &str, name: &str| ask(Command::new("id").arg(which).arg(name)).ok()?.trim().parse().ok();
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id("-u", name), id("-g", name)) {
                return Ok(Self { name, uid, gid });
            }
        }
        bail!("there is no user named postgres or nobody");
    }
}

fn program(account: Option<&Account>, name: &str) -> Result<Command> {
    let program = parts::find(&[name]).with_context(|| format!("missing: {name}"))?;
    let Some(account) = account else { return Ok(Command::new(program)) };
    // The kernel forgets "die with the parent" when the user changes, so it is asked again.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT", "--init-groups"]).arg(format!("--reuid={}", account.name));
    command.arg(format!("--regid={}", account.gid)).arg("--").arg(program);
    Ok(command)
}

/// Brings the log to where it is on a server in use: its files are used again from the second checkpoint on, and none has to be
/// filled with zeros and flushed while a run is measured.
fn break_in(directory: &Path) -> Result<()> {
    let fill = format!(
        "SELECT count(pg_logical_emit_message(false, 'portcullis', '')), count(pg_switch_wal()) FROM generate_series(1, {LOG_FILES})"
    );
    let mut psql = Command::new(parts::find(&["psql"]).context("missing: psql")?);
    psql.args(["--no-psqlrc", "--quiet", "--username=postgres", "--host"]).arg(directory);
    for statement in [&*fill, "CHECKPOINT", &*fill, "CHECKPOINT"] {
        psql.args(["--command", statement]);
    }
    ask(psql.arg("postgres")).map(|_| ())
}

/// The last line of its own file says how far it has come.
fn wait(process: &mut Owned, data: &Path) -> Result<()> {
    let begun = Instant::now();
    let state = || std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    while state().lines().last().is_none_or(|line| line.trim() != "ready") {
        process.still_runs()?;
        if begun.elapsed() > READY {
            bail!("PostgreSQL was not ready within {READY:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

//! The command line: what can be asked, and how every answer and every refusal is printed. It decides nothing itself: a
//! command calls the function of `tenancy` that the management API will call too.

mod audit;
mod backup;
mod check;
mod doctor;
mod grant;
mod key;
mod limit;
mod maintenance;
mod management;
mod output;
mod policy;
mod project;
mod quota;
mod robot;
mod session;
mod show;
mod table;
mod walk;

#[cfg(test)]
mod tests;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use output::{Answer, Failure};
use session::Session;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where a configuration is looked for where none is named.
const USUAL_PLACES: [&str; 2] = ["portcullis.toml", "/etc/portcullis/portcullis.toml"];

/// An authenticating, multi-tenant gateway in front of a container registry.
///
/// Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100)]
struct Cli {
    /// The configuration [default: ./portcullis.toml, then /etc/portcullis/portcullis.toml]
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON, errors included
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM; SIGHUP reads configuration and certificates anew
    Serve,
    /// Say all that is wrong in the configuration at once, or nothing
    CheckConfig,
    /// Projects: the tenants
    #[command(subcommand)]
    Project(project::Command),
    /// Robots: the machine accounts of a project
    #[command(subcommand)]
    Robot(robot::Command),
    /// Consent to what robots of other projects may do with a project's repositories
    #[command(subcommand)]
    Grant(grant::Command),
    /// Keys that sign tokens
    #[command(subcommand)]
    Key(key::Command),
    /// Policies: each tenant's own rules
    #[command(subcommand)]
    Policy(policy::Command),
    /// What projects may hold, what they hold, and what they ask for
    #[command(subcommand)]
    Quota(quota::Command),
    /// How often and how much projects and robots may ask, where the configuration's limits are not theirs
    #[command(subcommand)]
    Limit(limit::Command),
    /// Let nothing be written upstream while its own garbage is collected
    #[command(subcommand)]
    Maintenance(maintenance::Command),
    /// What happened: who did what, and whether what is told of it is what was written down
    #[command(subcommand)]
    Audit(audit::Command),
    /// Write a copy of the store to a file, while gateways go on (SQLite)
    Backup {
        /// The file; it must not be there yet
        file: PathBuf,
    },
    /// Put a copy of the store in its place, while no gateway runs (SQLite)
    Restore {
        /// The file that `backup` wrote
        file: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Put on record what the upstream held before, whatever the quotas; it goes on where it was cut off
    Import(walk::Import),
    /// Compare the record with the upstream, and say where they differ; exit code 1 where they do and nothing was mended
    Reconcile(walk::Reconcile),
    /// Check configuration, store, upstream and its isolation, certificate, clock and keys, and say what to do
    Doctor,
    /// Compile a component from standard input to standard output, within limits: what a gateway starts for itself
    #[command(hide = true)]
    PolicyCompile {
        /// Most memory
        memory_bytes: u64,
        /// Most CPU time
        time_s: u64,
        /// Largest component
        component_bytes: usize,
    },
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, arguments.iter().any(|argument| argument == "--json")),
    };
    let json = cli.json;
    if let Command::PolicyCompile { memory_bytes, time_s, component_bytes } = cli.command {
        return crate::policies::run_compiler(memory_bytes, std::time::Duration::from_secs(time_s), component_bytes);
    }
    match cli.execute() {
        Ok(answer) => output::print(&answer, json),
        Err(failure) => output::print_failure(&failure, json),
    }
}

impl Cli {
    fn execute(self) -> Result<Answer, Failure> {
        let (json, named) = (self.json, self.config);
        let read = || {
            let file = find_config(named.clone(), &USUAL_PLACES.map(Path::new))?;
            let config = crate::config::load(&file).map_err(Failure::Config)?;
            Ok::<_, Failure>((file, config))
        };
        let open = async || Session::open(read()?.1).await;
        match self.command {
            Command::Serve => {
                let (file, config) = read()?;
                crate::serve::run(config, &file).map_err(|error| Failure::Refused(format!("{error:#}")))?;
                Ok(Answer::silent())
            }
            Command::CheckConfig => read().map(|(file, config)| check::answer(&file, &config)),
            Command::Doctor => {
                let (file, config) = read()?;
                block_on(doctor::run(&file, &config))
            }
            Command::PolicyCompile { .. } => Ok(Answer::silent()),
            // Whoever writes a policy has no gateway, and no configuration.
            Command::Policy(policy::Command::Author(command)) => policy::author(command, json),
            Command::Policy(policy::Command::Operate(command)) => {
                block_on(async { policy::operate(command, &open().await?).await })
            }
            Command::Project(command) => block_on(async { project::run(command, &open().await?).await }),
            Command::Robot(command) => block_on(async { robot::run(command, &open().await?).await }),
            Command::Grant(command) => block_on(async { grant::run(command, &open().await?).await }),
            Command::Key(command) => block_on(async { key::run(command, &open().await?).await }),
            Command::Quota(command) => block_on(async { quota::run(command, &open().await?).await }),
            Command::Limit(command) => block_on(async { limit::run(command, &open().await?).await }),
            Command::Maintenance(command) => block_on(async { maintenance::run(command, &open().await?).await }),
            Command::Audit(command) => match command.offline() {
                Some(answer) => answer,
                None => block_on(async { audit::run(command, &open().await?, json).await }),
            },
            Command::Backup { file } => block_on(async { backup::back_up(&file, &open().await?).await }),
            Command::Restore { file, yes } => {
                let (_, config) = read()?;
                block_on(backup::restore(&file, yes, &config))
            }
            Command::Import(wanted) => block_on(async { walk::import(wanted, &open().await?, json).await }),
            Command::Reconcile(wanted) => block_on(async { walk::reconcile(wanted, &open().await?, json).await }),
        }
    }
}

fn block_on(command: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Refused(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        crate::serve::outlive_file_limits().map_err(|error| Failure::Refused(format!("cannot start: {error}")))?;
        command.await
    })
}

/// Who gives a command, as it is written down: the user of the machine.
fn actor() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "operator".to_owned())
}

/// The same as the audit trail has it.
fn operator() -> String {
    format!("operator {} (uid {})", actor(), rustix::process::getuid().as_raw())
}

/// The configuration that was named, or the first one that lies where one usually lies.
fn find_config(named: Option<PathBuf>, usual: &[&Path]) -> Result<PathBuf, Failure> {
    named.or_else(|| usual.iter().find(|path| path.exists()).map(|path| path.to_path_buf())).ok_or_else(|| {
        let places: Vec<String> = usual.iter().map(|path| path.display().to_string()).collect();
        Failure::Usage(format!(
            "there is no configuration: neither {} is there; write one, or name it with --config FILE",
            places.join(" nor ")
        ))
    })
}

/// Help and version are no errors, and go to standard output.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if json && !help {
        let text = error.render().to_string();
        let message = text.trim().trim_start_matches("error: ").to_owned();
        return output::print_failure(&Failure::Usage(message), json);
    }
    // Whoever closed the pipe does not want to read it.
    let _ = error.print();
    if help { ExitCode::SUCCESS } else { output::WRONG_USAGE.into() }
}

//! The gateway under test: its configuration, its command line, its process.

mod builder;
mod secrets;

pub use builder::Builder;

use crate::command::{Output, Run};
use crate::http::{Credentials, Http, Response};
use crate::persona::{Persona, Robot};
use crate::postgres::Postgres;
use crate::process::{Process, READY, Signal, owned};
use crate::repository::Repository;
use builder::{lookup, set};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use toml_edit::{DocumentMut, Item, Value};

/// A gateway with its data; serving, or stopped.
pub struct Gateway {
    process: Option<Process>,
    document: DocumentMut,
    origin: String,
    config: PathBuf,
    management: String,
    directory: Arc<TempDir>,
    postgres: Option<Arc<Postgres>>,
    tells_secrets: bool,
}

impl Gateway {
    /// Serves, and returns when it is ready.
    #[track_caller]
    pub fn serve(&mut self) {
        assert!(self.process.is_none(), "it already serves");
        let mut command = owned(binary());
        command.arg("serve").arg("--config").arg(&self.config);
        let log = self.directory.path().join("log");
        let earlier = ready_lines(&std::fs::read_to_string(&log).unwrap_or_default()).len();
        let mut process = Process::start("the gateway", command, &log);
        self.management = process.wait_ready(|process| {
            let log = process.log();
            let line = ready_lines(&log).get(earlier).copied()?;
            line.split_whitespace().find_map(|word| word.strip_prefix("management=")).map(str::to_owned)
        });
        self.process = Some(process);
    }

    /// What clients talk to.
    #[track_caller]
    pub fn http(&self) -> Http {
        let ca = self.origin.starts_with("https:").then(|| self.ca());
        Http::new(&self.origin, ca.as_deref())
    }

    /// Health, readiness and metrics.
    #[track_caller]
    pub fn management(&self) -> Http {
        Http::new(&format!("http://{}", self.management), None)
    }

    /// `host:port`, as in an image's reference.
    pub fn authority(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Scheme, host and port that clients use.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The certificate that clients have to trust.
    pub fn ca(&self) -> PathBuf {
        self.data_dir().join("tls/ca.crt")
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where its audit export goes, if it has one.
    pub fn export_file(&self) -> PathBuf {
        self.directory.path().join("audit.jsonl")
    }

    /// Where its rules and records are: `sqlite://…` or `postgres://…`.
    pub fn store_url(&self) -> String {
        let configured = lookup(&self.document, "store.url").and_then(Item::as_str).map(str::to_owned);
        configured.unwrap_or_else(|| format!("sqlite://{}", self.data_dir().join("portcullis.db").display()))
    }

    /// The server of its store, where that is PostgreSQL.
    pub(crate) fn server(&self) -> Option<&Postgres> {
        self.postgres.as_deref()
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Changes one key in the file; [`Gateway::reload`] or a restart puts it into effect.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        set(&mut self.document, key, value.into());
        self.write();
    }

    /// A command with this gateway's configuration, such as `["project", "list"]`.
    pub fn command(&self, args: &[&str]) -> Run {
        Run::new(binary()).args(args).arg("--config").arg(&self.config)
    }

    /// Runs a command that has to succeed.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        self.command(args).succeeds()
    }

    /// Starts a command with this gateway's configuration and does not wait for its end.
    #[track_caller]
    pub fn launch(&self, args: &[&str]) -> Process {
        let mut command = owned(binary());
        command.args(args).arg("--config").arg(&self.config);
        Process::start("the command", command, &self.directory.path().join("command-log"))
    }

    /// Its metrics, as they are scraped.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let answer = self.management().get("/metrics").send().expect(200);
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"), "{answer}");
        String::from_utf8(answer.body.to_vec()).expect("metrics are text")
    }

    /// Attaches a policy to a project, or with `--platform` in its place to all: a file, its settings, and further options
    /// such as `["--name", "gate", "--mode", "monitor"]`.
    #[track_caller]
    pub fn attach(&self, owner: &str, component: &Path, settings: serde_json::Value, options: &[&str]) -> Output {
        self.attaching(owner, component, settings, options).succeeds()
    }

    /// The same as a command that is still to be run.
    #[track_caller]
    pub fn attaching(&self, owner: &str, component: &Path, settings: serde_json::Value, options: &[&str]) -> Run {
        let settings = settings.to_string();
        let file = self.directory.path().join(format!("settings-{}.json", crate::guest::name_of(settings.as_bytes())));
        crate::guest::write_whole(&file, settings.as_bytes());
        self.command(&["policy", "attach", owner]).arg(component).arg("--settings").arg(file).args(options)
    }

    /// Makes a project with a robot for each role.
    #[track_caller]
    pub fn persona(&self, project: &str) -> Persona {
        self.cli(&["project", "create", project]);
        self.robots(project)
    }

    /// The same where the upstream cannot be asked what it holds.
    #[track_caller]
    pub fn persona_unasked(&self, project: &str) -> Persona {
        self.cli(&["project", "create", project, "--adopt"]);
        self.robots(project)
    }

    #[track_caller]
    fn robots(&self, project: &str) -> Persona {
        Persona {
            project: project.to_owned(),
            pull: self.robot(project, "puller", &["--role", "pull"]),
            push: self.robot(project, "pusher", &["--role", "push"]),
            admin: self.robot(project, "owner", &["--role", "admin"]),
        }
    }

    /// Makes a robot.
    #[track_caller]
    pub fn robot(&self, project: &str, name: &str, options: &[&str]) -> Robot {
        let mut args = vec!["robot", "create", project, name, "--json"];
        args.extend(options);
        let output = self.cli(&args);
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}\n{output}"))
    }

    /// The id of the only grant that a robot of another project has or asks for on this one.
    #[track_caller]
    pub fn foreign_grant(&self, project: &str) -> String {
        let list = self.cli(&["grant", "list", project, "--json"]).json();
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        list[0]["id"].as_str().expect("ids are texts").to_owned()
    }

    /// A repository as `who` sees it.
    #[track_caller]
    pub fn repository(&self, name: &str, who: &Credentials) -> Repository {
        Repository::new(&self.http(), name, who)
    }

    /// Asks the token endpoint, which is where the challenge says.
    #[track_caller]
    pub fn ask_token(&self, who: &Credentials, scopes: &[&str]) -> Response {
        let http = self.http();
        let challenge = http.get("/v2/").send().expect(401).header("www-authenticate");
        let realm = parameter(&challenge, "realm");
        let service = crate::http::encode(&parameter(&challenge, "service"));
        let scopes: String = scopes.iter().map(|scope| format!("&scope={}", crate::http::encode(scope))).collect();
        http.get(&format!("{realm}?service={service}{scopes}")).with(who).send()
    }

    /// A token for these scopes.
    #[track_caller]
    pub fn token(&self, who: &Credentials, scopes: &[&str]) -> Credentials {
        let answer = self.ask_token(who, scopes).expect(200);
        let token = answer.json()["token"].as_str().map(str::to_owned);
        Credentials::Bearer(token.unwrap_or_else(|| panic!("no token\n{answer}")))
    }

    /// SIGHUP: reads configuration and certificates again.
    #[track_caller]
    pub fn reload(&mut self) {
        self.running().signal(Signal::Hup);
    }

    /// SIGTERM alone: it begins to drain. [`Gateway::wait`] waits for its end.
    #[track_caller]
    pub fn drain(&mut self) {
        self.running().signal(Signal::Term);
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = self.running().wait(limit);
        self.process = None;
        status
    }

    /// SIGTERM, and waits for its end, which has to be in order.
    #[track_caller]
    pub fn stop(&mut self) {
        self.drain();
        let status = self.running().wait(READY);
        assert!(status.success(), "it ended with {status}");
        self.process = None;
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.running().signal(Signal::Kill);
        self.running().wait(READY);
        self.process = None;
    }

    /// Its process id.
    #[track_caller]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("it serves").id()
    }

    /// Everything that it has logged since it first served.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn write(&self) {
        std::fs::write(&self.config, self.document.to_string()).expect("the test's own directory");
    }

    #[track_caller]
    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("it serves")
    }
}

/// A challenge's parameter; empty where it is missing.
pub fn parameter(challenge: &str, name: &str) -> String {
    let start = format!("{name}=\"");
    let found = challenge.split_once(&start).and_then(|(_, rest)| rest.split_once('"'));
    found.map_or_else(String::new, |(value, _)| value.to_owned())
}

/// The sum of all samples of one name whose labels hold `labels`.
pub fn metric(metrics: &str, name: &str, labels: &str) -> f64 {
    let samples = metrics.lines().filter(|line| line.starts_with(name) && line.contains(labels));
    let samples = samples.filter(|line| line[name.len()..].starts_with(['{', ' ']));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

fn ready_lines(log: &str) -> Vec<&str> {
    // Only whole lines: the last one may still be being written.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter(|line| line.starts_with("portcullis ready ")).collect()
}

/// The gateway's binary: `PORTCULLIS_BIN`, or what `cargo build` has put beside the tests.
#[track_caller]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTCULLIS_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test knows itself");
    let built = test.ancestors().nth(2).expect("target/debug/deps/test").join("portcullis");
    assert!(built.is_file(), "missing: {} (`cargo build -p portcullis` makes it)", built.display());
    built
}

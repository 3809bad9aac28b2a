//! The registry behind the gateway: CNCF Distribution, unmodified, with deletion enabled.

use crate::command::Run;
use crate::http::{Credentials, Http};
use crate::process::{Process, Signal, free_port, need_program, owned};
use crate::repository::Repository;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The password in [`Registry::with_login`]'s file, and its bcrypt hash of the cheapest kind.
const LOGIN: (&str, &str, &str) =
    ("gateway", "upstream-secret", "$2y$04$OZzDOenBLlbLXRMJabtOC./HhPGN6QKNpn3AUy0impExp9vMXrjZy");

/// A registry of the test's own on a loopback port.
pub struct Registry {
    process: Process,
    port: u16,
    login: bool,
    directory: TempDir,
}

impl Registry {
    /// A registry that lets everybody do everything.
    #[track_caller]
    pub fn start() -> Registry {
        Registry::launch(false)
    }

    /// A registry that wants a user name and a password: see [`Registry::credentials`].
    #[track_caller]
    pub fn with_login() -> Registry {
        Registry::launch(true)
    }

    /// Its origin, as in the gateway's `upstream.url`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Straight to it, around the gateway.
    pub fn http(&self) -> Http {
        Http::new(&self.url(), None)
    }

    /// What it wants to be shown.
    pub fn credentials(&self) -> Credentials {
        if self.login { Credentials::Basic(LOGIN.0.to_owned(), LOGIN.1.to_owned()) } else { Credentials::None }
    }

    /// Where it keeps repositories: `<here>/<name>/_manifests` and so on.
    pub fn repositories(&self) -> PathBuf {
        self.directory.path().join("data/docker/registry/v2/repositories")
    }

    /// A repository by its upstream name, around the gateway.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.http(), name, &self.credentials())
    }

    /// The bytes of all distinct blobs and manifests that the repositories under a prefix hold, by what lies in its storage.
    pub fn bytes_under(&self, prefix: &str) -> u64 {
        let mut digests = BTreeSet::new();
        linked(&self.repositories().join(prefix), &mut digests);
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        let size = |hex: &String| {
            let data = blobs.join(hex.get(..2).unwrap_or_default()).join(hex).join("data");
            std::fs::metadata(&data).unwrap_or_else(|e| panic!("{}: {e}", data.display())).len()
        };
        digests.iter().map(size).sum()
    }

    /// What it has logged: one line for each request, with the method and the path.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it at once. [`Registry::revive`] starts it again.
    pub fn kill(&mut self) {
        self.process.signal(Signal::Kill);
        self.process.wait(crate::process::READY);
    }

    /// Starts it again on the same port with what it had kept.
    #[track_caller]
    pub fn revive(&mut self) {
        self.process = run(self.directory.path(), self.port, self.login);
    }

    /// Its own garbage collection, beside it: nobody may write meanwhile. What it remembers of blobs is forgotten with a restart.
    #[track_caller]
    pub fn collect_garbage(&mut self) {
        let program = need_program(&["docker-registry", "registry"]);
        let config = self.directory.path().join("config.yml");
        Run::new(program).arg("garbage-collect").arg(config).env("OTEL_TRACES_EXPORTER", "none").succeeds();
        self.kill();
        self.revive();
    }

    #[track_caller]
    fn launch(login: bool) -> Registry {
        let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
        let port = free_port();
        let process = run(directory.path(), port, login);
        Registry { process, port, login, directory }
    }
}

/// Collects the hex digests that are linked as layers or as revisions below a directory.
fn linked(directory: &Path, digests: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let is_list = entry.ends_with("_layers/sha256") || entry.ends_with("_manifests/revisions/sha256");
        if is_list {
            let links = std::fs::read_dir(&entry).into_iter().flatten().flatten();
            let links = links.filter(|link| link.path().join("link").is_file());
            digests.extend(links.map(|link| link.file_name().to_string_lossy().into_owned()));
        } else if entry.is_dir() {
            linked(&entry, digests);
        }
    }
}

#[track_caller]
fn run(directory: &Path, port: u16, login: bool) -> Process {
    let config = directory.join("config.yml");
    std::fs::write(&config, configuration(directory, port, login)).expect("our own directory");
    let passwords = directory.join("htpasswd");
    std::fs::write(&passwords, format!("{}:{}\n", LOGIN.0, LOGIN.2)).expect("our own directory");
    let mut command = owned(need_program(&["docker-registry", "registry"]));
    command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
    let mut process = Process::start("the registry", command, &directory.join("log"));
    let http = Http::new(&format!("http://127.0.0.1:{port}"), None);
    let expected = if login { 401 } else { 200 };
    process.wait_ready(|_| http.get("/v2/").attempt().ok().filter(|r| r.status == expected));
    process
}

fn configuration(directory: &Path, port: u16, login: bool) -> String {
    let directory = directory.display();
    let auth = if login {
        format!("auth: {{htpasswd: {{realm: upstream, path: '{directory}/htpasswd'}}}}\n")
    } else {
        String::new()
    };
    format!(
        "version: 0.1\n\
         log: {{level: info, accesslog: {{disabled: false}}}}\n\
         storage:\n\
         \x20 filesystem: {{rootdirectory: '{directory}/data'}}\n\
         \x20 delete: {{enabled: true}}\n\
         \x20 maintenance: {{uploadpurging: {{enabled: false}}}}\n\
         http: {{addr: '127.0.0.1:{port}', secret: 'of one test'}}\n\
         {auth}"
    )
}

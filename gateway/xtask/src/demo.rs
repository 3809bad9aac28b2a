//! The demonstration's state: a configuration that people may edit, a project, and two robots whose tokens are kept to be shown again.

use crate::processes::ask;
use crate::sample;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use toml_edit::{DocumentMut, Item, Table, value};

const PROJECT: &str = "demo";
/// The robots' names are their roles.
const ROLES: [&str; 2] = ["push", "pull"];
/// Where the search for free ports begins: the registry that clients see, management, the registry behind.
const PORTS: (u16, u16, u16) = (5443, 5543, 5643);

/// The demonstration in one directory.
pub struct Demo {
    binary: PathBuf,
    directory: PathBuf,
    document: DocumentMut,
}

#[derive(Serialize, Deserialize)]
struct Robot {
    username: String,
    token: String,
}

impl Demo {
    /// Reads the directory's configuration, or writes the first one.
    pub fn open(binary: &Path, directory: &Path) -> Result<Demo> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut demo =
            Demo { binary: binary.to_owned(), directory: directory.to_owned(), document: DocumentMut::new() };
        let config = demo.config();
        if config.exists() {
            let text = std::fs::read_to_string(&config)?;
            demo.document = text.parse().with_context(|| config.display().to_string())?;
            let listen = demo.text("server", "listen")?;
            if TcpListener::bind(&listen).is_err() {
                bail!("{listen} is taken; is this demonstration running already? ({})", config.display());
            }
        } else {
            let port = free_port(PORTS.0)?;
            let data = value(directory.join("data").display().to_string());
            demo.document.insert("data_dir", data);
            demo.set("server", "public_url", format!("https://localhost:{port}"));
            demo.set("server", "listen", format!("127.0.0.1:{port}"));
            let hosts: toml_edit::Array = ["127.0.0.1"].into_iter().collect();
            demo.section("server").insert("hosts", value(hosts));
            demo.set("management", "listen", format!("127.0.0.1:{}", free_port(PORTS.1)?));
        }
        Ok(demo)
    }

    /// Where everything is kept.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes down which registry is behind.
    pub fn stand_before(&mut self, url: &str) -> Result<()> {
        self.set("upstream", "url", url.to_owned());
        std::fs::write(self.config(), self.document.to_string())?;
        Ok(())
    }

    /// Writes down that a registry of our own is behind, and returns the port for it: the one it had, where that is still free.
    pub fn stand_before_own_registry(&mut self) -> Result<u16> {
        let earlier = self.text("upstream", "url").unwrap_or_default();
        let earlier = earlier.strip_prefix("http://127.0.0.1:").and_then(|port| port.parse().ok());
        let port = match earlier.filter(|port| is_free(*port)) {
            Some(port) => port,
            None => free_port(PORTS.2)?,
        };
        self.stand_before(&format!("http://127.0.0.1:{port}"))?;
        Ok(port)
    }

    /// Creates the project and its robots where they are not there, and what the lines to paste refer to.
    pub fn create_project(&self) -> Result<()> {
        if ask(self.gateway().args(["project", "show", PROJECT])).is_err() {
            ask(self.gateway().args(["project", "create", PROJECT]))?;
        }
        let mut robots = self.robots().unwrap_or_default();
        for role in ROLES {
            if !robots.contains_key(role) {
                robots.insert(role.to_owned(), self.robot(role)?);
                self.keep(&robots)?;
            }
        }
        sample::write(&self.directory.join("sample"))
    }

    /// The command that serves.
    pub fn serve(&self) -> Command {
        let mut command = self.gateway();
        command.arg("serve");
        command
    }

    /// Prints the lines to paste.
    pub fn welcome(&self) -> Result<()> {
        let robots = self.robots()?;
        let robot = |role: &str| robots.get(role).with_context(|| format!("no robot {role}"));
        let (push, pull) = (robot("push")?, robot("pull")?);
        let (user, token) = (&push.username, &push.token);
        let url = self.text("server", "public_url")?;
        let registry = url.trim_start_matches("https://").trim_start_matches("http://");
        let management = self.text("management", "listen")?;
        let upstream = self.text("upstream", "url")?;
        let (certificates, sample) = (self.path("data/tls"), self.path("sample"));
        let authority = certificates.join("ca.crt");
        let (certificates, sample, authority) = (certificates.display(), sample.display(), authority.display());
        let config = self.config();
        println!(
            "
Portcullis is ready: {url}, in front of {upstream}
Paste any of these into another terminal; bash, in any directory:

  # docker
  docker login {registry} -u '{user}' --password-stdin <<< '{token}'
  tar -C '{sample}' -c hello.txt | docker import - {registry}/{PROJECT}/hello:docker
  docker push {registry}/{PROJECT}/hello:docker

  # skopeo
  skopeo copy --dest-cert-dir '{certificates}' --dest-creds '{user}:{token}' 'oci:{sample}/layout:latest' docker://{registry}/{PROJECT}/hello:skopeo

  # podman
  podman build -t {registry}/{PROJECT}/hello:podman '{sample}'
  podman push --cert-dir '{certificates}' --creds '{user}:{token}' {registry}/{PROJECT}/hello:podman

  # the robot that may only pull
  curl --cacert '{authority}' -u '{}:{}' {url}/v2/{PROJECT}/hello/tags/list

  CA certificate  {authority}
  management      http://{management}  (/healthz, /readyz, /metrics)
  command line    '{}' --config '{}' project list

Ctrl-C ends it; the next run finds everything as it is now.
",
            pull.username,
            pull.token,
            self.binary.display(),
            config.display(),
        );
        Ok(())
    }

    /// A new robot; where a run was broken off after making it, a new secret for it.
    fn robot(&self, role: &str) -> Result<Robot> {
        let create = ask(self.gateway().args(["robot", "create", PROJECT, role, "--role", role, "--json"]));
        let told = create.or_else(|created| {
            ask(self.gateway().args(["robot", "rotate", PROJECT, role, "--json"])).map_err(|_| created)
        })?;
        serde_json::from_str(&told).context("what the gateway told of its robot")
    }

    fn robots(&self) -> Result<BTreeMap<String, Robot>> {
        let path = self.path("robots.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    fn keep(&self, robots: &BTreeMap<String, Robot>) -> Result<()> {
        let (path, new) = (self.path("robots.json"), self.path("robots.json.new"));
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string_pretty(robots)?.as_bytes())?;
        std::fs::rename(new, path)?;
        Ok(())
    }

    fn gateway(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.config());
        command
    }

    fn config(&self) -> PathBuf {
        self.path("portcullis.toml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn text(&self, section: &str, key: &str) -> Result<String> {
        let item = self.document.get(section).and_then(|section| section.get(key));
        let text = item.and_then(Item::as_str).map(str::to_owned);
        text.with_context(|| format!("{}: {section}.{key} is not a string", self.config().display()))
    }

    fn set(&mut self, section: &str, key: &str, text: String) {
        self.section(section).insert(key, value(text));
    }

    fn section(&mut self, name: &str) -> &mut dyn toml_edit::TableLike {
        let item = self.document.entry(name).or_insert(Item::Table(Table::new()));
        if !item.is_table_like() {
            *item = Item::Table(Table::new());
        }
        #[expect(clippy::expect_used, reason = "the line above made it one")]
        item.as_table_like_mut().expect("a table")
    }
}

fn free_port(from: u16) -> Result<u16> {
    (from..from.saturating_add(100))
        .find(|port| is_free(*port))
        .with_context(|| format!("no free port on loopback from {from} on"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

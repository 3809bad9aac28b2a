//! The servers of a benchmark, each on a loopback port: nginx behind, HAProxy and the gateway before it, or a real registry
//! with the gateway before that.

use super::content::{Content, MANIFEST, Scratch, blob_path, manifest_path};
use crate::parts;
use crate::processes::{Owned, ask};
use crate::registry;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(30);
const PROJECT: &str = "bench";

/// A server that takes requests.
pub struct Server {
    process: Owned,
    /// Scheme, host and port.
    pub origin: String,
}

impl Server {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// nginx with this content, answering as a registry would.
    pub fn nginx(scratch: &Scratch, cores: usize, manifest: &Content, blob: &Content) -> Result<Self> {
        let directory = scratch.directory("nginx")?;
        let port = free_port()?;
        let config = nginx_config(&directory, port, cores, manifest, blob);
        let file = directory.join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(parts::find(&["nginx"]).context("nginx was there a moment ago")?);
        command.arg("-e").arg(directory.join("error.log")).arg("-c").arg(file);
        let log = File::create(directory.join("output"))?;
        let mut process = Owned::start("nginx", &command, log.try_clone()?.into(), log.into())?;
        process.wait_for_port(port, READY).with_context(|| read(&directory.join("error.log")))?;
        Ok(Self { process, origin: format!("http://127.0.0.1:{port}") })
    }

    /// HAProxy before an upstream, with the gateway's certificate.
    pub fn haproxy(scratch: &Scratch, cores: usize, upstream: &Server, gateway: &Gateway) -> Result<Self> {
        let directory = scratch.directory("haproxy")?;
        let port = free_port()?;
        let pem = directory.join("server.pem");
        let tls = gateway.directory.join("data/tls");
        let [certificate, key] = ["server.crt", "server-key.pem"].map(|name| std::fs::read_to_string(tls.join(name)));
        std::fs::write(&pem, certificate? + &key?)?;
        let behind = upstream.origin.trim_start_matches("http://");
        let file = directory.join("haproxy.cfg");
        std::fs::write(&file, haproxy_config(port, cores, &pem, behind))?;
        let mut command = Command::new(parts::find(&["haproxy"]).context("HAProxy was there a moment ago")?);
        command.arg("-db").arg("-f").arg(file);
        let log = directory.join("output");
        let output = File::create(&log)?;
        let mut process = Owned::start("HAProxy", &command, output.try_clone()?.into(), output.into())?;
        process.wait_for_port(port, READY).with_context(|| read(&log))?;
        Ok(Self { process, origin: format!("https://127.0.0.1:{port}") })
    }

    /// A real registry on an empty directory.
    pub fn registry(scratch: &Scratch, name: &str) -> Result<Self> {
        let port = free_port()?;
        let process = registry::start(&scratch.directory(name)?, port, READY)?;
        Ok(Self { process, origin: format!("http://127.0.0.1:{port}") })
    }
}

/// The gateway before some upstream, with one project and a robot that may do everything in it.
pub struct Gateway {
    /// The server.
    pub server: Server,
    directory: PathBuf,
    robot: Robot,
}

#[derive(Deserialize)]
struct Robot {
    username: String,
    token: String,
}

#[derive(Deserialize)]
struct Issued {
    token: String,
}

impl Gateway {
    /// Makes project and robot, and serves. Where no store is named it is a SQLite file.
    pub fn start(
        scratch: &Scratch,
        name: &str,
        binary: &Path,
        upstream: &Server,
        store: Option<&str>,
        quota: Option<&str>,
    ) -> Result<Self> {
        let directory = scratch.directory(name)?;
        let port = free_port()?;
        let origin = format!("https://127.0.0.1:{port}");
        let config = directory.join("portcullis.toml");
        std::fs::write(&config, gateway_config(&directory, port, free_port()?, &upstream.origin, store))?;
        let call = |arguments: &[&str]| {
            let mut command = Command::new(binary);
            command.arg("--config").arg(&config).args(arguments);
            command
        };
        // nginx has no catalog that could say whether there is something to adopt.
        ask(&mut call(&["project", "create", PROJECT, "--adopt"]))?;
        if let Some(quota) = quota {
            ask(&mut call(&["quota", "set", PROJECT, quota]))?;
        }
        let robot = ask(&mut call(&["robot", "create", PROJECT, "bench", "--role", "admin", "--json"]))?;
        let robot = serde_json::from_str(&robot).context("what the gateway told of its robot")?;
        let log = directory.join("log");
        let output = File::create(&log)?;
        let mut process = Owned::start("the gateway", &call(&["serve"]), Stdio::piped(), output.into())?;
        wait_until_ready(&mut process).with_context(|| read(&log))?;
        Ok(Self { server: Server { process, origin }, directory, robot })
    }

    /// The certificate that clients have to trust.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("data/tls/ca.crt")
    }

    /// `Basic …`, the robot's own credentials.
    pub fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.robot.username, self.robot.token)))
    }

    /// Where a token for everything in the repository is to be had.
    pub fn token_path() -> String {
        format!("/token?service=portcullis&scope=repository:{}:pull,push", super::content::REPOSITORY)
    }

    /// `Bearer …`, a token that outlasts the benchmark.
    pub fn bearer(&self) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "10", "--cacert"]).arg(self.authority());
        curl.arg("-H").arg(format!("authorization: {}", self.basic()));
        curl.arg(format!("{}{}", self.server.origin, Self::token_path()));
        let issued: Issued = serde_json::from_str(&ask(&mut curl)?).context("what the token endpoint said")?;
        Ok(format!("Bearer {}", issued.token))
    }
}

fn nginx_config(directory: &Path, port: u16, cores: usize, manifest: &Content, blob: &Content) -> String {
    // Started by root its workers would be nobody, who may not read here.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let d = directory.display();
    let headers = |digest: &str| {
        format!("add_header Docker-Content-Digest {digest}; add_header Docker-Distribution-Api-Version registry/2.0;")
    };
    format!(
        "{user} daemon off; worker_processes {cores}; pid {d}/pid;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on; types {{ }}
    keepalive_timeout 1h; keepalive_requests 1000000000;
    open_file_cache max=16 inactive=1h; open_file_cache_valid 1h;
    client_body_temp_path {d}/1; proxy_temp_path {d}/2; fastcgi_temp_path {d}/3; uwsgi_temp_path {d}/4; scgi_temp_path {d}/5;
    server {{
        listen 127.0.0.1:{port};
        location = /v2/ {{ default_type application/json; return 200 '{{}}'; }}
        location = {} {{ default_type {MANIFEST}; {} alias {}; }}
        location = {} {{ default_type application/octet-stream; {} alias {}; }}
    }}
}}
",
        manifest_path(manifest),
        headers(&manifest.digest),
        manifest.file.display(),
        blob_path(blob),
        headers(&blob.digest),
        blob.file.display(),
    )
}

fn haproxy_config(port: u16, cores: usize, pem: &Path, upstream: &str) -> String {
    format!(
        "global
    nbthread {cores}
    maxconn 4096
    ssl-default-bind-options ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend clients
    bind 127.0.0.1:{port} ssl crt {} alpn h2,http/1.1
    default_backend upstream
backend upstream
    server upstream {upstream}
",
        pem.display()
    )
}

/// All clients have one address: its limit is asked, and lets all of them pass.
fn gateway_config(directory: &Path, port: u16, management: u16, upstream: &str, store: Option<&str>) -> String {
    let store = store.map_or_else(String::new, |url| format!("[store]\nurl = {url:?}\n"));
    format!(
        "data_dir = {:?}
[server]
public_url = \"https://127.0.0.1:{port}\"
listen = \"127.0.0.1:{port}\"
[management]
listen = \"127.0.0.1:{management}\"
[upstream]
url = {upstream:?}
isolation = \"repository\"
[tokens]
life_s = 3600
[limits]
requests_per_address = \"100000/s\"
[log]
level = \"warn\"
{store}",
        directory.join("data").display().to_string(),
    )
}

fn wait_until_ready(process: &mut Owned) -> Result<()> {
    let lines = process.stdout().context("it was started with a pipe")?;
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            if line.starts_with("portcullis ready ") {
                let _ = ready.send(());
            }
        }
    });
    is_ready.recv_timeout(READY).context("the gateway was not ready in time")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

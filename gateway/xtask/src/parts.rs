//! What running, testing and measuring need: found, installed where that is possible, or listed.

use crate::processes::{ask, call};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What parts are wanted for. Each purpose wants the ones before it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Purpose {
    /// To serve in front of a registry that is already there
    Gateway,
    /// To serve in front of a registry of our own
    Run,
    /// To run the tests
    Test,
    /// To measure
    Bench,
}

struct Part {
    purpose: Purpose,
    /// The names that the program goes by, or one file; any of them will do.
    names: &'static [&'static str],
    /// The packages of Debian or Ubuntu that hold it; the first that exists is taken.
    packages: &'static [&'static str],
}

const PARTS: &[Part] = &[
    part(Purpose::Gateway, &["cc"], &["build-essential"]),
    part(Purpose::Gateway, &["setpriv"], &["util-linux"]),
    part(Purpose::Run, REGISTRY, &["docker-registry"]),
    part(Purpose::Test, &["skopeo"], &["skopeo"]),
    part(Purpose::Test, &["podman"], &["podman"]),
    part(Purpose::Test, &["buildah"], &["buildah"]),
    part(Purpose::Test, &["runc", "crun"], &["runc"]),
    part(Purpose::Test, &["/etc/containers/policy.json"], &["golang-github-containers-common", "containers-common"]),
    part(Purpose::Test, &["dockerd"], &["docker.io"]),
    part(Purpose::Test, &["docker"], &["docker-cli", "docker.io"]),
    part(Purpose::Test, &["containerd"], &["containerd"]),
    part(Purpose::Test, &["ctr"], &["containerd"]),
    part(Purpose::Test, &["iptables"], &["iptables"]),
    part(Purpose::Test, &["postgres"], &["postgresql"]),
    part(Purpose::Test, &["initdb"], &["postgresql"]),
    part(Purpose::Test, &["createdb"], &["postgresql-client", "postgresql"]),
    part(Purpose::Test, &["pg_dump"], &["postgresql-client", "postgresql"]),
    part(Purpose::Test, &["redis-server", "valkey-server"], &["redis-server", "valkey-server"]),
    part(Purpose::Test, &["psql"], &["postgresql-client", "postgresql"]),
    part(Purpose::Test, &["sqlite3"], &["sqlite3"]),
    part(Purpose::Test, &["ip"], &["iproute2"]),
    part(Purpose::Test, &["unshare"], &["util-linux"]),
    part(Purpose::Test, &["mount"], &["mount"]),
    part(Purpose::Test, &["tar"], &["tar"]),
    part(Purpose::Bench, &["nginx"], &["nginx-light", "nginx"]),
    part(Purpose::Bench, &["haproxy"], &["haproxy"]),
    part(Purpose::Bench, &["wrk"], &["wrk"]),
    part(Purpose::Bench, &["h2load"], &["nghttp2-client"]),
    part(Purpose::Bench, &["curl"], &["curl"]),
];

/// The names of the registry's program, the newer one first.
pub const REGISTRY: &[&str] = &["registry", "docker-registry"];

/// Components of the Rust toolchain: the program, and what rustup calls it.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

/// What is run as root to install packages. Their services are not to be started: nobody asked for an open registry or
/// a database on this machine.
const INSTALL: &str = r#"
set -eu
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
apt-get install --yes --no-install-recommends "$@"
"#;

/// Finds what `purpose` needs and installs what is missing. An error lists what has to be installed by hand.
pub fn ensure(purpose: Purpose) -> Result<()> {
    let missing = missing(purpose);
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|part| part.names.join(" or ")).collect();
        println!("missing: {}", names.join(", "));
        if let Some(root) = root_for_apt() {
            install(root, &missing)?;
        }
    }
    let missing = self::missing(purpose);
    if !missing.is_empty() {
        let line = |part: &&Part| format!("\n  {} (package {})", part.names.join(" or "), part.packages.join(" or "));
        let what: String = missing.iter().map(line).collect();
        let packages: Vec<_> = missing.iter().filter_map(|part| part.packages.first().copied()).collect();
        bail!(
            "still missing:{what}\nOn Debian or Ubuntu: sudo apt-get install --no-install-recommends {}",
            unique(packages).join(" ")
        );
    }
    if purpose >= Purpose::Test {
        components()?;
    }
    Ok(())
}

/// Where a program is: on the `PATH`, or where Debian keeps what is for root or for one version of PostgreSQL.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    names.iter().flat_map(|name| directories.iter().map(move |d| d.join(name))).find(|f| f.is_file())
}

const fn part(purpose: Purpose, names: &'static [&'static str], packages: &'static [&'static str]) -> Part {
    Part { purpose, names, packages }
}

fn missing(purpose: Purpose) -> Vec<&'static Part> {
    PARTS.iter().filter(|part| part.purpose <= purpose && find(part.names).is_none()).collect()
}

/// The words before a command that make it run as root without a question; none where apt-get or the right is missing.
fn root_for_apt() -> Option<&'static [&'static str]> {
    find(&["apt-get"])?;
    if rustix::process::geteuid().is_root() {
        return Some(&["env"]);
    }
    let mut sudo = Command::new("sudo");
    let allowed = sudo.args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    allowed.is_ok_and(|status| status.success()).then_some(&["sudo", "-n", "env"])
}

fn install(root: &[&str], missing: &[&Part]) -> Result<()> {
    let as_root = || {
        let mut command = Command::new(root.first().copied().unwrap_or("env"));
        command.args(root.iter().skip(1)).arg("DEBIAN_FRONTEND=noninteractive").stdin(Stdio::null());
        command
    };
    call(as_root().args(["apt-get", "update"]))?;
    let packages: Vec<&str> = missing.iter().filter_map(|part| available(part.packages)).collect();
    if packages.is_empty() {
        return Ok(());
    }
    call(as_root().args(["sh", "-c", INSTALL, "install"]).args(unique(packages)))
}

/// The first package that this release has.
fn available(packages: &'static [&'static str]) -> Option<&'static str> {
    packages.iter().copied().find(|package| {
        let shown = ask(Command::new("apt-cache").args(["show", "--no-all-versions", package]));
        shown.is_ok_and(|text| text.contains("Package: "))
    })
}

fn components() -> Result<()> {
    for (program, component) in COMPONENTS {
        if ask(Command::new("cargo").args([program, "--version"])).is_ok() {
            continue;
        }
        println!("missing: {component}");
        if find(&["rustup"]).is_none() && !Path::new("/usr/bin/rustup").exists() {
            bail!("cargo {program} is missing: install the component {component} of your Rust toolchain");
        }
        call(Command::new("rustup").args(["component", "add", component]))?;
    }
    Ok(())
}

fn unique(mut packages: Vec<&str>) -> Vec<&str> {
    packages.sort_unstable();
    packages.dedup();
    packages
}

//! `[upstream]`: the registry behind, and how the gateway logs in to it.

use super::hint::{describe, shown};
use super::origin::parse_host_port;
use super::reader::Section;
use super::{DAY, PublicUrl};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// `[upstream]`: the registry behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `url`: its origin.
    pub url: PublicUrl,
    /// `ca_file`: PEM roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `auth`
    pub auth: UpstreamAuth,
    /// `isolation`
    pub isolation: Isolation,
    /// `redirects`
    pub redirects: Redirects,
    /// `redirect_hosts`: `host` or `host:port` of the storage that the upstream may redirect to.
    pub redirect_hosts: Vec<String>,
    /// `connect_timeout_s`
    pub connect_timeout: Duration,
    /// `first_byte_timeout_s`: from the last byte of the request to the first of the answer.
    pub first_byte_timeout: Duration,
    /// `idle_timeout_s`: longest silence in the middle of a body, of a client that sends and of the upstream.
    pub idle_timeout: Duration,
    /// `unread_timeout_s`: how long an answer's bytes may wait for a client that reads nothing.
    pub unread_timeout: Duration,
    /// `pool_idle_s`: how long an unused connection is kept.
    pub pool_idle: Duration,
    /// `max_connections`: most connections to the upstream over all threads.
    pub max_connections: usize,
}

/// `upstream.auth`
#[derive(Clone, PartialEq, Eq)]
pub enum UpstreamAuth {
    /// `"none"`
    None,
    /// `{ kind = "basic", username, password_file }`
    Basic {
        /// User.
        username: String,
        /// The file's contents without the end of line.
        password: Zeroizing<String>,
    },
    /// `{ kind = "bearer", username, password_file, realm_hosts }`: the upstream's own token endpoint, on listed hosts only.
    Bearer {
        /// User.
        username: String,
        /// The file's contents without the end of line.
        password: Zeroizing<String>,
        /// `host` or `host:port` that may be given the password.
        realm_hosts: Vec<String>,
    },
}

/// Without the password.
impl fmt::Debug for UpstreamAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Basic { username, .. } => f.debug_struct("Basic").field("username", username).finish_non_exhaustive(),
            Self::Bearer { username, realm_hosts, .. } => f
                .debug_struct("Bearer")
                .field("username", username)
                .field("realm_hosts", realm_hosts)
                .finish_non_exhaustive(),
        }
    }
}

/// `upstream.isolation`: who keeps repositories apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// `"ledger"` (default): the gateway does; a blob is served only where the ledger links it to the repository.
    Ledger,
    /// `"repository"`: the upstream does (CNCF Distribution); `doctor` proves it.
    Repository,
}

/// `upstream.redirects`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// `"follow"` (default): the gateway fetches from a listed host.
    Follow,
    /// `"pass"`: the client is sent to a listed host.
    Pass,
}

pub(super) fn read(mut section: Section<'_>) -> Option<Upstream> {
    let url = section.required(
        "url",
        "http://127.0.0.1:5000",
        "and the gateway needs a registry to stand in front of",
        PublicUrl::parse,
    );
    let ca_file = read_ca(&mut section, url.as_ref());
    let auth = read_auth(&mut section, url.as_ref());
    let isolation =
        section.choice("isolation", &[("ledger", Isolation::Ledger), ("repository", Isolation::Repository)]);
    let redirects = section.choice("redirects", &[("follow", Redirects::Follow), ("pass", Redirects::Pass)]);
    let redirect_hosts = section.list("redirect_hosts", "storage.example.com", parse_host_port);
    if redirects == Some(Redirects::Pass) && redirect_hosts.is_empty() && !section.has("redirect_hosts") {
        section.error("redirects", "\"pass\" sends clients to listed hosts, and none is listed; write redirect_hosts = [\"storage.example.com\"] beside it");
    }
    let connect_timeout = section.seconds("connect_timeout_s", 5, 1..=300, "a client waits for it");
    let first_byte_timeout = section.seconds("first_byte_timeout_s", 60, 1..=3600, "a client waits for it");
    let idle_timeout =
        section.seconds("idle_timeout_s", 60, 1..=3600, "a stalled transfer holds a connection on both sides");
    let unread_timeout =
        section.seconds("unread_timeout_s", 120, 1..=3600, "a client that reads nothing holds an upstream connection");
    let pool_idle =
        section.seconds("pool_idle_s", 30, 1..=DAY, "it should end before the upstream closes idle connections itself");
    let max_connections = section.number("max_connections", 256, 1..=65_535, "it has that many ports to come from");
    section.finish();
    Some(Upstream {
        url: url?,
        ca_file,
        auth: auth?,
        isolation: isolation?,
        redirects: redirects?,
        redirect_hosts,
        connect_timeout,
        first_byte_timeout,
        idle_timeout,
        unread_timeout,
        pool_idle,
        max_connections: max_connections?,
    })
}

fn read_ca(section: &mut Section<'_>, url: Option<&PublicUrl>) -> Option<PathBuf> {
    let path = section.path("ca_file", "upstream-ca.pem")?;
    certificates(section, "ca_file", &path, "the upstream");
    if url.is_some_and(|url| !url.https) {
        section.error("ca_file", "contradicts upstream.url, which is http: no certificate would be looked at; write an https:// url, or leave ca_file out");
    }
    Some(path)
}

/// What the file that a key names holds, which has to be a certificate at least.
pub(super) fn certificates(section: &Section<'_>, key: &str, path: &Path, whose: &str) -> Option<Zeroizing<Vec<u8>>> {
    let pem = section.contents(key, path, &format!("{whose}'s CA"))?;
    if !CertificateDer::pem_slice_iter(&pem).any(|certificate| certificate.is_ok()) {
        section.error(
            key,
            format!("{} holds no certificate; name a PEM file with the CA that signed {whose}'s", path.display()),
        );
    }
    Some(pem)
}

fn read_auth(section: &mut Section<'_>, url: Option<&PublicUrl>) -> Option<UpstreamAuth> {
    let Some(item) = section.take("auth") else { return Some(UpstreamAuth::None) };
    if item.as_str() == Some("none") {
        return Some(UpstreamAuth::None);
    }
    if !item.is_table_like() {
        section.error(
            "auth",
            format!(
                "must be \"none\" or {{ kind = \"basic\" or \"bearer\", username = \"NAME\", password_file = \"PATH\" }}, not {}",
                describe(item)
            ),
        );
        return None;
    }
    let mut auth = section.section("auth");
    let bearer = auth.required("kind", "basic", "and the gateway must be told how to log in", |text| match text {
        "basic" => Ok(false),
        "bearer" => Ok(true),
        _ => Err(format!("\"{}\" is no choice here; write \"basic\" or \"bearer\", or auth = \"none\"", shown(text))),
    });
    let username = auth.required("username", "portcullis", "and the upstream asks for one", |text| {
        // A colon would end the name early in Basic credentials (RFC 7617, section 2).
        let plain = !text.is_empty() && !text.contains(':') && !text.chars().any(char::is_control);
        if plain { Ok(text.to_owned()) } else { Err("must be a name without a colon or control characters".to_owned()) }
    });
    let password = auth
        .required_path("password_file", "upstream-password", "and the upstream asks for a password")
        .and_then(|path| auth.secret("password_file", &path));
    let listed = auth.list("realm_hosts", "auth.example.com", parse_host_port);
    if bearer == Some(false) && auth.has("realm_hosts") {
        auth.error("realm_hosts", "contradicts kind = \"basic\", which asks no token endpoint; write kind = \"bearer\", or leave realm_hosts out");
    }
    let realm_hosts = if auth.has("realm_hosts") { listed } else { url.map(own_host).into_iter().collect() };
    auth.finish();
    let (username, password) = (username?, password?);
    Some(if bearer? {
        UpstreamAuth::Bearer { username, password, realm_hosts }
    } else {
        UpstreamAuth::Basic { username, password }
    })
}

/// Where `realm_hosts` is not written, only the upstream itself is given the password.
fn own_host(url: &PublicUrl) -> String {
    format!("{}:{}", url.host, url.port)
}

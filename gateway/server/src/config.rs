//! The configuration: one TOML file, read as a whole, checked as a whole, all errors at once with their lines.

mod audit;
mod balancer;
mod hint;
mod limits;
mod log;
mod management;
mod origin;
mod policies;
mod quota;
mod reader;
mod server;
mod store;
mod tokens;
mod traces;
mod upstream;

#[cfg(test)]
mod tests;

pub use audit::Audit;
pub use limits::{Limits, Logins, RedisPlace, SharedLimits};
pub use log::Log;
pub use management::{Management, ManagementListen};
pub use origin::PublicUrl;
pub use policies::Policies;
pub use quota::Quota;
pub use server::{Server, Tls};
pub use store::Store;
pub use tokens::Tokens;
pub use traces::{TraceEndpoint, Traces};
pub use upstream::{Isolation, Redirects, Upstream, UpstreamAuth};

use reader::Reader;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use toml_edit::Document;

const DAY: u64 = 86_400;
/// Longest configuration, certificate or secret file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A checked configuration. Files that it names were readable when it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where everything is kept: `data_dir`.
    pub data_dir: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[management]`
    pub management: Management,
    /// `[upstream]`
    pub upstream: Upstream,
    /// `[store]`
    pub store: Store,
    /// `[tokens]`
    pub tokens: Tokens,
    /// `[limits]`
    pub limits: Limits,
    /// `[quota]`
    pub quota: Quota,
    /// `[policies]`
    pub policies: Policies,
    /// `[audit]`
    pub audit: Audit,
    /// `[log]`
    pub log: Log,
    /// `[traces]`
    pub traces: Traces,
}

/// One thing that is wrong in a configuration: where, what, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration's file.
    pub file: PathBuf,
    /// The line in it; 1 where it is the file as a whole.
    pub line: usize,
    /// The key's path, `tokens.life_s`; empty where the text is no TOML.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

/// `FILE:LINE: key: message`
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// How the files that a configuration names are read.
pub type ReadFile<'r> = &'r dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Reads and checks a configuration file, and the files that it names.
///
/// # Errors
/// All that is wrong in it, in the order of the lines.
pub fn load(file: &Path) -> Result<Config, Vec<ConfigError>> {
    let whole = |message: String| vec![ConfigError { file: file.to_owned(), line: 1, key: String::new(), message }];
    let bytes = read_bounded(file)
        .map_err(|error| whole(format!("cannot be read ({error}); name another with --config FILE")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| whole("is not UTF-8, which TOML is always in; save it as UTF-8".to_owned()))?;
    let absolute = std::path::absolute(file).map_err(|error| whole(format!("has no absolute path ({error})")))?;
    parse(&text, file, absolute.parent().unwrap_or(Path::new("/")), &read_bounded)
}

/// Checks a configuration's text. Relative paths in it count from `base_dir`; `file` is its name in errors; `read` opens the
/// files that it names.
///
/// # Errors
/// All that is wrong in it, in the order of the lines.
pub fn parse(text: &str, file: &Path, base_dir: &Path, read: ReadFile<'_>) -> Result<Config, Vec<ConfigError>> {
    let document = Document::parse(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        vec![ConfigError {
            file: file.to_owned(),
            line,
            key: String::new(),
            message: format!("is no TOML: {}", error.message()),
        }]
    })?;
    let reader = Reader::new(text, document.as_table(), file, base_dir, read);
    let config = read_all(&reader);
    let errors = reader.into_errors();
    match config {
        Some(config) if errors.is_empty() => Ok(config),
        _ => Err(errors),
    }
}

impl Config {
    /// How many requests of its robots a project may have at once on this node. Where it is not written, they and its guests'
    /// third together have half of what there is, so that one project never leaves nothing to the others.
    pub fn under_way_per_project(&self) -> Option<u32> {
        let bears = self.limits.requests_under_way.min(self.upstream.max_connections);
        let share = (bears.saturating_mul(3) / 8).max(1);
        self.limits.rates.under_way_per_project.over(Some(u32::try_from(share).unwrap_or(u32::MAX)))
    }
}

/// What a running gateway goes on with after a reload: the new configuration, but for the keys that take effect at a start
/// only. Those keep their old value; the ones among them that have changed are returned.
pub fn take_over(old: &Config, mut new: Config) -> (Config, Vec<&'static str>) {
    let mut kept = Vec::new();
    if (old.server.tls == Tls::Off) != (new.server.tls == Tls::Off) {
        keep("server.tls", &old.server.tls, &mut new.server.tls, &mut kept);
    }
    keep("data_dir", &old.data_dir, &mut new.data_dir, &mut kept);
    keep("server.listen", &old.server.listen, &mut new.server.listen, &mut kept);
    keep("server.worker_threads", &old.server.worker_threads, &mut new.server.worker_threads, &mut kept);
    keep("management", &old.management, &mut new.management, &mut kept);
    // Of the upstream, isolation alone is looked at with each request.
    let upstream = Upstream { isolation: new.upstream.isolation, ..old.upstream.clone() };
    keep("upstream", &upstream, &mut new.upstream, &mut kept);
    keep("store", &old.store, &mut new.store, &mut kept);
    keep(
        "limits.body_min_bytes_per_s",
        &old.limits.body_min_bytes_per_s,
        &mut new.limits.body_min_bytes_per_s,
        &mut kept,
    );
    keep("tokens.service", &old.tokens.service, &mut new.tokens.service, &mut kept);
    keep("limits.keys", &old.limits.keys, &mut new.limits.keys, &mut kept);
    keep("limits.shared", &old.limits.shared, &mut new.limits.shared, &mut kept);
    keep("quota.reservation_s", &old.quota.reservation, &mut new.quota.reservation, &mut kept);
    keep("policies", &old.policies, &mut new.policies, &mut kept);
    keep("audit.queue_records", &old.audit.queue_records, &mut new.audit.queue_records, &mut kept);
    keep("traces", &old.traces, &mut new.traces, &mut kept);
    keep("log.format", &old.log.json, &mut new.log.json, &mut kept);
    keep("log.level", &old.log.level, &mut new.log.level, &mut kept);
    (new, kept)
}

fn keep<T: Clone + PartialEq>(key: &'static str, old: &T, new: &mut T, kept: &mut Vec<&'static str>) {
    if old != new {
        new.clone_from(old);
        kept.push(key);
    }
}

/// Every section is read even where one before it is wrong, so that all errors come at once.
fn read_all(reader: &Reader<'_>) -> Option<Config> {
    let mut top = reader.top();
    if !top.has("data_dir") {
        top.error("data_dir", "is missing, and the gateway needs a directory of its own; write data_dir = \"/var/lib/portcullis\" above the first section");
    }
    let data_dir = top.path("data_dir", "/var/lib/portcullis");
    let server = server::read(top.section("server"));
    let management = management::read(top.section("management"));
    let upstream = upstream::read(top.section("upstream"));
    let store = store::read(top.section("store"), data_dir.as_deref());
    let tokens = tokens::read(top.section("tokens"));
    let limits = limits::read(top.section("limits"));
    let quota = quota::read(top.section("quota"));
    let policies = policies::read(top.section("policies"));
    let audit = audit::read(top.section("audit"));
    let log = log::read(top.section("log"));
    let traces = traces::read(top.section("traces"));
    top.finish();
    if let Some(server) = &server {
        check_listeners(reader, server, &management, upstream.as_ref());
    }
    Some(Config {
        data_dir: data_dir?,
        server: server?,
        management,
        upstream: upstream?,
        store: store?,
        tokens: tokens?,
        limits: limits?,
        quota,
        policies: policies?,
        audit: audit?,
        log: log?,
        traces,
    })
}

/// What two sections say together must be possible.
fn check_listeners(reader: &Reader<'_>, server: &Server, management: &Management, upstream: Option<&Upstream>) {
    if let ManagementListen::Tcp(management) = management.listen
        && server.listen.iter().any(|listen| overlap(*listen, management))
    {
        reader.error("management.listen", format!("{management} is taken by server.listen; write another port"));
    }
    let Some(upstream) = upstream else { return };
    let own = upstream.url.address().map(|ip| SocketAddr::new(ip, upstream.url.port));
    if upstream.url == server.public_url
        || own.is_some_and(|own| own.ip().is_loopback() && server.listen.iter().any(|listen| overlap(*listen, own)))
    {
        reader.error(
            "upstream.url",
            format!(
                "{} is the gateway itself, which would call itself without end; write the registry's own address",
                upstream.url
            ),
        );
    }
}

/// Whether both cannot be listened on at once. Port 0 is a new port each time; `::` takes IPv4 along.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    let same = one.ip() == other.ip() || takes(one.ip(), other.ip()) || takes(other.ip(), one.ip());
    one.port() == other.port() && one.port() != 0 && same
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

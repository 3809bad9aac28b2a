//! Where the nodes of a deployment count together.

use super::super::hint::shown;
use super::super::origin::{host_address, parse_host};
use super::super::reader::{Section, parse_path};
use super::super::upstream::certificates;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Redis' own port.
const PORT: u16 = 6379;

/// Redis or Valkey, and how long it is waited for.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedLimits {
    /// Where it is.
    pub place: RedisPlace,
    /// Its database's number.
    pub database: i64,
    /// The user; the server's default one where none is written.
    pub username: Option<String>,
    /// From `shared_password_file`.
    pub password: Option<Zeroizing<String>>,
    /// What `shared_ca_file` holds: PEM roots to trust instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// `shared_timeout_ms`: what takes longer is decided without it.
    pub timeout: Duration,
}

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// Host, port, and whether TLS is spoken there.
    Tcp {
        /// A name, or an address without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken; who answers is always verified.
        tls: bool,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Without the password.
impl fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimits")
            .field("place", &self.place)
            .field("database", &self.database)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl SharedLimits {
    /// Whether it is another machine's, and the connection to it neither hides what is said nor verifies who answers.
    pub fn is_unverified(&self) -> bool {
        match &self.place {
            RedisPlace::Unix(_) | RedisPlace::Tcp { tls: true, .. } => false,
            RedisPlace::Tcp { host, .. } => host_address(host).is_none_or(|address| !address.is_loopback()),
        }
    }
}

/// As people read it.
impl fmt::Display for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<SharedLimits> {
    let base_dir = section.base_dir();
    let written = section.string("shared", "redis://127.0.0.1:6379/0", |text| parse(base_dir, text));
    let password = section
        .path("shared_password_file", "redis-password")
        .and_then(|path| section.secret("shared_password_file", &path));
    let ca = read_ca(section, written.as_ref().map(|(place, ..)| place));
    let timeout: Option<u64> =
        section.number("shared_timeout_ms", 50, 1..=5000, "every request waits for it, and for no longer");
    let (place, database, username) = written?;
    Some(SharedLimits { place, database, username, password, ca, timeout: Duration::from_millis(timeout?) })
}

fn read_ca(section: &mut Section<'_>, place: Option<&RedisPlace>) -> Option<Vec<u8>> {
    const KEY: &str = "shared_ca_file";
    let path = section.path(KEY, "redis-ca.pem")?;
    let pem = certificates(section, KEY, &path, "the shared store")?;
    if place.is_some_and(|place| !matches!(place, RedisPlace::Tcp { tls: true, .. })) {
        section.error(KEY, "contradicts limits.shared, which speaks no TLS; write a rediss:// URL, or leave it out");
    }
    Some(pem.to_vec())
}

type Url = (RedisPlace, i64, Option<String>);

fn parse(base_dir: &Path, text: &str) -> Result<Url, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("must name a socket after unix:, such as unix:/run/redis/redis.sock".to_owned());
        }
        return Ok((RedisPlace::Unix(parse_path(base_dir, path)?), 0, None));
    }
    let (rest, tls) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => {
            return Err(format!(
                "\"{}\" is no Redis; write redis://HOST:PORT/DATABASE, rediss:// for TLS, or unix:PATH",
                shown(text.split('@').next_back().unwrap_or_default())
            ));
        }
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = if database.is_empty() { Some(0) } else { database.parse::<u16>().ok().map(i64::from) };
    let database =
        database.ok_or_else(|| "must end in the number of a database, such as redis://127.0.0.1:6379/0".to_owned())?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("must not hold a password, because configurations are read by many; put it into a file and write shared_password_file = \"PATH\" beside it".to_owned());
    }
    let username = user.filter(|user| !user.is_empty()).map(str::to_owned);
    let (host, port) = match host.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port > 0)),
        None => (host, Some(PORT)),
    };
    let port = port.ok_or_else(|| "has no port after the colon; write a number from 1 to 65535".to_owned())?;
    let host = parse_host(host)?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((RedisPlace::Tcp { host, port, tls }, database, username))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Url, String> {
        parse(Path::new("/etc/portcullis"), text)
    }

    fn tcp(host: &str, port: u16, tls: bool) -> RedisPlace {
        RedisPlace::Tcp { host: host.to_owned(), port, tls }
    }

    #[test]
    fn a_redis_is_named_by_its_url_or_its_socket() {
        for (text, place, database, user) in [
            ("redis://127.0.0.1", tcp("127.0.0.1", 6379, false), 0, None),
            ("redis://limits@Redis.example.com:7000/3", tcp("redis.example.com", 7000, false), 3, Some("limits")),
            ("rediss://redis.example.com", tcp("redis.example.com", 6379, true), 0, None),
            ("redis://[::1]:7000", tcp("::1", 7000, false), 0, None),
            ("unix:redis.sock", RedisPlace::Unix("/etc/portcullis/redis.sock".into()), 0, None),
        ] {
            assert_eq!(read(text), Ok((place, database, user.map(str::to_owned))), "{text}");
        }
    }

    #[test]
    fn what_is_no_redis_is_refused_and_no_password_is_shown() {
        for (text, why) in [
            ("redis://:hunter2@localhost", "password"),
            ("rediss://me:hunter2@localhost", "password"),
            ("http://me:hunter2@localhost", "no Redis"),
            ("redis://localhost:0", "port"),
            ("redis://localhost/x", "database"),
            ("redis://", "host"),
            ("unix:", "socket"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(why) && !message.contains("hunter2"), "{text}: {message}");
        }
    }

    #[test]
    fn only_a_redis_elsewhere_without_tls_is_unverified() {
        let shared = |place| {
            let (database, username, password, ca) = (0, None, None, None);
            SharedLimits { place, database, username, password, ca, timeout: Duration::ZERO }
        };
        for place in
            [RedisPlace::Unix("/x".into()), tcp("localhost", 1, false), tcp("::1", 1, false), tcp("10.0.0.1", 1, true)]
        {
            assert!(!shared(place).is_unverified());
        }
        for place in [tcp("10.0.0.1", 1, false), tcp("redis", 1, false)] {
            assert!(shared(place).is_unverified());
        }
    }
}

//! `[store]`: where rules and records are kept.

use super::hint::shown;
use super::origin::host_address;
use super::reader::{Section, parse_path};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// `[store]`
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    /// `url`: `sqlite://PATH` or `postgres://…`, with the password of `password_file`; default `data_dir/portcullis.db`.
    pub url: Zeroizing<String>,
    /// `stale_max_s`: without news from the store for longer, every request is denied.
    pub stale_max: Duration,
    /// `max_connections`
    pub max_connections: u32,
}

/// Without the URL, which may hold a password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("stale_max", &self.stale_max)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Whether the store is PostgreSQL on another machine, and the connection to it does not verify who answers.
    pub fn is_unverified(&self) -> bool {
        let Some(postgres) = Postgres::split(&self.url) else { return false };
        !postgres.is_local() && postgres.parameter(&["sslmode", "ssl-mode"]).is_none_or(|mode| mode != "verify-full")
    }

    /// Whether the store is PostgreSQL, which several gateways may share.
    pub fn is_postgres(&self) -> bool {
        Postgres::split(&self.url).is_some()
    }
}

/// The parts of a PostgreSQL URL that are looked at here; sqlx reads the rest.
struct Postgres<'u> {
    authority: &'u str,
    query: &'u str,
}

impl<'u> Postgres<'u> {
    fn split(url: &'u str) -> Option<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Some(Self { authority: path.split('/').next().unwrap_or_default(), query })
    }

    /// The last of the parameters that are called so: the one that counts.
    fn parameter(&self, names: &[&str]) -> Option<String> {
        let pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.filter(|(key, _)| names.contains(&&**key)).last().map(|(_, value)| value.into_owned())
    }

    fn has_password(&self) -> bool {
        let user = self.authority.rsplit_once('@').map(|(user, _)| user);
        user.is_some_and(|user| user.contains(':')) || self.parameter(&["password"]).is_some()
    }

    /// A Unix socket (a path, percent-encoded in the authority) or a loopback address.
    fn is_local(&self) -> bool {
        let host = self.parameter(&["hostaddr", "host"]).unwrap_or_else(|| {
            let host = self.authority.rsplit_once('@').map_or(self.authority, |(_, host)| host);
            let port = host.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
            port.map_or(host, |(host, _)| host).to_ascii_lowercase()
        });
        host.is_empty()
            || host.starts_with('/')
            || host.starts_with("%2f")
            || host_address(&host).is_some_and(|address| address.is_loopback())
    }
}

pub(super) fn read(mut section: Section<'_>, data_dir: Option<&Path>) -> Option<Store> {
    let base_dir = section.base_dir();
    let written =
        section.string("url", "postgres://portcullis@db.example.com/portcullis", |text| check_url(base_dir, text));
    let url =
        if section.has("url") { written } else { data_dir.and_then(|dir| sqlite_url(&dir.join("portcullis.db")).ok()) };
    let password =
        section.path("password_file", "store-password").and_then(|path| section.secret("password_file", &path));
    if section.has("password_file") && url.as_ref().is_some_and(|url| Postgres::split(url).is_none()) {
        section.error(
            "password_file",
            "contradicts store.url, which is a SQLite file and takes no password; leave it out",
        );
    }
    let stale_max = section.seconds(
        "stale_max_s",
        10,
        2..=300,
        "until then a revoked robot may go on where the store is out of reach",
    );
    let max_connections =
        section.number("max_connections", 8, 2..=1000, "one is kept for changes, and a server has few hundred to give");
    section.finish();
    let url = url.map(|url| password.map_or(url.clone(), |password| with_password(&url, &password)));
    Some(Store { url: url?, stale_max, max_connections: max_connections? })
}

fn check_url(base_dir: &Path, text: &str) -> Result<Zeroizing<String>, String> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        if path.is_empty() || path.starts_with(":memory:") || path.contains(['?', '#', '%']) {
            return Err("must name a file and nothing else, because every command opens the same one; write sqlite:///var/lib/portcullis/portcullis.db".to_owned());
        }
        return sqlite_url(&parse_path(base_dir, path)?);
    }
    let Some(postgres) = Postgres::split(text) else {
        let scheme = text.split(':').next().unwrap_or_default();
        return Err(format!(
            "\"{}\" is no store that is known; write sqlite://PATH or postgres://USER@HOST/DATABASE",
            shown(scheme)
        ));
    };
    if postgres.has_password() {
        return Err("must not hold a password, because configurations are read by many; put it into a file and write password_file = \"PATH\" beside it".to_owned());
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// The URL of a SQLite file; what has a meaning in a URL is encoded.
fn sqlite_url(path: &Path) -> Result<Zeroizing<String>, String> {
    let path = path
        .to_str()
        .ok_or_else(|| format!("{} is not UTF-8, which SQLite wants; choose another path", path.display()))?;
    Ok(Zeroizing::new(format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))))
}

fn with_password(url: &str, password: &str) -> Zeroizing<String> {
    let parameter = Zeroizing::new(form_urlencoded::byte_serialize(password.as_bytes()).collect::<String>());
    let joint = if url.contains('?') { '&' } else { '?' };
    Zeroizing::new(format!("{url}{joint}password={}", parameter.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(url: &str) -> Store {
        Store { url: Zeroizing::new(url.to_owned()), stale_max: Duration::ZERO, max_connections: 2 }
    }

    #[test]
    fn only_a_remote_postgres_without_verification_is_unverified() {
        for url in [
            "sqlite:///x.db",
            "postgres://p@127.0.0.1:5432/p",
            "postgres://p@[::1]/p",
            "postgres://localhost/p",
            "postgres:///p?host=/run/postgresql",
            "postgres://p@%2Frun%2Fpostgresql/p",
            "postgres://db.example.com/p?sslmode=verify-full",
        ] {
            assert!(!store(url).is_unverified(), "{url}");
        }
        for url in [
            "postgres://db.example.com/p",
            "postgresql://p@10.0.0.1:5432/p?sslmode=require",
            "postgres://db.example.com/p?sslmode=verify-full&sslmode=prefer",
            "postgres://db.example.com/p?sslmode=verify-ca",
            "postgres://localhost/p?host=db.example.com",
            "postgres://localhost/p?hostaddr=10.0.0.1",
        ] {
            assert!(store(url).is_unverified(), "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_wherever_it_hides() {
        for url in [
            "postgres://p:secret@db/p",
            "postgres://db/p?password=secret",
            "postgres://p:secret@h@db/p",
            "postgres://:@db/p",
        ] {
            let message = check_url(Path::new("/"), url).unwrap_err();
            assert!(message.contains("password_file") && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn the_password_joins_the_url_encoded() {
        assert_eq!(*with_password("postgres://p@db/p", "a b&c"), "postgres://p@db/p?password=a+b%26c");
        assert_eq!(
            *with_password("postgres://p@db/p?sslmode=require", "x"),
            "postgres://p@db/p?sslmode=require&password=x"
        );
    }

    #[test]
    fn a_file_name_cannot_become_a_parameter_of_the_url() {
        assert_eq!(
            *sqlite_url(Path::new("/d/a?mode=memory%41#x.db")).unwrap(),
            "sqlite:///d/a%3Fmode=memory%2541%23x.db"
        );
        assert!(check_url(Path::new("/"), "sqlite://x.db?mode=memory").is_err());
        assert!(check_url(Path::new("/"), "sqlite://:memory:").is_err());
    }

    #[test]
    fn the_url_is_never_printed() {
        assert!(!format!("{:?}", store("postgres://db/p?password=hunter2")).contains("hunter2"));
    }
}

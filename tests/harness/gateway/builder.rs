//! A configuration that is put together, and the gateway that it becomes.

use super::Gateway;
use crate::postgres::Postgres;
use crate::process::free_port;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tempfile::TempDir;
use toml_edit::{DocumentMut, Item, Table, Value};

/// A configuration that is being put together.
#[must_use]
pub struct Builder {
    document: DocumentMut,
    host: String,
    port: u16,
    address: IpAddr,
    directory: Arc<TempDir>,
    postgres: Option<Arc<Postgres>>,
}

impl Builder {
    /// At a free port of this machine.
    fn local(document: DocumentMut, directory: TempDir, postgres: Option<Arc<Postgres>>) -> Builder {
        Builder {
            document,
            host: "localhost".to_owned(),
            port: free_port(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            directory: Arc::new(directory),
            postgres,
        }
    }

    /// One key of the configuration, such as `tokens.life_s`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Builder {
        set(&mut self.document, key, value.into());
        self
    }

    /// Under which name clients know it, and on which local address it listens; `localhost` and 127.0.0.1 where this is not called.
    pub fn reached_as(mut self, host: &str, address: IpAddr) -> Builder {
        host.clone_into(&mut self.host);
        self.address = address;
        self
    }

    /// With an audit export beside its data: see [`Gateway::export_file`].
    pub fn exporting(self) -> Builder {
        let file = self.directory.path().join("audit.jsonl");
        let file = file.to_str().expect("a path of the test's own").to_owned();
        self.set("audit.export_file", file)
    }

    /// With its store in a PostgreSQL of the test's choice.
    pub fn postgres(mut self, server: &Arc<Postgres>) -> Builder {
        set(&mut self.document, "store.url", server.database().into());
        self.postgres = Some(server.clone());
        self
    }

    /// Writes the configuration and does not serve yet.
    pub fn stopped(mut self) -> Gateway {
        let scheme = match self.document.get("server").and_then(|s| s.get("tls")).and_then(Item::as_str) {
            Some("off") => "http",
            _ => "https",
        };
        let origin = format!("{scheme}://{}:{}", self.host, self.port);
        for (key, value) in [
            ("server.public_url", Value::from(&origin)),
            ("server.listen", SocketAddr::new(self.address, self.port).to_string().into()),
            // Known beforehand, so that commands can ask it.
            ("management.listen", format!("127.0.0.1:{}", free_port()).into()),
        ] {
            if lookup(&self.document, key).is_none() {
                set(&mut self.document, key, value);
            }
        }
        let config = self.directory.path().join("portcullis.toml");
        let gateway = Gateway {
            process: None,
            document: self.document,
            origin,
            config,
            management: String::new(),
            directory: self.directory,
            postgres: self.postgres,
            tells_secrets: false,
        };
        gateway.write();
        gateway
    }

    /// Writes the configuration and serves.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let mut gateway = self.stopped();
        gateway.serve();
        gateway
    }
}

impl Gateway {
    /// A gateway in front of `upstream`, with the store that `PORTCULLIS_TEST_STORE` names: `sqlite` or `postgres`.
    #[track_caller]
    pub fn before(upstream: &str) -> Builder {
        let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
        let mut document = DocumentMut::new();
        let data = directory.path().join("data").to_string_lossy().into_owned();
        set(&mut document, "data_dir", data.into());
        set(&mut document, "upstream.url", upstream.into());
        // Many tests at once on few cores make a guest slow, and let it wait: how long is no test's business that does not set it.
        set(&mut document, "policies.small_cpu_ms", 50.into());
        set(&mut document, "policies.hard_stop_ms", 10_000.into());
        // All tests come from one address, and many share a gateway and fail to log in to it.
        set(&mut document, "limits.login_failures_per_address", "off".into());
        set(&mut document, "limits.login_failures_per_account", "off".into());
        // And many ask as fast as they can.
        set(&mut document, "limits.requests_per_address", "off".into());
        set(&mut document, "limits.requests_under_way_per_address", 2000.into());
        // Where a test leaves few connections to the upstream, a project's share of them is not what it is about.
        set(&mut document, "limits.requests_under_way_per_project", 1024.into());
        let builder = Builder::local(document, directory, None);
        match std::env::var("PORTCULLIS_TEST_STORE").as_deref() {
            Err(_) | Ok("sqlite") => builder,
            Ok("postgres") => builder.postgres(&Postgres::shared()),
            Ok(other) => panic!("PORTCULLIS_TEST_STORE is sqlite or postgres, not {other}"),
        }
    }

    /// Another gateway on the same store with the same keys, at an address of its own; stopped.
    #[track_caller]
    pub fn second_node(&self) -> Gateway {
        let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a new directory");
        let key = self.directory.path().join("data/master.key");
        std::fs::copy(key, data.join("master.key")).expect("the first node has served");
        let mut document = self.document.clone();
        for (section, key) in [("server", "public_url"), ("server", "listen"), ("management", "listen")] {
            let section = document.get_mut(section).and_then(Item::as_table_like_mut);
            section.expect("it has that section").remove(key);
        }
        set(&mut document, "store.url", self.store_url().into());
        set(&mut document, "data_dir", data.to_string_lossy().into_owned().into());
        Builder::local(document, directory, self.postgres.clone()).stopped()
    }
}

pub(super) fn set(document: &mut DocumentMut, key: &str, value: Value) {
    let mut table = document.as_table_mut();
    let mut path = key.split('.').collect::<Vec<_>>();
    let last = path.pop().expect("a split gives something");
    for section in path {
        table = table
            .entry(section)
            .or_insert(Item::Table(Table::new()))
            .as_table_mut()
            .unwrap_or_else(|| panic!("{section} in {key} is not a section"));
    }
    table.insert(last, Item::Value(value));
}

pub(super) fn lookup<'a>(document: &'a DocumentMut, key: &str) -> Option<&'a Item> {
    key.split('.').try_fold(document.as_item(), |item, part| item.get(part))
}

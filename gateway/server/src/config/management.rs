//! `[management]`: health, readiness, metrics; for this machine alone.

use super::reader::{Section, parse_path};
use super::server::parse_listen;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Longest path of a Unix socket that every system takes, in bytes.
const MAX_SOCKET_PATH: usize = 103;

/// `[management]`: health, readiness, metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    /// `listen`: `127.0.0.1:9090`, or `unix:/path`.
    pub listen: ManagementListen,
}

/// Where management listens: loopback or a Unix socket, nothing else without TLS and authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementListen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A socket file, mode 0600.
    Unix(PathBuf),
}

/// As it is written in the configuration.
impl std::fmt::Display for ManagementListen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> Management {
    let base_dir = section.base_dir();
    let listen = section.string("listen", "127.0.0.1:9090", |text| match text.strip_prefix("unix:") {
        Some(path) => {
            let path = parse_path(base_dir, path)?;
            if path.as_os_str().len() > MAX_SOCKET_PATH {
                return Err(format!("{} is longer than the {MAX_SOCKET_PATH} bytes that a Unix socket's path may have; choose a shorter one", path.display()));
            }
            Ok(ManagementListen::Unix(path))
        }
        None => {
            let address = parse_listen(text)?;
            if !address.ip().is_loopback() {
                return Err(format!(
                    "{address} can be reached from other machines, and management has neither TLS nor authentication; write 127.0.0.1:{} or unix:PATH",
                    address.port()
                ));
            }
            Ok(ManagementListen::Tcp(address))
        }
    });
    section.finish();
    Management { listen: listen.unwrap_or(ManagementListen::Tcp((Ipv4Addr::LOCALHOST, 9090).into())) }
}

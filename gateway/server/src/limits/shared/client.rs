//! The client of the shared store, as the configuration names it.

use crate::config::{RedisPlace, SharedLimits};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use redis::{Client, RedisError, TlsCertificates};
use zeroize::Zeroizing;

/// Where TLS is spoken, who answers is verified: against the CA of the configuration, or else the system's.
pub(super) fn client(config: &SharedLimits) -> Result<Client, RedisError> {
    let url = url(config);
    Ok(match &config.place {
        RedisPlace::Tcp { tls: true, .. } => {
            Client::build_with_tls(url.as_str(), TlsCertificates { client_tls: None, root_cert: config.ca.clone() })?
        }
        _ => Client::open(url.as_str())?,
    })
}

/// As the client library reads it; with the password.
fn url(config: &SharedLimits) -> Zeroizing<String> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let user = config.username.as_deref().map(encode).unwrap_or_default();
    let password = Zeroizing::new(config.password.as_deref().map(|password| encode(password)).unwrap_or_default());
    let (database, has_password) = (config.database, config.password.is_some());
    Zeroizing::new(match &config.place {
        RedisPlace::Tcp { host, port, tls } => {
            let scheme = if *tls { "rediss" } else { "redis" };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let who = if has_password { format!("{user}:{}@", *password) } else { String::new() };
            format!("{scheme}://{who}{host}:{port}/{database}")
        }
        RedisPlace::Unix(path) => {
            // An empty user is one, too: nobody's.
            let user = if user.is_empty() { user } else { format!("&user={user}") };
            let who = if has_password { format!("{user}&pass={}", *password) } else { String::new() };
            // What has a meaning in a URL is encoded.
            let path = path.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
            format!("redis+unix://{path}?db={database}{who}")
        }
    })
}

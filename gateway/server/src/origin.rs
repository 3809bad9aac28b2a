//! Origins: which hosts clients may use, which realm they are sent to, and scheme, host and port as text.

use crate::config::{PublicUrl, Server};
use http::Uri;
use http::uri::Authority;

impl PublicUrl {
    /// The origin of an absolute http(s) URL; none for anything else.
    pub fn of_uri(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host, port })
    }

    /// `host`, and the port where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let Self { https, host, port } = self;
        if *port == if *https { 443 } else { 80 } { host.clone() } else { format!("{host}:{port}") }
    }

    /// Whether this origin's host is the listed `host` or `host:port`; without a port, the scheme's own is meant.
    pub fn is_host(&self, listed: &str) -> bool {
        listed.eq_ignore_ascii_case(&self.authority())
            || listed.eq_ignore_ascii_case(&format!("{}:{}", self.host, self.port))
    }

    const fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

/// The hosts that clients may use, and the realm that each is sent to.
pub struct Hosts(Vec<Host>);

struct Host {
    name: String,
    /// The name with `public_url`'s port, as nearly every client writes it.
    authority: String,
    realm: String,
}

impl Hosts {
    /// `public_url`'s host and `server.hosts`. Scheme and port of a realm are always `public_url`'s.
    pub fn new(server: &Server) -> Self {
        let names = std::iter::once(&server.public_url.host).chain(&server.hosts);
        Self(names.map(|name| Host::new(&server.public_url, name)).collect())
    }

    /// The realm for a client that asked this host; none where the host is not ours.
    pub fn realm(&self, authority: &str) -> Option<&str> {
        if let Some(host) = self.0.iter().find(|host| host.authority == authority) {
            return Some(&host.realm);
        }
        let asked = host_of(authority)?;
        self.0.iter().find(|host| host.name.eq_ignore_ascii_case(asked)).map(|host| host.realm.as_str())
    }
}

impl Host {
    fn new(public_url: &PublicUrl, name: &str) -> Self {
        let origin = PublicUrl { host: name.to_ascii_lowercase(), ..public_url.clone() };
        let authority = origin.authority();
        Self { realm: format!("{}://{authority}/token", origin.scheme()), authority, name: origin.host }
    }
}

/// The host in `host` or `host:port`. None where something stands before it, or something else than a port behind it.
pub fn host_of(authority: &str) -> Option<&str> {
    let length = authority.parse::<Authority>().ok()?.host().len();
    let (host, rest) = authority.split_at_checked(length)?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(public: &str, hosts: &[&str]) -> Hosts {
        let public = PublicUrl::of_uri(&public.parse().unwrap()).unwrap();
        let names = std::iter::once(public.host.as_str()).chain(hosts.iter().copied());
        Hosts(names.map(|name| Host::new(&public, name)).collect())
    }

    #[test]
    fn the_realm_has_the_clients_host_and_the_configured_scheme_and_port() {
        let hosts = hosts("https://registry.example:8443", &["[::1]", "10.0.0.1"]);
        assert_eq!(hosts.realm("registry.example:8443"), Some("https://registry.example:8443/token"));
        assert_eq!(hosts.realm("Registry.Example"), Some("https://registry.example:8443/token"));
        assert_eq!(hosts.realm("[::1]:5000"), Some("https://[::1]:8443/token"));
        assert_eq!(hosts.realm("10.0.0.1"), Some("https://10.0.0.1:8443/token"));
    }

    #[test]
    fn any_other_host_has_no_realm() {
        let hosts = hosts("https://registry.example", &[]);
        for host in [
            "evil.example",
            "registry.example.evil.example",
            "registry.example:443.evil.example",
            "x@registry.example",
            "registry.example@evil.example",
            "registry.example:x",
            "registry.example:",
            "registry.example:+443",
            "registry.example:65536",
            "[::1]",
            "",
        ] {
            assert_eq!(hosts.realm(host), None, "{host}");
        }
    }

    #[test]
    fn a_listed_host_without_a_port_means_the_schemes_own() {
        let origin = PublicUrl::of_uri(&"https://store.example:9000/x".parse().unwrap()).unwrap();
        assert!(origin.is_host("store.example:9000"));
        assert!(!origin.is_host("store.example"));
        let origin = PublicUrl::of_uri(&"https://store.example/x".parse().unwrap()).unwrap();
        assert!(origin.is_host("store.example") && origin.is_host("store.example:443"));
    }
}

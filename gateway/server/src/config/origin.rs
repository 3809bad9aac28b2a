//! Origins and hosts as the configuration writes them, in one spelling: lower case, IPv6 in brackets.

use super::hint::shown;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An origin: `https://registry.example.com:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// Whether the scheme is https.
    pub https: bool,
    /// The host, lower case; an IPv6 address in brackets.
    pub host: String,
    /// The port, the scheme's own where none is written.
    pub port: u16,
}

impl PublicUrl {
    /// Reads `http://` or `https://`, a host, and a port where it is not the scheme's own. Nothing may follow but one `/`.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Asked first, so that a password is never shown back.
        if text.contains('@') {
            return Err("must not carry a user or a password; leave out what stands before the @".to_owned());
        }
        let lower = text.to_ascii_lowercase();
        let (https, rest) = match (lower.strip_prefix("https://"), lower.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => {
                return Err(format!(
                    "\"{}\" has no scheme; write https://HOST or http://HOST, with :PORT where it is not the scheme's own",
                    shown(text)
                ));
            }
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(
                "must end after host and port, because a registry's paths begin at /v2/; leave the path out".to_owned()
            );
        }
        let (host, port) = split_port(authority)?;
        Ok(Self { https, host: parse_host(host)?, port: port.unwrap_or(if https { 443 } else { 80 }) })
    }

    /// What a client names in image references and at login. Clients take a bare host for https.
    pub fn registry(&self) -> String {
        if self.https && self.port == 443 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The host as an address, where it is one; `localhost` counts as 127.0.0.1.
    pub fn address(&self) -> Option<IpAddr> {
        host_address(&self.host)
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address().is_some_and(|address| address.is_loopback())
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, own_port) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == own_port { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Reads a host name or address, without scheme and port.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let refused = || {
        format!(
            "\"{}\" is no host name or address; write it without scheme, port and path, such as registry.example.com, 192.0.2.1 or [2001:db8::1]",
            shown(text)
        )
    };
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(refused)?;
        return inner.parse::<Ipv6Addr>().map(|address| format!("[{address}]")).map_err(|_| refused());
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let lower = text.to_ascii_lowercase();
    // A name whose last label is a number is an IPv4 address or a mistake (WHATWG URL, "ends in a number").
    if lower.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return lower.parse::<Ipv4Addr>().map(|address| address.to_string()).map_err(|_| refused());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if lower.len() <= 253 && lower.split('.').all(label) { Ok(lower) } else { Err(refused()) }
}

/// Reads `host` or `host:port`.
pub(super) fn parse_host_port(text: &str) -> Result<String, String> {
    let (host, port) = split_port(text)?;
    let host = parse_host(host)?;
    Ok(port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

/// A host as an address, where it is one; `localhost` counts as 127.0.0.1.
pub(super) fn host_address(host: &str) -> Option<IpAddr> {
    if host == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
    else {
        return Ok((text, None));
    };
    let number =
        port.parse::<u16>().ok().filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .map(|number| (host, Some(number)))
        .ok_or_else(|| format!("\"{}\" is no port; write a number from 1 to 65535 after the colon", shown(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_into_one_spelling() {
        for (text, shown, registry) in [
            ("https://Registry.Example.com", "https://registry.example.com", "registry.example.com"),
            ("https://registry.example.com:443/", "https://registry.example.com", "registry.example.com"),
            ("HTTPS://registry.example.com:8443", "https://registry.example.com:8443", "registry.example.com:8443"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://registry", "http://registry", "registry:80"),
            ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ] {
            let origin = PublicUrl::parse(text).unwrap();
            assert_eq!(origin.to_string(), shown);
            assert_eq!(origin.registry(), registry);
            assert_eq!(PublicUrl::parse(&origin.to_string()).unwrap(), origin);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_and_says_why() {
        for (text, why) in [
            ("registry.example.com", "no scheme"),
            ("ftp://registry.example.com", "no scheme"),
            ("https://", "no host name"),
            ("https://registry.example.com/v2", "leave the path out"),
            ("https://registry.example.com?x", "leave the path out"),
            ("https://me:secret@registry.example.com", "before the @"),
            ("https://registry.example.com:0", "no port"),
            ("https://registry.example.com:+1", "no port"),
            ("https://registry.example.com:99999", "no port"),
            ("https://300.1.1.1", "no host name"),
            ("https://-a.example.com", "no host name"),
            ("https://a..example.com", "no host name"),
            ("https://a b", "no host name"),
            ("https://[::1", "no host name"),
            ("https://[fe80::1%eth0]", "no host name"),
            ("https://bücher.example", "no host name"),
        ] {
            let message = PublicUrl::parse(text).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        assert!(PublicUrl::parse("http://localhost:5000").unwrap().is_loopback());
        assert!(PublicUrl::parse("http://[::1]:5000").unwrap().is_loopback());
        assert!(PublicUrl::parse("http://127.8.8.8").unwrap().is_loopback());
        assert!(!PublicUrl::parse("http://10.0.0.1").unwrap().is_loopback());
        assert!(!PublicUrl::parse("http://localhost.example.com").unwrap().is_loopback());
    }

    #[test]
    fn listed_hosts_may_carry_a_port() {
        assert_eq!(parse_host_port("Storage.example.com:9000").unwrap(), "storage.example.com:9000");
        assert_eq!(parse_host_port("storage.example.com").unwrap(), "storage.example.com");
        assert_eq!(parse_host_port("2001:db8::1").unwrap(), "[2001:db8::1]");
        assert!(parse_host_port("https://storage.example.com").is_err());
        assert!(parse_host("storage.example.com:9000").is_err());
    }
}

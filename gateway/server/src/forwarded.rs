//! Who a client is behind proxies that say so: `X-Forwarded-For`, or `Forwarded` (RFC 7239), from listed networks only.
//!
//! Each proxy adds, on the right, the address that it was called from. So the list is walked from the right, from one listed
//! proxy to the next, up to the first address that is not listed: that one a proxy of ours has seen with its own eyes, and
//! what stands left of it is what a client claims. An entry that cannot be read ends the walk at the proxy that sent it. It
//! never looks at the header that is not configured.

use crate::network;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Most proxies in a row; the walk ends at the last of them.
const MOST_HOPS: usize = 32;

/// Where proxies write whom they were called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `X-Forwarded-For: ADDRESS, ADDRESS`
    XForwardedFor,
    /// `Forwarded: for=ADDRESS;by=…, for=ADDRESS` (RFC 7239)
    Forwarded,
}

impl Field {
    const fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => http::header::FORWARDED,
        }
    }

    /// The address that one entry names; none where it names none that can be relied on.
    pub fn read(self, entry: &str) -> Option<IpAddr> {
        let entry = entry.trim_matches([' ', '\t']);
        match self {
            Self::XForwardedFor => read_node(entry),
            Self::Forwarded => read_element(entry),
        }
    }
}

/// Who sent a request that came from `peer`: the peer itself, unless it is a listed proxy that says otherwise.
pub fn client(field: Field, headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut seen = peer;
    let lines = headers.get_all(field.name()).iter().rev();
    // A comma never stands in a quoted text that is taken, so that a client's open quote cannot swallow what a proxy adds.
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries.take(MOST_HOPS) {
        if !network::is_in(trusted, seen) {
            return seen;
        }
        let Some(before) = std::str::from_utf8(entry).ok().and_then(|entry| field.read(entry)) else { return seen };
        seen = before;
    }
    seen
}

/// `for=…` and its companions. RFC 7239 wants each name once at most; whoever is without a `for` has not said whom it saw.
fn read_element(element: &str) -> Option<IpAddr> {
    let mut found = None;
    let mut names = Vec::with_capacity(4);
    for pair in element.split(';') {
        let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        if !is_token(name) || names.iter().any(|known: &&str| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        names.push(name);
        let (value, is_quoted) = match value.strip_prefix('"') {
            Some(quoted) => (quoted.strip_suffix('"')?, true),
            None => (value, false),
        };
        // What needs an escape, a comma or a space is no node, no host and no scheme.
        let is_plain = |byte: u8| is_token_byte(byte) || (is_quoted && matches!(byte, b':' | b'[' | b']'));
        if value.is_empty() || !value.bytes().all(is_plain) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") {
            found = Some(read_rfc_node(value)?);
        }
    }
    found
}

/// A node of RFC 7239, section 6: IPv6 in brackets, a port or not. `unknown` and `_hidden` name no address.
fn read_rfc_node(node: &str) -> Option<IpAddr> {
    if node.contains(':') && !node.starts_with('[') && node.matches(':').count() > 1 { None } else { read_node(node) }
}

/// An address as proxies write it: bare, in brackets, with a port or not.
fn read_node(node: &str) -> Option<IpAddr> {
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = node.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let inside = node.strip_prefix('[')?.strip_suffix(']')?;
    inside.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// RFC 9110, section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests;

//! Who a client is behind proxies.

use crate::server::forwarded::{Field, client};
use crate::server::network::is_in;
use crate::{Outcome, first_line, text};
use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// Whoever is in one of these is believed.
const TRUSTED: [&str; 3] = ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"];
/// A client's address as a proxy of ours writes it.
const SEEN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

/// `X-Forwarded-For` or `Forwarded`, a space, and who the connection comes from; then the header's lines. Nobody is believed who
/// is not listed; whoever a listed proxy names last is who counts, whatever a client wrote before; and what stands before the
/// first address that is not listed changes nothing.
pub fn forwarded(bytes: &[u8]) -> Outcome {
    let (first, lines) = first_line(bytes);
    let Some((name, peer)) = text(first).and_then(|line| line.split_once(' ')) else { return Outcome::Refused };
    let (field, header, other) = match name {
        "X-Forwarded-For" => (Field::XForwardedFor, X_FORWARDED_FOR, FORWARDED),
        "Forwarded" => (Field::Forwarded, FORWARDED, X_FORWARDED_FOR),
        _ => return Outcome::Refused,
    };
    let Ok(peer) = peer.parse::<IpAddr>() else { return Outcome::Refused };
    let lines: Option<Vec<HeaderValue>> =
        lines.split(|byte| *byte == b'\n').map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let Some(lines) = lines else { return Outcome::Refused };

    let trusted = TRUSTED.map(|network| network.parse::<IpNet>().expect("our own network"));
    let ask = |header: &HeaderName, lines: &[HeaderValue]| {
        let headers: HeaderMap = lines.iter().map(|line| (header.clone(), line.clone())).collect();
        client(field, &headers, peer, &trusted)
    };
    let found = ask(&header, &lines);
    assert_eq!(ask(&other, &lines), peer, "the other header is not looked at");
    if !is_in(&trusted, peer) {
        assert_eq!(found, peer, "somebody who is not listed was believed");
        return Outcome::Refused;
    }
    let named = |line: &HeaderValue| {
        let mut entries = line.as_bytes().split(|byte| *byte == b',').filter_map(text);
        entries.any(|entry| field.read(entry) == Some(found))
    };
    assert!(found == peer || lines.iter().any(named), "nobody named {found}");
    assert!(found == peer || found == found.to_canonical(), "{found}");

    // A proxy of ours adds a line, or an entry to the last line.
    let entry = if field == Field::Forwarded { format!("for={SEEN}") } else { SEEN.to_string() };
    let added = [lines.as_slice(), &[value(entry.as_bytes())]].concat();
    assert_eq!(ask(&header, &added), SEEN);
    let mut added = lines.clone();
    if let Some(last) = added.last_mut() {
        *last = value(&[last.as_bytes(), b", ", entry.as_bytes()].concat());
        assert_eq!(ask(&header, &added), SEEN, "a client's text swallows what a proxy adds");
    }
    if !is_in(&trusted, found) {
        for claim in ["for=203.0.113.9", "203.0.113.9", "for=\"", "for=10.0.0.1,", "\"", "unknown"] {
            let claimed = [&[value(claim.as_bytes())], lines.as_slice()].concat();
            assert_eq!(ask(&header, &claimed), found, "{claim} before it changes who it is");
        }
    }
    if found == peer { Outcome::Refused } else { Outcome::Taken }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("parts of headers make a header")
}

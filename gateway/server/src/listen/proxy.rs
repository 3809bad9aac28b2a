//! The PROXY protocol, versions 1 and 2: who a connection comes from, as the balancer before us says in its first bytes
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! What is no header that can be relied on ends the connection; nothing is guessed. It never decides whom to believe: only
//! connections from listed networks are asked for a header. It reads from nothing but the bytes that it is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header that is taken; what balancers send along with the addresses in version 2 has some hundred bytes.
pub const MOST: usize = 4096;
/// Longest header of version 1, its line's end included.
const MOST_V1: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const HEAD_V2: usize = 16;
/// Kind and length of what comes after the addresses.
const TLV_HEAD: usize = 3;
const TLV_CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The balancer speaks for itself (a look whether we live), or cannot say for whom: its own address counts.
    Itself,
    /// It speaks for a client at this address.
    Client(IpAddr),
}

/// A look at the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So far it is a header, whose end is not there yet.
    Incomplete,
    /// A header of so many bytes.
    Complete(Source, usize),
}

/// Why the first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header: {0}")]
pub struct NoHeader(&'static str);

/// Looks for a header at the start of these bytes.
///
/// # Errors
/// They are the start of no header, or of one that contradicts itself.
pub fn parse(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    if starts_as(bytes, SIGNATURE) {
        return parse_v2(bytes);
    }
    if starts_as(bytes, b"PROXY ") {
        return parse_v1(bytes);
    }
    Err(NoHeader("it begins as neither version does"))
}

/// Whether the bytes begin with this, as far as they go.
fn starts_as(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes.get(..common) == start.get(..common)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    let within = bytes.get(..MOST_V1).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < MOST_V1 { Ok(Parsed::Incomplete) } else { Err(NoHeader("its line has no end")) };
    };
    let line = std::str::from_utf8(within.get(..end).unwrap_or_default()).map_err(|_| NoHeader("it is no text"))?;
    let whole = end.saturating_add(2);
    let mut words = line.split(' ').skip(1);
    let is_v6 = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => return Ok(Parsed::Complete(Source::Itself, whole)),
        Some("TCP4") => false,
        Some("TCP6") => true,
        _ => return Err(NoHeader("it is for neither TCP4 nor TCP6")),
    };
    let mut address = || {
        let word = words.next()?;
        if is_v6 {
            word.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        } else {
            word.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }
    };
    let (source, destination) = (address(), address());
    let ports = [words.next(), words.next()].map(|word| word.filter(|word| is_port(word)));
    match (source, destination, ports, words.next()) {
        (Some(source), Some(_), [Some(_), Some(_)], None) => {
            Ok(Parsed::Complete(Source::Client(source.to_canonical()), whole))
        }
        _ => Err(NoHeader("its line is not two addresses and two ports")),
    }
}

fn is_port(word: &str) -> bool {
    let is_plain = word == "0" || !word.starts_with(['0', '+']);
    is_plain && word.parse::<u16>().is_ok()
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..HEAD_V2) else {
        return Ok(Parsed::Incomplete);
    };
    let whole = HEAD_V2.saturating_add(usize::from(u16::from_be_bytes([high, low])));
    if whole > MOST {
        return Err(NoHeader("it is too long"));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(NoHeader("its version and command are unknown")),
    };
    let Some(header) = bytes.get(..whole) else { return Ok(Parsed::Incomplete) };
    let rest = header.get(HEAD_V2..).unwrap_or_default();
    let (source, addresses) = match family {
        // What the balancer itself has to say, or has no words for, is to be skipped.
        _ if is_local => return Ok(Parsed::Complete(Source::Itself, whole)),
        0x00 => return Ok(Parsed::Complete(Source::Itself, whole)),
        0x11 => (rest.first_chunk::<4>().map(|octets| IpAddr::from(*octets)), 12),
        0x21 => (rest.first_chunk::<16>().map(|octets| IpAddr::from(*octets)), 36),
        _ => return Err(NoHeader("it is for no TCP connection")),
    };
    let (Some(source), Some(more)) = (source, rest.get(addresses..)) else {
        return Err(NoHeader("it is too short for its addresses"));
    };
    check_more(header, more)?;
    Ok(Parsed::Complete(Source::Client(source.to_canonical()), whole))
}

/// What stands behind the addresses: pieces that fill it exactly, and the checksum over the whole header, where there is one.
fn check_more(header: &[u8], mut more: &[u8]) -> Result<(), NoHeader> {
    let mut is_checked = false;
    while !more.is_empty() {
        let Some((&[kind, high, low], rest)) = more.split_first_chunk::<TLV_HEAD>() else {
            return Err(NoHeader("it ends in the middle of a piece"));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, after)) = rest.split_at_checked(length) else {
            return Err(NoHeader("one of its pieces is longer than itself"));
        };
        if kind == TLV_CRC32C {
            let Ok(told) = <[u8; 4]>::try_from(value) else { return Err(NoHeader("its checksum has not four bytes")) };
            let at = header.len().saturating_sub(rest.len());
            if is_checked || u32::from_be_bytes(told) != checksum(header, at) {
                return Err(NoHeader("its checksum is wrong"));
            }
            is_checked = true;
        }
        more = after;
    }
    Ok(())
}

/// CRC-32C over the header, with zeros in place of the four bytes that it is written to.
fn checksum(header: &[u8], at: usize) -> u32 {
    let own = at..at.saturating_add(4);
    let bytes = header.iter().enumerate().map(|(place, byte)| if own.contains(&place) { 0 } else { *byte });
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests;

//! The first bytes of a connection that comes from a balancer.

use crate::Outcome;
use crate::server::listen::proxy::{MOST, Parsed, Source, parse};
use std::net::IpAddr;

/// The first bytes. A header is the same however its bytes arrive and whatever follows; until it is whole it is only a part,
/// and what is none does not become one; the address that it names is read alike from a header that we write.
pub fn proxy_protocol(bytes: &[u8]) -> Outcome {
    let followed = |bytes: &[u8]| parse(&[bytes, b"\r\nPROXY \0"].concat());
    let (source, end) = match parse(bytes) {
        Err(_) => {
            assert!(followed(bytes).is_err(), "more bytes make a header of what is none");
            return Outcome::Refused;
        }
        Ok(Parsed::Incomplete) => {
            assert!(bytes.len() < MOST, "it is waited for without end");
            assert!((0..bytes.len()).all(|end| parse(&bytes[..end]) == Ok(Parsed::Incomplete)));
            return Outcome::Refused;
        }
        Ok(Parsed::Complete(source, end)) => (source, end),
    };
    assert!((1..=bytes.len().min(MOST)).contains(&end), "{end} of {}", bytes.len());
    let header = &bytes[..end];
    assert_eq!(parse(header), Ok(Parsed::Complete(source, end)));
    assert_eq!(followed(header), Ok(Parsed::Complete(source, end)), "what follows changes it");
    for part in 0..end {
        assert_eq!(parse(&header[..part]), Ok(Parsed::Incomplete), "{part} of {end} bytes");
    }
    if let Source::Client(address) = source {
        assert_eq!(address, address.to_canonical());
        let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {address} {address} 1 65535\r\n");
        assert_eq!(parse(line.as_bytes()), Ok(Parsed::Complete(source, line.len())));
        let binary = second_version(address);
        assert_eq!(parse(&binary), Ok(Parsed::Complete(source, binary.len())));
    }
    Outcome::Taken
}

fn second_version(address: IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (0x11, address.octets().to_vec()),
        IpAddr::V6(address) => (0x21, address.octets().to_vec()),
    };
    let addresses = [octets.as_slice(), &octets, &[0, 1, 0xff, 0xff]].concat();
    let length = u8::try_from(addresses.len()).expect("36 bytes at most");
    [b"\r\n\r\n\0\r\nQUIT\n\x21".as_slice(), &[family, 0, length], &addresses].concat()
}

use super::*;
use proptest::prelude::*;

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
}

fn tcp4(more: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xBB], more].concat())
}

fn client(address: &str) -> Source {
    Source::Client(address.parse().unwrap())
}

#[track_caller]
fn is_header(bytes: &[u8], source: Source) {
    assert_eq!(parse(bytes), Ok(Parsed::Complete(source, bytes.len())));
    // What follows is not looked at, and whatever is missing is waited for.
    let followed = [bytes, b"\x16\x03\x01PROXY "].concat();
    assert_eq!(parse(&followed), Ok(Parsed::Complete(source, bytes.len())));
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(Parsed::Incomplete), "{end} of {bytes:?}");
    }
}

#[test]
fn headers_of_version_1_are_read() {
    is_header(b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", client("192.0.2.1"));
    is_header(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", client("255.255.255.255"));
    is_header(b"PROXY TCP6 2001:db8::1 fd00::1 1 2\r\n", client("2001:db8::1"));
    is_header(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", client("192.0.2.1"));
    is_header(b"PROXY UNKNOWN\r\n", Source::Itself);
    is_header(b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", Source::Itself);
}

#[test]
fn headers_of_version_2_are_read() {
    is_header(&tcp4(&[]), client("192.0.2.1"));
    is_header(&tcp4(&[0x04, 0, 3, 1, 2, 3, 0x01, 0, 0]), client("192.0.2.1"));
    let mut v6 = [0_u8; 36];
    v6[..2].copy_from_slice(&[0x20, 0x01]);
    is_header(&v2(0x21, 0x21, &v6), client("2001::"));
    is_header(&v2(0x20, 0x00, &[]), Source::Itself);
    is_header(&v2(0x20, 0x11, &[9; 40]), Source::Itself);
    is_header(&v2(0x21, 0x00, &[9; 5]), Source::Itself);
}

#[test]
fn a_checksum_is_checked_where_there_is_one() {
    // RFC 3720, appendix B.4: 32 bytes of zeros, and the digits that everybody tests with.
    assert_eq!(checksum(&[0; 32], 32), 0x8A91_36AA);
    assert_eq!(checksum(b"123456789", 9), 0xE306_9283);
    let header = checked();
    is_header(&header, client("192.0.2.1"));
    // But for the byte that says that there is one.
    for place in (HEAD_V2..header.len()).filter(|place| *place != header.len() - 7) {
        let mut wrong = header.clone();
        wrong[place] ^= 1;
        assert!(parse(&wrong).is_err(), "a bit of byte {place}");
    }
    let twice = tcp4(&[TLV_CRC32C, 0, 4, 0, 0, 0, 0, TLV_CRC32C, 0, 4, 0, 0, 0, 0]);
    assert!(parse(&twice).is_err());
    assert!(parse(&tcp4(&[TLV_CRC32C, 0, 3, 0, 0, 0])).is_err());
}

/// A header with its checksum at its end.
fn checked() -> Vec<u8> {
    let mut header = tcp4(&[0x04, 0, 1, 7, TLV_CRC32C, 0, 4]);
    let at = header.len();
    header[15] = header[15].saturating_add(4);
    header.extend([0; 4]);
    let crc = checksum(&header, at).to_be_bytes();
    header[at..].copy_from_slice(&crc);
    header
}

#[test]
fn what_is_no_header_is_refused() {
    for bad in [
        "GET /v2/ HTTP/1.1\r\n",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWNS\r\n",
        "\r\n\r\n\0\r\nQUIT\r",
        "\u{16}\u{3}\u{1}",
    ] {
        assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..MOST_V1 - 1]), Ok(Parsed::Incomplete));
    assert!(parse(&endless[..MOST_V1]).is_err());
    for bad in [
        v2(0x22, 0x11, &[0; 12]),
        v2(0x11, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x12, &[0; 12]),
        v2(0x21, 0x31, &[0; 216]),
        v2(0x21, 0x11, &[0; MOST]),
        tcp4(&[0x04]),
        tcp4(&[0x04, 0, 2, 1]),
    ] {
        assert!(parse(&bad).is_err(), "{bad:?}");
    }
}

proptest! {
    /// It never panics, asks for more only within its bounds, and more bytes never change what a whole header said.
    #[test]
    fn any_bytes_are_judged(start in 0_usize..3, rest in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..220) {
        let start: &[u8] = [b"PROXY TCP4 ".as_slice(), SIGNATURE, b""][start];
        let bytes = [start, &rest].concat();
        match parse(&bytes) {
            Ok(Parsed::Complete(source, end)) => {
                prop_assert!(end <= bytes.len());
                prop_assert_eq!(parse(&bytes[..end]), Ok(Parsed::Complete(source, end)));
                let cut = cut.min(end.saturating_sub(1));
                prop_assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Incomplete));
            }
            Ok(Parsed::Incomplete) => prop_assert!(bytes.len() < MOST),
            Err(_) => {}
        }
    }
}

//! Networks as people write them: `10.0.0.0/8`, or a single address.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// Reads a network in CIDR form; a bare address is a network of one. Bits beyond the prefix are refused: they show that
/// something else was meant.
pub fn parse(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        "a network is an address and a prefix, such as 10.0.0.0/8 or 2001:db8::/32, or a single address".to_owned()
    })?;
    if network != network.trunc() {
        return Err(format!(
            "{network} is an address inside a network; write {} for the network, or {} for it alone",
            network.trunc(),
            network.addr()
        ));
    }
    Ok(network)
}

/// Whether one of the networks has this address. An IPv4 address that is written as an IPv6 one is meant as IPv4.
pub fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Whom an address counts for where everybody has a share: itself, or the /64 that it lies in, all of which one client has.
pub fn share_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_single_addresses_are_read() {
        for (text, network) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), network);
        }
    }

    #[test]
    fn an_address_counts_for_itself_or_for_its_64() {
        let share = |text: &str| share_of(text.parse().unwrap()).to_string();
        assert_eq!(share("192.0.2.1"), "192.0.2.1");
        assert_eq!(share("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(share("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_ne!(share("2001:db8:1:3::1"), share("2001:db8:1:2::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "10.0.0.0/", "example.com", "10.1.2.3/8", "10.0.0.0/8 "] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("10.1.2.3/8").unwrap_err().contains("write 10.0.0.0/8"));
    }
}

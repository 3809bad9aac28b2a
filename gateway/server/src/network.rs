//! Networks as people write them: `10.0.0.0/8`, or a single address.

use ipnet::IpNet;
use std::net::IpAddr;

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
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "10.0.0.0/", "example.com", "10.1.2.3/8", "10.0.0.0/8 "] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("10.1.2.3/8").unwrap_err().contains("write 10.0.0.0/8"));
    }
}

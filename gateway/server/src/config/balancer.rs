//! `[server]`, as far as it says who stands before us, and whom they may speak for.

use super::reader::Section;
use crate::forwarded::Field;
use crate::network;
use ipnet::IpNet;
use std::net::IpAddr;

/// `proxy_protocol`, `forwarded` and `trusted_proxies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    /// `proxy_protocol`: connections from `trusted_proxies` begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// `forwarded`: the header that requests from `trusted_proxies` say their client's address in.
    pub forwarded: Option<Field>,
    /// `trusted_proxies`: who may say so.
    pub trusted_proxies: Vec<IpNet>,
}

impl Balancer {
    /// Whether connections from this address may carry others' requests.
    pub fn speaks(&self, address: IpAddr) -> bool {
        (self.proxy_protocol || self.forwarded.is_some()) && network::is_in(&self.trusted_proxies, address)
    }

    /// Whether a connection from this address begins with a PROXY header.
    pub fn announces(&self, address: IpAddr) -> bool {
        self.proxy_protocol && network::is_in(&self.trusted_proxies, address)
    }

    /// Whether requests from this address name their client in a header.
    pub fn forwards(&self, address: IpAddr) -> bool {
        self.forwarded.is_some() && network::is_in(&self.trusted_proxies, address)
    }
}

/// Takes these three keys of `[server]`.
pub(super) fn read(section: &mut Section<'_>) -> Option<Balancer> {
    let proxy_protocol = section.flag("proxy_protocol");
    let forwarded = section.choice(
        "forwarded",
        &[("off", None), ("x-forwarded-for", Some(Field::XForwardedFor)), ("forwarded", Some(Field::Forwarded))],
    );
    let trusted_proxies = section.list("trusted_proxies", "10.0.0.0/8", trusted);
    let forwarded = forwarded?;
    for (key, is_on) in [("proxy_protocol", proxy_protocol), ("forwarded", forwarded.is_some())] {
        if is_on && !section.has("trusted_proxies") {
            let message = "is of no use without server.trusted_proxies: nobody may say who a client is; write \
                trusted_proxies = [\"10.0.0.0/8\"] with the networks that your balancers are in";
            section.error(key, message);
        }
    }
    Some(Balancer { proxy_protocol, forwarded, trusted_proxies })
}

/// A network, and not the whole world.
fn trusted(text: &str) -> Result<IpNet, String> {
    let network = network::parse(text)?;
    if network.prefix_len() == 0 {
        return Err(format!(
            "{network} is everybody, and any client could say that it is another; write the networks that your balancers are in"
        ));
    }
    Ok(network)
}

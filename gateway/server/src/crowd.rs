//! Who is here: connections, handshakes and requests under way, of each address and over all; and who finds no room.
//!
//! An address is known as long as something of it is here, so that there are never more of them than connections and
//! requests. It counts what is at once; how much in a time is no matter of this room.

use portcullis_tenancy::limit::client_address;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All that is here.
#[derive(Default)]
pub struct Crowd {
    addresses: Mutex<HashMap<IpAddr, Arc<Tally>>>,
    requests: AtomicUsize,
    /// Who found no room.
    pub metrics: CrowdMetrics,
}

/// What is here of one address.
#[derive(Default)]
struct Tally {
    /// How many [`Address`]es there are of it; at none it is forgotten.
    known: AtomicUsize,
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    requests: AtomicUsize,
}

/// An address that something is here of.
pub struct Address {
    crowd: Arc<Crowd>,
    share: IpAddr,
    tally: Arc<Tally>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connection,
    Handshake,
    /// Until the last piece of its answer was handed out.
    Request,
}

/// A place that is taken; dropped, it is free again.
pub struct Place {
    address: Address,
    kind: Kind,
}

/// Why a request is not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The node has as many under way as it can bear.
    Node,
    /// Its address has its share of them.
    Address,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    Limit,
    /// Its address has its share of them.
    Address,
    /// Its address has as many handshakes under way as it may have.
    Handshakes,
    /// It begins without the header that a listed balancer sends.
    ProxyHeader,
}

impl Crowd {
    /// Somebody at this address.
    pub fn at(self: &Arc<Self>, address: IpAddr) -> Address {
        let share = client_address(address);
        let mut addresses = self.locked();
        let tally = Arc::clone(addresses.entry(share).or_default());
        // Under the lock, so that it is not forgotten in between.
        tally.known.fetch_add(1, Ordering::AcqRel);
        Address { crowd: Arc::clone(self), share, tally }
    }

    /// How many addresses are known.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.locked().len()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Tally>>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address {
    /// A place for a connection, where the address has fewer than `most`.
    pub fn connection(&self, most: usize) -> Option<Place> {
        self.take(Kind::Connection, most)
    }

    /// A place for a TLS handshake, where the address has fewer than `most` under way.
    pub fn handshake(&self, most: usize) -> Option<Place> {
        self.take(Kind::Handshake, most)
    }

    /// A place for a request, where fewer than `most` are under way on this node, and fewer than `share` of this address.
    ///
    /// # Errors
    /// There is none, which is counted.
    pub fn request(&self, most: usize, share: usize) -> Result<Place, Shed> {
        let why = if !take(&self.crowd.requests, most) {
            Shed::Node
        } else if let Some(place) = self.take(Kind::Request, share) {
            return Ok(place);
        } else {
            self.crowd.requests.fetch_sub(1, Ordering::Relaxed);
            Shed::Address
        };
        self.crowd.metrics.shed(why);
        Err(why)
    }

    fn take(&self, kind: Kind, most: usize) -> Option<Place> {
        take(self.tally.of(kind), most).then(|| Place { address: self.clone(), kind })
    }
}

/// One more, where there are fewer than `most`.
fn take(count: &AtomicUsize, most: usize) -> bool {
    let is_free = count.fetch_add(1, Ordering::Relaxed) < most;
    if !is_free {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    is_free
}

impl Tally {
    const fn of(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Connection => &self.connections,
            Kind::Handshake => &self.handshakes,
            Kind::Request => &self.requests,
        }
    }
}

impl Clone for Address {
    fn clone(&self) -> Self {
        // Whoever has one to clone keeps it known meanwhile.
        self.tally.known.fetch_add(1, Ordering::AcqRel);
        Self { crowd: Arc::clone(&self.crowd), share: self.share, tally: Arc::clone(&self.tally) }
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        if self.tally.known.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut addresses = self.crowd.locked();
        // Somebody may have come meanwhile; and gone again, and another one come.
        let is_this = addresses.get(&self.share).is_some_and(|tally| Arc::ptr_eq(tally, &self.tally));
        if is_this && self.tally.known.load(Ordering::Acquire) == 0 {
            addresses.remove(&self.share);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.address.tally.of(self.kind).fetch_sub(1, Ordering::Relaxed);
        if self.kind == Kind::Request {
            self.address.crowd.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Who found no room, and who was shown out.
pub struct CrowdMetrics {
    refused: Family<Reason, Counter>,
    cut: Family<Reason, Counter>,
    shed: Family<Reason, Counter>,
}

impl Default for CrowdMetrics {
    fn default() -> Self {
        let family = |reasons: &[&'static str]| {
            let family = Family::<Reason, Counter>::default();
            for reason in reasons {
                drop(family.get_or_create(&Reason { reason }));
            }
            family
        };
        Self {
            refused: family(&["limit", "address", "handshakes", "proxy-header"]),
            cut: family(&["resets", "control-frames"]),
            shed: family(&["node", "address"]),
        }
    }
}

impl CrowdMetrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections_refused", "Connections turned away, by reason", self.refused.clone());
        registry.register("connections_cut", "HTTP/2 connections ended for what their clients sent", self.cut.clone());
        registry.register("shed", "Requests refused unseen because too many were under way", self.shed.clone());
    }

    /// A connection is not taken.
    pub fn refused(&self, why: Refused) {
        let reason = match why {
            Refused::Limit => "limit",
            Refused::Address => "address",
            Refused::Handshakes => "handshakes",
            Refused::ProxyHeader => "proxy-header",
        };
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// A connection is ended.
    pub fn cut(&self, reason: &'static str) {
        self.cut.get_or_create(&Reason { reason }).inc();
    }

    fn shed(&self, why: Shed) {
        let reason = match why {
            Shed::Node => "node",
            Shed::Address => "address",
        };
        self.shed.get_or_create(&Reason { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let crowd = Arc::new(Crowd::default());
        let (one, other) = (crowd.at(ip("192.0.2.1")), crowd.at(ip("192.0.2.2")));
        let mut taken: Vec<_> = (0..3).map(|_| one.connection(3).expect("there is room")).collect();
        assert!(one.connection(3).is_none());
        assert!(crowd.at(ip("::ffff:192.0.2.1")).connection(3).is_none());
        assert!(one.handshake(1).is_some() && other.connection(3).is_some());
        taken.pop();
        assert!(one.connection(3).is_some());
    }

    #[test]
    fn a_whole_64_has_one_share() {
        let crowd = Arc::new(Crowd::default());
        let _taken = crowd.at(ip("2001:db8::1")).connection(1).expect("there is room");
        assert!(crowd.at(ip("2001:db8::ffff:1")).connection(1).is_none());
        assert!(crowd.at(ip("2001:db8:0:1::1")).connection(1).is_some());
    }

    #[test]
    fn requests_are_counted_for_the_node_and_for_the_address() {
        let crowd = Arc::new(Crowd::default());
        let (one, other) = (crowd.at(ip("192.0.2.1")), crowd.at(ip("192.0.2.2")));
        let first = one.request(3, 2);
        let _second = one.request(3, 2);
        assert_eq!(one.request(3, 2).err(), Some(Shed::Address));
        // What was refused has taken nothing.
        let _third = other.request(3, 2);
        assert_eq!(other.request(3, 2).err(), Some(Shed::Node));
        drop(first);
        assert!(other.request(3, 2).is_ok());
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let crowd = Arc::new(Crowd::default());
        let place = crowd.at(ip("192.0.2.1")).connection(1);
        drop(crowd.at(ip("192.0.2.2")));
        assert_eq!(crowd.len(), 1);
        drop(place);
        assert_eq!(crowd.len(), 0);
    }

    #[test]
    fn what_comes_and_goes_at_once_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::default());
        std::thread::scope(|scope| {
            for most in [1, 2, 100, 100] {
                let crowd = &crowd;
                scope.spawn(move || {
                    for turn in 0..2000_u32 {
                        let address = crowd.at(IpAddr::from([192, 0, 2, u8::try_from(turn % 3).unwrap()]));
                        drop((address.request(most, 2), address.clone(), address.connection(most), address));
                    }
                });
            }
        });
        assert_eq!(crowd.len(), 0);
        assert_eq!(crowd.requests.load(Ordering::Relaxed), 0);
    }
}

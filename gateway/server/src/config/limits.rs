//! `[limits]`: everything has one.

mod rates;
mod shared;

pub use rates::Logins;
pub use shared::{RedisPlace, SharedLimits};

use super::reader::Section;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// `[limits]`: everything has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `manifest_bytes`: at least 4 MiB.
    pub manifest_bytes: usize,
    /// `header_bytes`: of a request's head.
    pub header_bytes: usize,
    /// `connections`: open client connections over all threads.
    pub connections: usize,
    /// `connections_per_address`: of them, from one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// `handshakes_per_address`: TLS handshakes under way, of one address.
    pub handshakes_per_address: usize,
    /// `requests_under_way`: over all connections; what comes beyond is answered 503 unseen.
    pub requests_under_way: usize,
    /// `requests_under_way_per_address`: of them, of one address; what comes beyond is answered 429 unseen.
    pub requests_under_way_per_address: usize,
    /// `streams_per_connection`: HTTP/2.
    pub streams_per_connection: u32,
    /// `resets_per_connection`: streams that a client may reset in ten seconds on one HTTP/2 connection.
    pub resets_per_connection: u32,
    /// `body_min_bytes_per_s`: at what pace clients send and read bodies at least; 0 is any.
    pub body_min_bytes_per_s: u64,
    /// `head_timeout_s`: for TLS handshake, request head, a connection's first request, and a login's form.
    pub head_timeout: Duration,
    /// `page_entries`: most entries in one page of a list.
    pub page_entries: u32,
    /// `discard_bytes`: how much of a refused body is read and thrown away so that the client sees the answer.
    pub discard_bytes: u64,
    /// `discard_timeout_s`
    pub discard_timeout: Duration,
    /// How often and how much, of whom.
    pub rates: rates::Rates,
    /// `keys`: how many addresses are kept track of, how many projects and robots, how many guests, and how many who failed to log
    /// in.
    pub keys: usize,
    /// `shared`: where nodes count together; none where each counts alone.
    pub shared: Option<SharedLimits>,
}

pub(super) fn read(mut section: Section<'_>) -> Option<Limits> {
    let manifest_bytes = section.number(
        "manifest_bytes",
        4 * MIB,
        4 * MIB..=64 * MIB,
        "clients may count on 4 MiB, and each is held in memory",
    );
    let header_bytes = section.number(
        "header_bytes",
        16 * KIB,
        8 * KIB..=256 * KIB,
        "a token takes up to 8 KiB, and each head is held in memory",
    );
    let connections = section.number("connections", 10_000, 1..=1_000_000, "each holds a file descriptor and memory");
    let connections_per_address =
        section.number("connections_per_address", 1000, 1..=1_000_000, "one address must not have all connections");
    let handshakes_per_address =
        section.number("handshakes_per_address", 100, 1..=1_000_000, "each takes cryptography, and others wait for it");
    let requests_under_way =
        section.number("requests_under_way", 2048, 1..=1_000_000, "each holds memory, and all of them share the cores");
    let requests_under_way_per_address = section.number(
        "requests_under_way_per_address",
        200,
        1..=1_000_000,
        "one address must not have all connections to the upstream",
    );
    let resets_per_connection =
        section.number("resets_per_connection", 200, 1..=100_000, "a reset stream is work for nobody");
    let body_min_bytes_per_s = section.number("body_min_bytes_per_s", 1024, 0..=MIB, "slow lines have users too");
    let streams_per_connection = section.number(
        "streams_per_connection",
        128,
        1..=1024,
        "each holds memory, and a client opens as many as it may",
    );
    let head_timeout = section.seconds("head_timeout_s", 10, 1..=300, "a silent client holds a connection for so long");
    let page_entries = section.number("page_entries", 1000, 1..=10_000, "a page is held in memory");
    let discard_bytes = section.number("discard_bytes", 64 * MIB, 0..=GIB, "all of it is traffic for nothing");
    let discard_timeout =
        section.seconds("discard_timeout_s", 5, 0..=60, "a refused client holds a connection for so long");
    let rates = rates::read(&mut section);
    let keys = section.number("keys", 65_536, 256..=16_777_216, "each takes some 30 bytes in each of five tables");
    let shared = shared::read(&mut section);
    section.finish();
    Some(Limits {
        manifest_bytes: manifest_bytes?,
        header_bytes: header_bytes?,
        connections: connections?,
        connections_per_address: connections_per_address?,
        handshakes_per_address: handshakes_per_address?,
        requests_under_way: requests_under_way?,
        requests_under_way_per_address: requests_under_way_per_address?,
        resets_per_connection: resets_per_connection?,
        body_min_bytes_per_s: body_min_bytes_per_s?,
        streams_per_connection: streams_per_connection?,
        head_timeout,
        page_entries: page_entries?,
        discard_bytes: discard_bytes?,
        discard_timeout,
        rates: rates?,
        keys: keys?,
        shared,
    })
}

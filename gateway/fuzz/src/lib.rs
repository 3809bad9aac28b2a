//! What every reader of hostile bytes promises, as one function a reader: it takes any bytes, and panics where the reader
//! breaks its word.
//!
//! The functions are tried twice. `tests/corpus.rs` runs them over `corpus/`, and over some mutations of it, with every
//! `make test`; the programs in `targets/` hand them to a fuzzer for as long as one likes (`make fuzz`). What a fuzzer finds
//! goes into `corpus/` once it is mended. No reader is written here: each stands where it is used.
#![cfg(not(test))] // what is compiled here a second time has its tests at home

mod authorization;
mod challenge;
mod claims;
#[cfg(feature = "configuration")]
mod configuration;
mod digest;
mod go;
mod image_config;
mod keys;
mod manifest;
mod proxies;
mod proxy_protocol;
mod route;
mod scope;
mod token;

pub use authorization::authorization;
pub use challenge::challenge;
pub use claims::claims;
#[cfg(feature = "configuration")]
pub use configuration::configuration;
pub use digest::digest;
pub use image_config::image_config;
pub use manifest::manifest;
pub use proxies::forwarded;
pub use proxy_protocol::proxy_protocol;
pub use route::route;
pub use scope::scope;
pub use token::token;

/// The parts of the gateway that are read here: it is a program, on which nothing can depend, so that their source is
/// compiled a second time, as it stands.
#[path = "../../server/src"]
#[allow(dead_code, unused_imports, reason = "the program uses more of them than is tried here")]
mod server {
    #[cfg(feature = "configuration")]
    pub mod config;
    #[cfg(feature = "configuration")]
    pub mod duration;
    pub mod forwarded;
    pub mod network;
    pub mod listen {
        pub mod proxy;
    }
}
use server::network;
#[cfg(feature = "configuration")]
use server::{duration, forwarded};

/// What a reader made of some bytes. A corpus has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They mean something.
    Taken,
    /// They mean nothing, and were refused in order.
    Refused,
}

/// A target: its name, which is its directory's in `corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]) -> Outcome);

/// Every target.
pub const TARGETS: &[Target] = &[
    ("route", route),
    ("scope", scope),
    ("challenge", challenge),
    ("digest", digest),
    ("manifest", manifest),
    ("image_config", image_config),
    ("authorization", authorization),
    ("token", token),
    ("claims", claims),
    ("forwarded", forwarded),
    ("proxy_protocol", proxy_protocol),
    #[cfg(feature = "configuration")]
    ("configuration", configuration),
];

/// The bytes as text.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// What stands before the first end of line, and what stands behind it.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

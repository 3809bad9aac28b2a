//! What a policy may ask its host to do. Natively, [`testing`](crate::testing) keeps it.

#[cfg(target_family = "wasm")]
use crate::bindings::portcullis::policy::host as source;
#[cfg(not(target_family = "wasm"))]
use crate::testing::host as source;

pub use crate::bindings::portcullis::policy::host::Level;

/// Writes a line to the gateway's log, which bounds its length and the number of lines.
pub fn log(level: Level, message: &str) {
    source::log(level, message);
}

/// Adds to a counter that [`Policy::METRICS`](crate::Policy::METRICS) names.
pub fn count(metric: &str, by: u64) {
    source::count(metric, by);
}

/// Reads from the manifest in question as it was sent: at most `len` bytes from `offset`, fewer at its end.
pub fn manifest_read(offset: u64, len: u32) -> Vec<u8> {
    source::manifest_read(offset, len)
}

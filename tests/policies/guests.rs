//! Where everything about policies is, and the compiler that `cargo xtask policies` used.

use portcullis_tests::guest::text;
use std::path::PathBuf;

/// The directory of everything about policies.
pub fn home() -> PathBuf {
    text::folder()
}

/// The directory of the built components.
#[track_caller]
pub fn components() -> PathBuf {
    let components = home().join("target/components");
    assert!(components.is_dir(), "missing: {} (`make policies` builds it)", components.display());
    components
}

/// The compiler that knows the guests' target, where it is not the usual one.
pub fn rustc() -> Option<PathBuf> {
    let unpacked = home().join("target/toolchain/rustc");
    unpacked.is_file().then_some(unpacked)
}

//! Components that `cargo xtask policies` built, and the compiler that it used.

use std::path::{Path, PathBuf};

/// The directory of everything about policies.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").join("policies-wasm")
}

/// The directory of the built components.
#[track_caller]
pub fn components() -> PathBuf {
    let components = home().join("target/components");
    assert!(components.is_dir(), "missing: {} (`make policies` builds it)", components.display());
    components
}

/// A built component.
#[track_caller]
pub fn component(name: &str) -> PathBuf {
    let component = components().join(name).with_extension("wasm");
    assert!(component.is_file(), "missing: {} (`make policies` builds it)", component.display());
    component
}

/// The compiler that knows the guests' target, where it is not the usual one.
pub fn rustc() -> Option<PathBuf> {
    let unpacked = home().join("target/toolchain/rustc");
    unpacked.is_file().then_some(unpacked)
}

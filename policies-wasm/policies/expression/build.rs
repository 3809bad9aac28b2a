//! Gives the guest a larger stack than the others have.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks")]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // What reads and evaluates nested text calls itself.
        println!("cargo:rustc-link-arg-cdylib=-zstack-size=1048576");
    }
}

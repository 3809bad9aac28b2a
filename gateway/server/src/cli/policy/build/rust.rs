//! Rust: by cargo, for a target without a system; then the module becomes a component.

use super::Tools;
use crate::cli::output::Failure;
use serde_json::Value;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

/// Cargo's variables that say where things are kept; all others would make this cargo a part of one that runs us.
const KEPT: &[&str] = &["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_TERM_"];
/// Other variables that mean an outer build, or would take the place of the flags in the policy's own `.cargo/config.toml`.
const FOREIGN: &[&str] = &["RUSTC_", "RUSTDOC", "RUSTFLAGS", "RUST_RECURSION_COUNT", "LD_LIBRARY_PATH"];
const INSTALL: &str = "install Rust, as https://rustup.rs says";

pub(super) fn build(tools: &Tools) -> Result<Vec<u8>, Failure> {
    if !tools.directory.join("Cargo.toml").is_file() {
        return Err(Failure::Refused(format!("{} has no Cargo.toml", tools.directory.display())));
    }
    check_target(tools)?;
    let mut cargo = clean("cargo");
    cargo.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    if tools.quiet {
        cargo.arg("--quiet");
    }
    let messages = tools.run(&mut cargo, INSTALL)?;
    let module = module(&messages, &tools.directory.join("Cargo.toml")).ok_or_else(|| {
        Failure::Refused(
            "cargo built no WebAssembly module: Cargo.toml needs crate-type = [\"cdylib\"] in [lib]".to_owned(),
        )
    })?;
    let core = fs::read(&module).map_err(|error| Failure::Refused(format!("{}: {error}", module.display())))?;
    portcullis_policy::wrap_core_module(&core)
        .map_err(|error| Failure::Refused(format!("{} is no policy: {error}", module.display())))
}

/// A program in an environment that knows nothing of an outer build. A compiler that was chosen stays chosen.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let starts = |all: &[&str]| all.iter().any(|start| text.starts_with(start));
        if (text.starts_with("CARGO") && !starts(KEPT)) || starts(FOREIGN) {
            command.env_remove(&name);
        }
    }
    command
}

/// Cargo would say a page about what one command mends.
fn check_target(tools: &Tools) -> Result<(), Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let mut ask = clean(&rustc.to_string_lossy());
    ask.args(["--print", "target-libdir", "--target", TARGET]);
    let libraries = PathBuf::from(tools.run(&mut ask, INSTALL)?.trim_end());
    let is_std = |entry: fs::DirEntry| super::file_name(&entry.path()).starts_with("libstd-");
    if fs::read_dir(&libraries).is_ok_and(|entries| entries.flatten().any(is_std)) {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{} has no standard library for {TARGET}: run `rustup target add {TARGET}`, or name another compiler with RUSTC",
        rustc.to_string_lossy()
    )))
}

/// The module that cargo says it made of this package.
fn module(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = messages.filter(|message| {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        text("reason") == Some("compiler-artifact") && text("manifest_path").map(Path::new) == Some(manifest)
    });
    let files = ours.filter_map(|message| message.get("filenames")?.as_array().cloned()).flatten();
    files
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .find(|file| file.extension().is_some_and(|end| end == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_module_is_the_package_s_own() {
        let artifact = |manifest: &str, file: &str| {
            json!({ "reason": "compiler-artifact", "manifest_path": manifest, "filenames": [file] }).to_string()
        };
        let messages = [
            artifact("/p/vendor/sdk/Cargo.toml", "/p/target/libsdk.wasm"),
            "no message".to_owned(),
            artifact("/p/Cargo.toml", "/p/target/few_layers.d"),
            artifact("/p/Cargo.toml", "/p/target/few_layers.wasm"),
        ];
        let found = module(&messages.join("\n"), Path::new("/p/Cargo.toml"));
        assert_eq!(found.as_deref(), Some(Path::new("/p/target/few_layers.wasm")));
        assert_eq!(module("", Path::new("/p/Cargo.toml")), None);
    }
}

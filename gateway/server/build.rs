//! What `portcullis policy new` writes is embedded: a table of the templates' files, of the SDK's, and of the contract.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where the embedded files lie, from this crate.
const HOME: &str = "../../policies-wasm";
/// What is embedded of it, in tables of their own.
const TABLES: [(&str, &[&str]); 3] =
    [("TEMPLATES", &["templates"]), ("SDK", &["sdk/Cargo.toml", "sdk/src"]), ("WIT", &["wit/policy.wit"])];

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let home = fs::canonicalize(variable("CARGO_MANIFEST_DIR")?.join(HOME))?;
    let mut text = String::new();
    for (table, roots) in TABLES {
        let mut files = Vec::new();
        for root in roots {
            collect(&home.join(root), &mut files)?;
        }
        files.sort();
        writeln!(text, "const {table}: &[(&str, &str)] = &[").map_err(io::Error::other)?;
        for file in &files {
            let path = file.strip_prefix(&home).map_err(io::Error::other)?;
            writeln!(text, "    ({path:?}, include_str!({file:?})),").map_err(io::Error::other)?;
        }
        writeln!(text, "];").map_err(io::Error::other)?;
    }
    fs::write(variable("OUT_DIR")?.join("embedded.rs"), text)
}

/// All files under a path. A directory is watched too: a new file has to be noticed.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", path.display());
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

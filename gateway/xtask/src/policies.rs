//! The policies: from their sources to components, and their tests. They are a workspace of their own, for another target.

use crate::processes::{ask, call};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";

/// Cargo's variables that say where things are kept; all others would make the inner cargo a part of the outer one.
const KEPT: &[&str] = &["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_TERM_"];
/// Other variables that mean the outer build.
const FOREIGN: &[&str] = &["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUST_RECURSION_COUNT", "LD_LIBRARY_PATH"];

/// A policy as it was built.
struct Built {
    name: String,
    component: PathBuf,
    size: u64,
    fresh: bool,
}

/// Builds all policies into `policies-wasm/target/components`, what is up to date already aside, and says what is there.
pub fn build() -> Result<()> {
    let root = workspace()?;
    let home = home()?;
    let toolchain = home.join("target/toolchain");
    call(Command::new(root.join(".ci/wasm-target")).arg(&toolchain)).context("no compiler for WebAssembly")?;
    let mut cargo = cargo(&home);
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--workspace",
        "--exclude",
        "portcullis-policy-sdk",
        "--target",
        TARGET,
    ]);
    let unpacked = toolchain.join("rustc");
    if unpacked.is_file() {
        cargo.env("RUSTC", unpacked);
    }
    call(&mut cargo)?;
    let modules = home.join("target").join(TARGET).join("release");
    let components = home.join("target/components");
    fs::create_dir_all(&components)?;
    let mut all = Vec::new();
    for name in names(&home)? {
        let module = modules.join(name.replace('-', "_")).with_extension("wasm");
        all.push(component(name, &module, &components)?);
    }
    remove_leftovers(&components, &all)?;
    println!("{:<24}{:>12}  component", "policy", "size");
    for Built { name, component, size, fresh } in &all {
        let shown = component.strip_prefix(&root).unwrap_or(component);
        println!("{name:<24}{:>12}  {}{}", kib(*size), shown.display(), if *fresh { " (new)" } else { "" });
    }
    Ok(())
}

/// Checks the policies' formatting and lints, and runs their unit tests and cases natively.
pub fn test() -> Result<()> {
    let home = home()?;
    call(cargo(&home).args(["fmt", "--all", "--check"]))?;
    call(cargo(&home).args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    call(cargo(&home).args(["test", "--workspace", "--locked", "--no-fail-fast"]))
}

/// The directory of everything about policies.
pub fn home() -> Result<PathBuf> {
    Ok(workspace()?.join("policies-wasm"))
}

/// A cargo that knows nothing of the one that runs us, in whose target directory it would wait for ever.
fn cargo(home: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let kept = KEPT.iter().any(|kept| text.starts_with(kept));
        if (text.starts_with("CARGO") && !kept) || FOREIGN.iter().any(|foreign| text.starts_with(foreign)) {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(home).env("CARGO_TARGET_DIR", home.join("target"));
    cargo
}

/// The names of the policies, as their crates are called.
fn names(home: &Path) -> Result<Vec<String>> {
    let metadata = ask(cargo(home).args(["metadata", "--no-deps", "--locked", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
    let is_guest = |package: &&Value| {
        let targets = package.get("targets").and_then(Value::as_array).into_iter().flatten();
        let mut kinds = targets.filter_map(|target| target.get("kind")?.as_array()).flatten();
        kinds.any(|kind| kind == "cdylib")
    };
    let name = |package: &Value| package.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut names: Vec<_> = packages.iter().filter(is_guest).filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Makes a component of a core module, where the one that is there is older.
fn component(name: String, module: &Path, components: &Path) -> Result<Built> {
    let component = components.join(&name).with_extension("wasm");
    let fresh = modified(&component).is_none_or(|made| modified(module).is_none_or(|built| built > made));
    if fresh {
        let core = fs::read(module).with_context(|| module.display().to_string())?;
        let encoded = encode(&core).with_context(|| format!("{name} is no component"))?;
        // Whoever reads it while it is written must not see half of it.
        let half = component.with_extension("part");
        fs::write(&half, encoded)?;
        fs::rename(&half, &component)?;
    }
    let size = fs::metadata(&component)?.len();
    Ok(Built { name, component, size, fresh })
}

fn encode(core: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(core)?.encode()
}

/// When a file was written last; none where it is not there.
pub fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).ok()?.modified().ok()
}

/// A policy that is gone must not be found by a test. Those in other languages are not ours.
fn remove_leftovers(components: &Path, all: &[Built]) -> Result<()> {
    for entry in fs::read_dir(components)? {
        let path = entry?.path();
        let foreign = path
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.starts_with("javascript-") || name.starts_with("python-"));
        let built = all.iter().any(|built| built.component == path);
        if path.extension() == Some(OsStr::new("wasm")) && !built && !foreign {
            fs::remove_file(path)?;
        }
    }
    if all.is_empty() {
        bail!("there is no policy in policies-wasm/policies");
    }
    Ok(())
}

/// A size as the tables show it.
pub fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

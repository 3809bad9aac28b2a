//! The policies in other languages: their toolchains, kept beside them, and what these make of them.

use crate::policies::{home, kib, modified};
use crate::processes::call;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use wit_component::{DecodedWasm, decode};

const JAVASCRIPT: &str = "componentize-qjs@0.4.5";
const PYTHON: &str = "componentize-py==0.25.0";

/// What a policy may import: nothing but interfaces of this package.
const OURS: (&str, &str) = ("portcullis", "policy");

/// Builds the policies in JavaScript and Python into `policies-wasm/target/components`, what is up to date aside.
pub fn build() -> Result<()> {
    let home = home()?;
    let components = home.join("target/components");
    fs::create_dir_all(&components)?;
    let mut built = Vec::new();
    for (name, language) in [("javascript-licences", "javascript"), ("python-base-images", "python")] {
        let component = components.join(name).with_extension("wasm");
        let source = home.join("languages").join(language);
        if !is_current(&component, &[&source, &home.join("wit")])? {
            let half = component.with_extension("part");
            match language {
                "javascript" => javascript(&home, &source, &half)?,
                _ => python(&home, &source, &half)?,
            }
            check(&half).with_context(|| format!("{name} is no policy"))?;
            fs::rename(&half, &component)?;
        }
        built.push((name, component));
    }
    println!("{:<24}{:>12}", "policy", "size");
    for (name, component) in built {
        println!("{name:<24}{:>12}", kib(fs::metadata(component)?.len()));
    }
    Ok(())
}

fn javascript(home: &Path, source: &Path, to: &Path) -> Result<()> {
    let tools = home.join("target/languages/javascript");
    let program = tools.join("node_modules/.bin/componentize-qjs");
    if !is_installed(&tools, JAVASCRIPT) {
        fs::create_dir_all(&tools)?;
        fs::write(tools.join("package.json"), "{\"private\":true}\n")?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--save-exact", JAVASCRIPT]).current_dir(&tools);
        call(&mut npm).context("npm is needed for policies in JavaScript; on Debian: apt-get install npm")?;
        note_installed(&tools, JAVASCRIPT)?;
    }
    let mut make = Command::new(program);
    make.arg("--wit").arg(home.join("wit")).args(["--world", "policy", "--sync", "--stub-wasi", "--opt-size", "--js"]);
    call(make.arg(source.join("policy.js")).arg("-o").arg(to))
}

fn python(home: &Path, source: &Path, to: &Path) -> Result<()> {
    let tools = home.join("target/languages/python");
    if !is_installed(&tools, PYTHON) {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&tools);
        call(&mut venv).context("python3 is needed for policies in Python; on Debian: apt-get install python3-venv")?;
        call(Command::new(tools.join("bin/pip")).args(["install", "--quiet", PYTHON]))?;
        note_installed(&tools, PYTHON)?;
    }
    let mut make = Command::new(tools.join("bin/componentize-py"));
    make.arg("-q").arg("-d").arg(home.join("wit")).args(["-w", "policy", "componentize", "--stub-wasi", "-p"]);
    // It leaves its caches beside what it reads, so that it reads a copy.
    let copy = home.join("target/languages/python-source");
    fs::create_dir_all(&copy)?;
    fs::copy(source.join("policy.py"), copy.join("policy.py"))?;
    call(make.arg(copy).arg("policy").arg("-o").arg(to))
}

/// An error where a component wants anything but what the contract offers.
fn check(component: &Path) -> Result<()> {
    let DecodedWasm::Component(resolve, world) = decode(&fs::read(component)?)? else { bail!("it is no component") };
    let world = resolve.worlds.get(world).context("it has no world")?;
    for key in world.imports.keys() {
        let name = resolve.name_world_key(key);
        if name.split_once('/').is_none_or(|(package, _)| package != format!("{}:{}", OURS.0, OURS.1)) {
            bail!("it imports {name}, which no policy is given");
        }
    }
    Ok(())
}

fn is_installed(tools: &Path, what: &str) -> bool {
    fs::read_to_string(tools.join("installed")).is_ok_and(|installed| installed == what)
}

fn note_installed(tools: &Path, what: &str) -> Result<()> {
    Ok(fs::write(tools.join("installed"), what)?)
}

/// Whether a component is there and younger than all files in these directories.
fn is_current(component: &Path, sources: &[&Path]) -> Result<bool> {
    let Some(made) = modified(component) else { return Ok(false) };
    for directory in sources {
        let files: Vec<PathBuf> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
        if files.iter().filter(|file| file.is_file()).any(|file| modified(file).is_none_or(|changed| changed > made)) {
            return Ok(false);
        }
    }
    Ok(true)
}

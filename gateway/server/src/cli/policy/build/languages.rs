//! JavaScript and Python: by the tools that put an engine around a program. What the policy's directory brings along goes
//! first, then what is installed; else the version that is known to work is fetched.

use super::{Tools, file_name};
use crate::cli::output::Failure;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const JAVASCRIPT: &str = "componentize-qjs@0.4.5";
const PYTHON: &str = "componentize-py==0.25.0";

pub(super) fn javascript(tools: &Tools) -> Result<Vec<u8>, Failure> {
    let made = prepare(tools, "policy.js")?;
    let mut make = match tools.find(&["node_modules/.bin"], "componentize-qjs") {
        Some(program) => Command::new(program),
        None => {
            let mut npx = Command::new("npx");
            npx.args(["--yes", &format!("--package={JAVASCRIPT}"), "--", "componentize-qjs"]);
            npx
        }
    };
    make.args(["--wit", "wit", "--world", "policy", "--sync", "--stub-wasi", "--opt-size", "--js", "policy.js", "-o"]);
    let missing = "a policy in JavaScript needs Node.js with npm, which fetches componentize-qjs (on Debian: apt-get install npm)";
    tools.run(make.arg(&made), missing)?;
    take(&made)
}

pub(super) fn python(tools: &Tools) -> Result<Vec<u8>, Failure> {
    let made = prepare(tools, "policy.py")?;
    let program = match tools.find(&[".venv/bin", "venv/bin"], "componentize-py") {
        Some(program) => program,
        None => fetch_for_python(tools)?,
    };
    // It leaves its caches beside what it reads, and takes along whatever lies there: it reads a copy.
    let copy = tools.directory.join("target/source");
    let copied = fs::remove_dir_all(&copy)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) });
    copied
        .and_then(|()| copy_modules(&tools.directory, &copy))
        .map_err(|error| Failure::Refused(format!("{} cannot be made: {error}", copy.display())))?;
    let mut make = Command::new(program);
    make.args(["-q", "-d", "wit", "-w", "policy", "componentize", "--stub-wasi", "-p"]);
    tools.run(make.arg(&copy).args(["policy", "-o"]).arg(&made), "it was there a moment ago; build again")?;
    take(&made)
}

/// Fetches componentize-py into the policy's own `target`, once.
fn fetch_for_python(tools: &Tools) -> Result<PathBuf, Failure> {
    let home = tools.directory.join("target/componentize-py");
    let (program, installed) = (home.join("bin/componentize-py"), home.join("installed"));
    if fs::read_to_string(&installed).is_ok_and(|version| version == PYTHON) && program.is_file() {
        return Ok(program);
    }
    let missing =
        "a policy in Python needs python3, whose pip fetches componentize-py (on Debian: apt-get install python3-venv)";
    tools.run(Command::new("python3").args(["-m", "venv"]).arg(&home), missing)?;
    tools.run(Command::new(home.join("bin/pip")).args(["install", "--quiet", PYTHON]), missing)?;
    fs::write(&installed, PYTHON)
        .map_err(|error| Failure::Refused(format!("{} cannot be written: {error}", installed.display())))?;
    Ok(program)
}

/// Checks that the sources are there; says where the component is to be made.
fn prepare(tools: &Tools, source: &str) -> Result<PathBuf, Failure> {
    for needed in [source, "wit/policy.wit"] {
        if !tools.directory.join(needed).is_file() {
            return Err(Failure::Refused(format!(
                "{} has no {needed}: `portcullis policy new` writes one",
                tools.directory.display()
            )));
        }
    }
    let target = tools.directory.join("target");
    fs::create_dir_all(&target)
        .map_err(|error| Failure::Refused(format!("{} cannot be made: {error}", target.display())))?;
    Ok(target.join("component.wasm"))
}

fn take(made: &Path) -> Result<Vec<u8>, Failure> {
    let taken = fs::read(made).and_then(|bytes| fs::remove_file(made).map(|()| bytes));
    taken.map_err(|error| Failure::Refused(format!("{}: {error}", made.display())))
}

/// Copies Python modules and packages, but for what is built, hidden, or an environment of its own.
fn copy_modules(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (path, kind) = {
            let entry = entry?;
            (entry.path(), entry.file_type()?)
        };
        let name = file_name(&path);
        let foreign =
            name.starts_with('.') || ["target", "__pycache__", "node_modules", "cases", "wit"].contains(&name);
        if kind.is_dir() && !foreign && !path.join("pyvenv.cfg").is_file() {
            copy_modules(&path, &to.join(name))?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "py") {
            fs::create_dir_all(to)?;
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

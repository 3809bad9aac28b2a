//! `policy build`: from a policy's source to `NAME.wasm`. The author's own tools run here, and nothing of a guest.

mod languages;
mod rust;

use super::directory::{Language, Place, PolicyFile, find_shipped};
use super::size;
use crate::cli::output::{Answer, Failure};
use portcullis_oci::Digest;
use portcullis_policy::plain;
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Most bytes of a failing tool's words in an answer for machines.
const MAX_SAID: usize = 16 << 10;

/// What `build` is told.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The policy's directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// How tools are run.
struct Tools {
    /// The policy's directory, from the root.
    directory: PathBuf,
    /// Their words are kept for the answer, and not shown.
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Answer, Failure> {
    let place = Place::of(&arguments.directory);
    let policy = place.needs_policy_file()?;
    if let Some(shipped) = policy.lang.shipped() {
        return Ok(nothing_to_build(&policy, shipped));
    }
    let directory = fs::canonicalize(&arguments.directory)
        .map_err(|error| Failure::Refused(format!("{}: {error}", arguments.directory.display())))?;
    let tools = Tools { directory, quiet: json };
    let component = match policy.lang {
        Language::Js => languages::javascript(&tools)?,
        Language::Python => languages::python(&tools)?,
        Language::Rust | Language::Rego | Language::Cel => rust::build(&tools)?,
    };
    let to = place.built(&policy);
    replace(&to, &component)?;
    let digest = Digest::sha256(&component);
    let text = format!("{}: {}, {}\n", to.display(), size(component.len()), digest.as_str());
    let json = json!({ "component": to.display().to_string(), "size": component.len(), "digest": digest.as_str() });
    Ok(Answer::new(text, json))
}

fn nothing_to_build(policy: &PolicyFile, shipped: &str) -> Answer {
    let found = policy.component.clone().map_or_else(|| find_shipped(shipped), Ok);
    let where_it_is = match &found {
        Ok(component) => format!("It is {}.", component.display()),
        Err(failure) => format!("But {failure}."),
    };
    let text = format!(
        "There is nothing to build: {} is settings of the shipped policy `{shipped}`. {where_it_is}\n",
        policy.name
    );
    let component = found.ok().map(|component| component.display().to_string());
    Answer::new(text, json!({ "component": component, "shipped": shipped, "built": false }))
}

/// Whoever reads the component while it is written must not see half of it.
fn replace(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let half = file.with_extension("part");
    fs::write(&half, bytes)
        .and_then(|()| fs::rename(&half, file))
        .map_err(|error| Failure::Refused(format!("{} cannot be written: {error}", file.display())))
}

impl Tools {
    /// Runs a tool in the policy's directory, and gives its standard output. `missing` says how to get it.
    fn run(&self, tool: &mut Command, missing: &str) -> Result<String, Failure> {
        tool.current_dir(&self.directory).stdin(Stdio::null()).stdout(Stdio::piped());
        tool.stderr(if self.quiet { Stdio::piped() } else { Stdio::inherit() });
        let name = tool.get_program().to_string_lossy().into_owned();
        let output = tool.output().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::Refused(format!("{name} is not there: {missing}")),
            _ => Failure::Refused(format!("{name} cannot be run: {error}")),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.lines().map(|line| format!("\n{}", plain(line, 512))).collect();
        Err(Failure::Refused(format!("{name} failed ({}){}", output.status, cut(&said))))
    }

    /// Whether a program is in the search path.
    fn has(program: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    }

    /// A program that the policy's own directory has, else one in the search path.
    fn find(&self, places: &[&str], program: &str) -> Option<PathBuf> {
        let own = places.iter().map(|place| self.directory.join(place).join(program)).find(|program| program.is_file());
        own.or_else(|| Self::has(program).then(|| PathBuf::from(program)))
    }
}

/// The end of a long text, from a line's beginning.
fn cut(said: &str) -> &str {
    let from = said.len().saturating_sub(MAX_SAID);
    let from = (from..said.len()).find(|at| said.get(*at..).is_some_and(|rest| rest.starts_with('\n'))).unwrap_or(0);
    said.get(from..).unwrap_or_default()
}

/// The name of a file, as text; empty where it has none.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

//! A policy's directory: `policy.yaml`, `settings.yaml`, `cases/`, and where its component is.

use crate::cli::output::Failure;
use clap::ValueEnum;
use portcullis_policy::question::Hook;
use portcullis_policy::{Program, plain};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The directory of the shipped policies, where it is not one of the usual ones.
const SHIPPED: &str = "PORTCULLIS_POLICIES";
/// Most bytes of a file that is read whole.
const MAX_FILE: u64 = 16 << 20;

/// Which policy is meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Place {
    /// The policy's directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) directory: PathBuf,
    /// A component in place of the directory's own
    #[arg(long, value_name = "FILE")]
    pub(super) component: Option<PathBuf>,
    /// Settings in place of the directory's settings.yaml, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub(super) settings: Option<PathBuf>,
}

/// `policy.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PolicyFile {
    pub(super) name: String,
    pub(super) lang: Language,
    /// The component, where it is not in its usual place.
    #[serde(default)]
    pub(super) component: Option<PathBuf>,
}

/// What a policy is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Language {
    /// The fastest; needs Rust
    Rust,
    /// JavaScript; needs npm
    Js,
    /// Needs python3
    Python,
    /// Rules for the shipped policy `rego`; nothing to build
    Rego,
    /// One expression for the shipped policy `expression`; nothing to build
    Cel,
}

impl Language {
    /// Its name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::Rego => "rego",
            Self::Cel => "cel",
        }
    }

    /// The shipped policy whose settings are written in it.
    pub(super) const fn shipped(self) -> Option<&'static str> {
        match self {
            Self::Rust | Self::Js | Self::Python => None,
            Self::Rego => Some("rego"),
            Self::Cel => Some("expression"),
        }
    }
}

impl Place {
    /// A directory by itself.
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), component: None, settings: None }
    }

    /// A path in the directory, as short as it can be shown.
    pub(super) fn within(&self, path: impl AsRef<Path>) -> PathBuf {
        if self.directory == Path::new(".") { path.as_ref().to_owned() } else { self.directory.join(path) }
    }

    /// `policy.yaml`; none where there is none.
    pub(super) fn policy_file(&self) -> Result<Option<PolicyFile>, Failure> {
        let file = self.within("policy.yaml");
        if file.is_file() { read_yaml(&file).map(Some) } else { Ok(None) }
    }

    /// `policy.yaml`, which has to be there.
    pub(super) fn needs_policy_file(&self) -> Result<PolicyFile, Failure> {
        self.policy_file()?.ok_or_else(|| {
            Failure::Refused(format!(
                "{} is no policy's directory, as it has no policy.yaml: name one with --directory DIR, or begin one with `portcullis policy new NAME`",
                self.directory.display()
            ))
        })
    }

    /// Where the component is: what was named, else what `policy.yaml` says.
    pub(super) fn component(&self) -> Result<PathBuf, Failure> {
        if let Some(component) = &self.component {
            return Ok(component.clone());
        }
        let policy = self.needs_policy_file()?;
        if let Some(component) = &policy.component {
            return Ok(self.within(component));
        }
        if let Some(shipped) = policy.lang.shipped() {
            return find_shipped(shipped);
        }
        let built = self.built(&policy);
        if built.is_file() {
            return Ok(built);
        }
        Err(Failure::Refused(format!("{} is not there: `portcullis policy build` makes it", built.display())))
    }

    /// The hooks at which the policy answers with these settings: the shipped policies whose settings are rules name all
    /// hooks, and the settings say which of them the rule is for.
    pub(super) fn hooks(&self, program: &Program, settings: Option<&Value>) -> Result<Vec<Hook>, Failure> {
        let named = |hook: &Hook| program.is_asked_at(*hook);
        let rule = self.policy_file()?.is_some_and(|policy| policy.lang.shipped().is_some());
        let list = settings.and_then(|settings| settings.get("hooks")?.as_array()).filter(|_| rule);
        let ruled = |hook: &Hook| list.is_none_or(|list| list.iter().any(|name| name == hook.name()));
        Ok(Hook::ALL.into_iter().filter(named).filter(ruled).collect())
    }

    /// What `build` makes.
    pub(super) fn built(&self, policy: &PolicyFile) -> PathBuf {
        self.within(format!("{}.wasm", policy.name))
    }

    /// The settings: what was named, else `settings.yaml` where it is there.
    pub(super) fn settings(&self) -> Result<Option<Value>, Failure> {
        let usual = self.within("settings.yaml");
        let file = match &self.settings {
            Some(file) => file,
            None if usual.is_file() => &usual,
            None => return Ok(None),
        };
        Ok(as_settings(read_yaml(file)?))
    }

    /// A source that is younger than the component that was built of it.
    pub(super) fn younger_source(&self) -> Option<PathBuf> {
        let policy = self.policy_file().ok().flatten()?;
        if self.component.is_some() || policy.component.is_some() || policy.lang.shipped().is_some() {
            return None;
        }
        let built = modified(&self.built(&policy))?;
        let sources = match policy.lang {
            Language::Js => vec![self.within("policy.js")],
            Language::Python => files(&self.directory, "py"),
            _ => files(&self.within("src"), "rs"),
        };
        sources.into_iter().find(|source| modified(source).is_some_and(|changed| changed > built))
    }
}

/// No settings at all are none.
pub(super) fn as_settings(settings: Value) -> Option<Value> {
    (!settings.is_null()).then_some(settings)
}

/// Reads a YAML or JSON file, which is YAML too.
pub(super) fn read_yaml<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let text = read_text(file)?;
    yaml_serde::from_str(&text)
        .map_err(|error| Failure::Refused(format!("{}: {}", file.display(), plain(&error.to_string(), 512))))
}

fn read_text(file: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::Refused(format!("{} cannot be read: {why}", file.display()));
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(|error| failed(error.to_string()))?;
    let more = MAX_FILE.saturating_add(1);
    let read = opened.take(more).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(failed(format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// A policy that comes with Portcullis.
pub(super) fn find_shipped(name: &str) -> Result<PathBuf, Failure> {
    let file = format!("{name}.wasm");
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let directories = [
        std::env::var_os(SHIPPED).filter(|named| !named.is_empty()).map(PathBuf::from),
        beside.map(|beside| beside.join("policies")),
        beside.and_then(Path::parent).map(|above| above.join("share/portcullis/policies")),
    ];
    let places: Vec<PathBuf> = directories.into_iter().flatten().map(|directory| directory.join(&file)).collect();
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Err(Failure::Refused(format!(
        "the shipped policy `{name}` is not there; looked for {}. It comes with Portcullis: name its directory with {SHIPPED}, or the file itself as `component:` in policy.yaml; in Portcullis's sources `make policies` builds it into policies-wasm/target/components",
        looked.join(", ")
    )))
}

/// The files with this ending in a directory and those below it, but for what is built or hidden.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = name == "target" || name.as_encoded_bytes().starts_with(b".");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !skipped => found.extend(files(&path, ending)),
            Ok(kind) if kind.is_file() && path.extension() == Some(OsStr::new(ending)) => found.push(path),
            _ => {}
        }
    }
    found
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).ok()?.modified().ok()
}

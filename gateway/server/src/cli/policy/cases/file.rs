//! Files of cases.

use super::shorthand::{Ask, Asker, Came, Document, Known, Token, What};
use super::{Case, Expectation};
use crate::cli::output::Failure;
use crate::cli::policy::directory::{as_settings, read_yaml};
use portcullis_policy::question::{self, Facts, Hook, Question};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of cases, in YAML or JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    /// The settings of the cases that have none of their own.
    #[serde(default)]
    settings: Option<Value>,
    cases: Vec<WrittenCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenCase {
    name: String,
    hook: Option<Hook>,
    #[serde(default)]
    settings: Option<Value>,
    /// A complete question, as it is recorded; in place of everything below.
    #[serde(default)]
    question: Option<Value>,
    #[serde(default)]
    context: Option<Asker>,
    #[serde(default)]
    target: Option<What>,
    #[serde(default)]
    request: Option<Ask>,
    #[serde(default)]
    manifest: Option<Document>,
    #[serde(default)]
    token: Option<Token>,
    #[serde(default)]
    outcome: Option<Came>,
    #[serde(default)]
    facts: Option<Known>,
    expect: Expectation,
}

/// The cases of files and of directories, whose every `*.yaml`, `*.yml` and `*.json` is read, in order.
pub(in crate::cli) fn read(places: &[PathBuf]) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    for place in places {
        if !place.is_dir() {
            cases.extend(read_file(place)?);
            continue;
        }
        if place.join("policy.yaml").exists() {
            let place = place.display();
            return Err(Failure::Refused(format!(
                "{place} is a policy's directory, and not one of cases: write --directory {place}, or name its cases"
            )));
        }
        let entries = std::fs::read_dir(place)
            .map_err(|error| Failure::Refused(format!("{} cannot be read: {error}", place.display())))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json"));
        files.sort();
        for file in files {
            cases.extend(read_file(&file)?);
        }
    }
    Ok(cases)
}

/// The cases of one file.
fn read_file(file: &Path) -> Result<Vec<Case>, Failure> {
    let written: Written = read_yaml(file)?;
    let settings = written.settings.and_then(as_settings);
    let case = |case: WrittenCase| {
        let name = case.name.clone();
        case.into_case(file, settings.as_ref())
            .map_err(|why| Failure::Refused(format!("{}: case `{name}`: {why}", file.display())))
    };
    written.cases.into_iter().map(case).collect()
}

impl WrittenCase {
    fn into_case(mut self, file: &Path, settings: Option<&Value>) -> Result<Case, String> {
        let settings = self.settings.take().and_then(as_settings).or_else(|| settings.cloned());
        let (name, expect) = (std::mem::take(&mut self.name), self.expect.clone());
        let question = match self.question.take() {
            Some(question) => self.recorded(question)?,
            None => self.question()?,
        };
        Ok(Case { name, file: file.to_owned(), settings, question, expect })
    }

    fn recorded(self, question: Value) -> Result<Question, String> {
        let beside = [
            ("context", self.context.is_some()),
            ("target", self.target.is_some()),
            ("request", self.request.is_some()),
            ("manifest", self.manifest.is_some()),
            ("token", self.token.is_some()),
            ("outcome", self.outcome.is_some()),
            ("facts", self.facts.is_some()),
        ];
        if let Some((field, _)) = beside.iter().find(|(_, given)| *given) {
            return Err(format!("`{field}` stands beside `question`, which is complete in itself"));
        }
        let question: Question = serde_json::from_value(question).map_err(|error| format!("`question`: {error}"))?;
        match self.hook.filter(|hook| *hook != question.hook()) {
            Some(hook) => Err(format!("`hook` is {}, but `question` is of {}", hook.name(), question.hook().name())),
            None => Ok(question),
        }
    }

    fn question(self) -> Result<Question, String> {
        let hook = self.hook.ok_or("`hook` is missing: token, request, manifest-push, pull or response")?;
        let target = self.target.unwrap_or_default().into();
        let request = self.request.unwrap_or_default().into();
        let ask = match hook {
            Hook::Token => question::Ask::Token(self.token.unwrap_or_default().into()),
            Hook::Request => question::Ask::Request(request),
            Hook::ManifestPush => {
                question::Ask::ManifestPush { target, manifest: self.manifest.unwrap_or_default().into() }
            }
            Hook::Pull => question::Ask::Pull { target, manifest: self.manifest.map(Into::into) },
            Hook::Response => question::Ask::Response { request, outcome: self.outcome.unwrap_or_default().into() },
        };
        let facts = Arc::new(Facts::from(self.facts.unwrap_or_default()));
        Ok(Question { context: self.context.unwrap_or_default().into(), ask, facts, raw_manifest: None })
    }
}

//! Case files: questions with the verdicts that are expected, run natively against a policy.

use super::question::{AnyScope, Ask, Asker, Came, Document, Known, Name, Pairs, Token, What};
use super::{Facts, set_facts};
use crate::bindings::exports::portcullis::policy::guest::Guest as _;
use crate::{Component, Decision, Effects, Hook, Policy, Scope, TokenDecision};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::path::Path;

/// A file of cases, in YAML or JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaseFile {
    /// The settings of the cases that have none of their own.
    #[serde(default)]
    settings: Option<Value>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Case {
    name: String,
    hook: Option<Name<Hook>>,
    settings: Option<Value>,
    /// A recorded question, of any form.
    question: Option<IgnoredAny>,
    #[serde(default)]
    context: Asker,
    #[serde(default)]
    target: What,
    #[serde(default)]
    request: Ask,
    manifest: Option<Document>,
    #[serde(default)]
    token: Token,
    #[serde(default)]
    outcome: Came,
    #[serde(default)]
    facts: Known,
    expect: Expectation,
}

/// What a policy is expected to say; what is left out is not compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expectation {
    verdict: Verdict,
    message: Option<String>,
    code: Option<String>,
    warnings: Option<Vec<String>>,
    audit: Option<Pairs>,
    cache_ttl_s: Option<u32>,
    scopes: Option<Vec<AnyScope>>,
    ttl_s: Option<u32>,
}

/// What can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No opinion.
    Abstain,
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
    /// A token of less.
    Narrow,
    /// The settings are refused; the message is all faults, with `; ` between them.
    InvalidSettings,
}

/// Runs every `*.yaml`, `*.yml` and `*.json` in a directory against a policy, and panics with all that differs.
///
/// A case has its own settings, or its file's, or those of `settings.yaml` beside the directory, or none. A case with a
/// recorded `question` is passed over: it is asked of the component alone, by `portcullis policy test`.
///
/// # Panics
/// Where a file cannot be read, a case differs, or there is none.
#[track_caller]
pub fn check_cases<P: Policy>(directory: impl AsRef<Path>) {
    let directory = directory.as_ref();
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| fail(&format!("{}: {error}", directory.display())));
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"));
    files.sort();
    let usual = usual_settings(directory);
    let (mut run, mut faults) = (0_usize, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| fail(&format!("{}: {error}", file.display())));
        let cases: CaseFile =
            yaml_serde::from_str(&text).unwrap_or_else(|error| fail(&format!("{}: {error}", file.display())));
        for case in cases.cases {
            run = run.saturating_add(1);
            let name = format!("{}: {}", file.display(), case.name);
            if case.question.is_some() {
                continue;
            }
            let differs = case.run::<P>(cases.settings.as_ref().or(usual.as_ref()));
            faults.extend(differs.into_iter().map(|fault| format!("{name}: {fault}")));
        }
    }
    assert!(run > 0, "{} holds no case", directory.display());
    assert!(faults.is_empty(), "{} of {run} cases differ:\n{}", faults.len(), faults.join("\n"));
}

/// The settings in `settings.yaml` beside the directory of the cases, where there is one.
#[track_caller]
fn usual_settings(directory: &Path) -> Option<Value> {
    let file = directory.parent()?.join("settings.yaml");
    let text = std::fs::read_to_string(&file).ok()?;
    Some(yaml_serde::from_str(&text).unwrap_or_else(|error| fail(&format!("{}: {error}", file.display()))))
}

/// What a policy said, in one form for all hooks.
struct Said {
    verdict: Verdict,
    message: Option<String>,
    code: Option<String>,
    effects: Effects,
    narrowed: Option<(Vec<Scope>, u32)>,
}

impl Case {
    fn run<P: Policy>(self, settings: Option<&Value>) -> Vec<String> {
        let settings = self.settings.or_else(|| settings.cloned()).unwrap_or_else(|| json!({})).to_string();
        let Some(Name(hook)) = self.hook else {
            return vec!["`hook` is missing".to_owned()];
        };
        set_facts(Facts::from(self.facts));
        let said = match Component::<P>::configure(settings) {
            Err(message) => Said { message: Some(message), ..Said::only(Verdict::InvalidSettings) },
            Ok(()) => {
                let context = self.context.context();
                assert!(P::HOOKS.contains(&hook), "{}: {} does not answer {}", self.name, P::NAME, hook.name());
                match hook {
                    Hook::Token => Component::<P>::on_token(context, self.token.into()).into(),
                    Hook::Request => Component::<P>::on_request(context, self.request.into()).into(),
                    Hook::ManifestPush => {
                        let manifest = self.manifest.unwrap_or_default().into();
                        Component::<P>::on_manifest_push(context, self.target.into(), manifest).into()
                    }
                    Hook::Pull => {
                        let manifest = self.manifest.map(Into::into);
                        Component::<P>::on_pull(context, self.target.into(), manifest).into()
                    }
                    Hook::Response => {
                        Component::<P>::on_response(context, self.request.into(), self.outcome.into());
                        Said::only(Verdict::Abstain)
                    }
                }
            }
        };
        self.expect.compare(&said)
    }
}

impl Expectation {
    /// What differs, a line each.
    fn compare(&self, said: &Said) -> Vec<String> {
        let mut faults = Vec::new();
        let mut differs = |what: &str, expected: String, found: String| {
            if expected != found {
                faults.push(format!("{what}: expected {expected}, found {found}"));
            }
        };
        let verdict =
            |verdict, message: &Option<String>| format!("{verdict:?} {}", message.as_deref().unwrap_or_default());
        let message = if self.message.is_some() { &said.message } else { &None };
        if self.verdict == said.verdict {
            differs("verdict", verdict(self.verdict, &self.message), verdict(said.verdict, message));
        } else {
            differs("verdict", verdict(self.verdict, &self.message), verdict(said.verdict, &said.message));
        }
        if self.code.is_some() {
            differs("code", format!("{:?}", self.code), format!("{:?}", said.code));
        }
        if let Some(warnings) = &self.warnings {
            differs("warnings", format!("{warnings:?}"), format!("{:?}", said.effects.warnings));
        }
        if let Some(Pairs(audit)) = &self.audit {
            differs("audit", format!("{audit:?}"), format!("{:?}", said.effects.audit));
        }
        if self.cache_ttl_s.is_some() {
            differs("cache-ttl-s", format!("{:?}", self.cache_ttl_s), format!("{:?}", said.effects.cache_ttl_s));
        }
        if let Some(scopes) = &self.scopes {
            let found = said.narrowed.as_ref().map(|(scopes, _)| scopes.iter().map(shown).collect::<Vec<_>>());
            let expected: Vec<_> = scopes.iter().map(|scope| shown(&scope.0)).collect();
            differs("scopes", format!("{expected:?}"), format!("{:?}", found.unwrap_or_default()));
        }
        if self.ttl_s.is_some() {
            let found = said.narrowed.as_ref().map(|(_, ttl_s)| *ttl_s);
            differs("ttl-s", format!("{:?}", self.ttl_s), format!("{found:?}"));
        }
        faults
    }
}

impl Said {
    fn only(verdict: Verdict) -> Said {
        Said { verdict, message: None, code: None, effects: Effects::none(), narrowed: None }
    }
}

impl From<Decision> for Said {
    fn from(decision: Decision) -> Said {
        match decision {
            Decision::Abstain => Said::only(Verdict::Abstain),
            Decision::Allow(effects) => Said { effects, ..Said::only(Verdict::Allow) },
            Decision::Deny(denial) => {
                Said { message: Some(denial.message), code: denial.code, ..Said::only(Verdict::Deny) }
            }
        }
    }
}

impl From<TokenDecision> for Said {
    fn from(decision: TokenDecision) -> Said {
        match decision {
            TokenDecision::Abstain => Said::only(Verdict::Abstain),
            TokenDecision::Narrow(narrowing) => Said {
                effects: narrowing.effects,
                narrowed: Some((narrowing.scopes, narrowing.ttl_s)),
                ..Said::only(Verdict::Narrow)
            },
            TokenDecision::Deny(denial) => Decision::Deny(denial).into(),
        }
    }
}

fn shown(scope: &Scope) -> String {
    format!("{}:{}:{}", scope.kind, scope.name, scope.actions.join(","))
}

#[track_caller]
#[allow(clippy::panic, reason = "this is the test's own verdict")]
fn fail(message: &str) -> ! {
    panic!("{message}")
}

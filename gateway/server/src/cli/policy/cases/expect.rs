//! What is expected of a policy, what it said, and the difference.

use super::shorthand::{AnyScope, Pairs};
use portcullis_policy::question::{Hook, Scope};
use portcullis_policy::verdict::{Effects, Reply};
use portcullis_policy::{Failure, plain};
use serde::{Deserialize, Serialize};

/// What a policy is expected to say; what is left out is not compared.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::cli) struct Expectation {
    pub(in crate::cli) verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audit: Option<Pairs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_ttl_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<AnyScope>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
}

/// What can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Verdict {
    /// No opinion.
    Abstain,
    /// It passes.
    Allow,
    /// A token of less.
    Narrow,
    /// It is refused.
    Deny,
    /// The settings are refused; the message is all faults, with `; ` between them.
    InvalidSettings,
}

impl Verdict {
    /// Its name in case files.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Abstain => "abstain",
            Self::Allow => "allow",
            Self::Narrow => "narrow",
            Self::Deny => "deny",
            Self::InvalidSettings => "invalid-settings",
        }
    }

    /// What can be said at a hook.
    pub(in crate::cli) const fn at(hook: Hook) -> &'static [Self] {
        match hook {
            Hook::Token => &[Self::Abstain, Self::Narrow, Self::Deny],
            Hook::Request | Hook::ManifestPush | Hook::Pull => &[Self::Abstain, Self::Allow, Self::Deny],
            Hook::Response => &[Self::Abstain],
        }
    }
}

/// What a policy said, in one form for all hooks.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Said {
    pub(in crate::cli) verdict: Verdict,
    pub(in crate::cli) message: Option<String>,
    code: Option<String>,
    effects: Effects,
    narrowed: Option<(Vec<Scope>, u32)>,
}

/// One thing that is not as it was expected. Both texts are bounded and plain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Difference {
    /// `verdict`, `message`, …
    pub(in crate::cli) what: &'static str,
    pub(in crate::cli) expected: String,
    pub(in crate::cli) found: String,
}

impl Said {
    /// A verdict without anything else.
    pub(in crate::cli) fn only(verdict: Verdict) -> Self {
        Self { verdict, message: None, code: None, effects: Effects::default(), narrowed: None }
    }

    /// Settings that are refused.
    pub(in crate::cli) fn invalid_settings(faults: &[String]) -> Self {
        Self { message: Some(faults.join("; ")), ..Self::only(Verdict::InvalidSettings) }
    }
}

impl From<Reply> for Said {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Abstain => Self::only(Verdict::Abstain),
            Reply::Allow(effects) => Self { effects, ..Self::only(Verdict::Allow) },
            Reply::Narrow(narrowing) => Self {
                effects: narrowing.effects,
                narrowed: Some((narrowing.scopes, narrowing.ttl_s)),
                ..Self::only(Verdict::Narrow)
            },
            Reply::Deny(denial) => {
                Self { message: Some(denial.message), code: denial.code, ..Self::only(Verdict::Deny) }
            }
        }
    }
}

impl Expectation {
    /// Exactly what was said.
    pub(in crate::cli) fn of(said: &Said) -> Self {
        let effects = &said.effects;
        Self {
            verdict: said.verdict,
            message: said.message.clone(),
            code: said.code.clone(),
            warnings: (!effects.warnings.is_empty()).then(|| effects.warnings.clone()),
            audit: (!effects.audit.is_empty()).then(|| Pairs(effects.audit.clone())),
            cache_ttl_s: effects.cache_ttl_s,
            scopes: said.narrowed.as_ref().map(|(scopes, _)| scopes.iter().cloned().map(AnyScope).collect()),
            ttl_s: said.narrowed.as_ref().map(|(_, ttl_s)| *ttl_s),
        }
    }

    /// What differs. A verdict that differs is all that is told: the rest belongs to another one.
    pub(in crate::cli) fn compare(&self, said: &Result<Said, Failure>) -> Vec<Difference> {
        let expected = verdict(self.verdict, self.message.as_deref());
        let said = match said {
            Ok(said) if said.verdict == self.verdict => said,
            Ok(said) => {
                return vec![Difference::new("verdict", &expected, &verdict(said.verdict, said.message.as_deref()))];
            }
            Err(failure) => return vec![Difference::new("verdict", &expected, &format!("failed: {failure}"))],
        };
        let effects = &said.effects;
        let mut all = Vec::new();
        let mut differs = |what, expected: Option<String>, found: Option<String>| {
            if let Some(expected) = expected
                && Some(&expected) != found.as_ref()
            {
                all.push(Difference::new(what, &expected, found.as_deref().unwrap_or("nothing")));
            }
        };
        let scopes = |scopes: &[Scope]| scopes.iter().map(scope).collect::<Vec<_>>().join(" ");
        let wanted: Option<Vec<Scope>> =
            self.scopes.as_ref().map(|wanted| wanted.iter().map(|scope| scope.0.clone()).collect());
        let audit = self.audit.as_ref().map(|Pairs(pairs)| pairs);
        let narrowed = said.narrowed.as_ref();
        differs("message", self.message.clone(), said.message.clone());
        differs("code", self.code.clone(), said.code.clone());
        differs("warnings", self.warnings.as_ref().map(list), Some(list(&effects.warnings)));
        differs("audit", audit.map(list), Some(list(&effects.audit)));
        differs("cache-ttl-s", self.cache_ttl_s.map(number), effects.cache_ttl_s.map(number));
        differs("scopes", wanted.as_deref().map(scopes), narrowed.map(|(found, _)| scopes(found)));
        differs("ttl-s", self.ttl_s.map(number), narrowed.map(|(_, ttl_s)| number(*ttl_s)));
        all
    }
}

impl Difference {
    fn new(what: &'static str, expected: &str, found: &str) -> Self {
        let (shown, seen) = (plain(expected, 1024), plain(found, 1024));
        if shown != seen {
            return Self { what, expected: shown, found: seen };
        }
        // They differ in what is not shown.
        Self { what, expected: plain(&format!("{expected:?}"), 4096), found: plain(&format!("{found:?}"), 4096) }
    }
}

fn verdict(verdict: Verdict, message: Option<&str>) -> String {
    message.map_or_else(|| verdict.name().to_owned(), |message| format!("{}: {message}", verdict.name()))
}

fn list<T: Serialize>(items: &Vec<T>) -> String {
    serde_json::to_string(items).unwrap_or_default()
}

fn number(number: u32) -> String {
    number.to_string()
}

fn scope(scope: &Scope) -> String {
    format!("{}:{}:{}", scope.kind, scope.name, scope.actions.join(","))
}

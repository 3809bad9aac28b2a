//! Narrower scopes and shorter lives for tokens.

use portcullis_policy_sdk::prelude::*;

/// The shortest life that the gateway gives, in seconds.
const MIN_TTL_S: u32 = 60;

/// The rules; the first that is about the caller holds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// The rules, in order.
    rules: Vec<Rule>,
    /// What becomes of a caller whom no rule is about.
    #[serde(default)]
    otherwise: Otherwise,
}

/// What one kind of caller is given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rule {
    /// Patterns of robots: their user names (`acme+ci`) or their names within the project (`ci`).
    #[serde(default)]
    robots: Globs,
    /// Kinds of callers, robots' names aside.
    #[serde(default)]
    kinds: Vec<Kind>,
    /// Longest life in seconds, at least 60.
    #[serde(default)]
    #[schemars(range(min = 60))]
    max_ttl_s: Option<u32>,
    /// The actions that remain, such as `pull`; all where it is left out.
    #[serde(default)]
    actions: Option<Vec<String>>,
    /// Patterns of the repositories that remain; all where it is left out.
    #[serde(default)]
    repositories: Option<Globs>,
}

/// A kind of caller.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// Without a login.
    Anonymous,
    /// Any robot.
    Robot,
    /// From elsewhere, such as a build job.
    Federated,
    /// A person.
    User,
}

/// What becomes of the others.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Otherwise {
    /// They are given what they would have been.
    #[default]
    Abstain,
    /// They get no token.
    Deny,
}

struct TokenTtl(Settings);

impl Policy for TokenTtl {
    type Settings = Settings;
    const NAME: &'static str = "token-ttl";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::Token];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        let mut problems = Problems::none();
        if settings.rules.is_empty() {
            problems.add("rules", "name at least one rule");
        }
        for (number, rule) in settings.rules.iter().enumerate() {
            if rule.robots.is_empty() && rule.kinds.is_empty() {
                problems.add(format!("rules[{number}]"), "name robots or kinds that it is about");
            }
            if rule.max_ttl_s.is_none() && rule.actions.is_none() && rule.repositories.is_none() {
                problems.add(format!("rules[{number}]"), "set max-ttl-s, actions or repositories");
            }
            if rule.max_ttl_s.is_some_and(|ttl| ttl < MIN_TTL_S) {
                problems.add(format!("rules[{number}].max-ttl-s"), "the shortest life is 60 seconds");
            }
        }
        problems.or(TokenTtl(settings))
    }

    fn on_token(&self, context: &Context, request: &TokenRequest) -> TokenDecision {
        let Some(rule) = self.0.rules.iter().find(|rule| rule.is_about(context)) else {
            return match self.0.otherwise {
                Otherwise::Abstain => TokenDecision::Abstain,
                Otherwise::Deny => deny_token("no rule gives this caller a token"),
            };
        };
        let scopes = request.granted.iter().filter_map(|scope| rule.narrowed(scope)).collect();
        let ttl_s = rule.max_ttl_s.unwrap_or(u32::MAX).min(request.default_ttl_s);
        narrow(scopes, ttl_s)
    }
}

policy!(TokenTtl);

impl Rule {
    fn is_about(&self, context: &Context) -> bool {
        let of_kind = |kind: &Kind| {
            context.subject.kind
                == match kind {
                    Kind::Anonymous => SubjectKind::Anonymous,
                    Kind::Robot => SubjectKind::Robot,
                    Kind::Federated => SubjectKind::Federated,
                    Kind::User => SubjectKind::User,
                }
        };
        context.is_robot(&self.robots) || self.kinds.iter().any(of_kind)
    }

    /// What remains of a scope.
    fn narrowed(&self, scope: &Scope) -> Option<Scope> {
        // What is no repository has no name to match, so that only a rule without patterns leaves it.
        let named = |patterns: &Globs| scope.kind == "repository" && patterns.matches(&scope.name);
        if self.repositories.as_ref().is_some_and(|patterns| !named(patterns)) {
            return None;
        }
        let remains = |action: &&String| self.actions.as_ref().is_none_or(|actions| actions.contains(action));
        let actions: Vec<_> = scope.actions.iter().filter(remains).cloned().collect();
        (!actions.is_empty()).then(|| Scope { kind: scope.kind.clone(), name: scope.name.clone(), actions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<TokenTtl>("cases");
    }
}

//! One rule in the Common Expression Language: what it holds true passes.

mod names;

use cel::parser::PrattParser;
use cel::{Env, IdedExpr, Value};
use portcullis_policy_sdk::json;
use portcullis_policy_sdk::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

/// Longest expression, in bytes.
const MAX_SOURCE: usize = 8 << 10;

/// What is looked up for a rule, whether it reads it or not.
const FACTS: &[Fact] = &[Fact::TagDigest, Fact::TagsOfDigest, Fact::ImageConfig, Fact::Usage, Fact::PushedAt];

/// The names that an expression may use.
const VARIABLES: &[&str] = &["context", "hook", "target", "request", "manifest", "token", "facts"];

/// The rule.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// The expression. `true` passes and `false` is refused; so is a text, which is the message, where it is not empty.
    #[schemars(length(min = 1, max = 8192))]
    expression: String,
    /// The message where the expression is `false`.
    #[serde(default = "refused")]
    message: String,
    /// The questions that it answers.
    #[serde(default = "at_push")]
    hooks: Vec<Question>,
    /// Warns instead of refusing. A token is never warned of.
    #[serde(default)]
    warn: bool,
}

/// A question that an expression can answer.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Question {
    /// A client asks for a token.
    Token,
    /// A request, before its body is read.
    Request,
    /// A manifest is pushed.
    ManifestPush,
    /// A manifest is pulled.
    Pull,
}

struct Expression {
    settings: Settings,
    rule: IdedExpr,
    /// The language's functions: made once, for an instance that answers more than one question.
    functions: Arc<Env>,
    /// The variables that it reads; no others are made.
    read: Vec<String>,
}

impl Policy for Expression {
    type Settings = Settings;
    const NAME: &'static str = "expression";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::Token, Hook::Request, Hook::ManifestPush, Hook::Pull];
    const WANTS: &'static [Fact] = FACTS;

    fn configure(settings: Settings) -> Result<Self, Problems> {
        if settings.expression.len() > MAX_SOURCE {
            return Err(Problems::one("expression", format!("longer than {MAX_SOURCE} bytes")));
        }
        let mut problems = Problems::none();
        if settings.hooks.is_empty() {
            problems.add("hooks", "name at least one of token, request, manifest-push and pull");
        }
        let rule = PrattParser::new().parse(&settings.expression).map_err(|error| error.to_string().trim().to_owned());
        let Some(rule) = problems.note("expression", rule) else { return Err(problems) };
        let mut read = Vec::new();
        names::free(&rule.expr, &mut Vec::new(), &mut read);
        for name in read.iter().filter(|name| !VARIABLES.contains(&name.as_str())) {
            let known = VARIABLES.join(", ");
            problems.add("expression", format!("there is no {name}; there are {known}"));
        }
        problems.or(Expression { settings, rule, functions: Arc::new(Env::stdlib()), read })
    }

    fn on_token(&self, context: &Context, request: &TokenRequest) -> TokenDecision {
        let refusal = self.refusal(Question::Token, context, None, None, &[("token", json::token_request(request))]);
        refusal.map_or(TokenDecision::Abstain, deny_token)
    }

    fn on_request(&self, context: &Context, request: &Request) -> Decision {
        let request = (request.target.as_ref(), json::request(request));
        self.decide(Question::Request, context, request.0, None, &[("request", request.1)])
    }

    fn on_manifest_push(&self, context: &Context, target: &Target, manifest: &Manifest) -> Decision {
        let digest = Some(manifest.digest.as_str());
        self.decide(Question::ManifestPush, context, Some(target), digest, &[("manifest", json::manifest(manifest))])
    }

    fn on_pull(&self, context: &Context, target: &Target, manifest: Option<&Manifest>) -> Decision {
        let digest = manifest.map(|manifest| manifest.digest.as_str());
        let manifest = manifest.map_or(serde_json::Value::Null, json::manifest);
        self.decide(Question::Pull, context, Some(target), digest, &[("manifest", manifest)])
    }
}

policy!(Expression);

impl Question {
    fn name(self) -> &'static str {
        match self {
            Question::Token => Hook::Token.name(),
            Question::Request => Hook::Request.name(),
            Question::ManifestPush => Hook::ManifestPush.name(),
            Question::Pull => Hook::Pull.name(),
        }
    }
}

impl Expression {
    fn decide(
        &self,
        question: Question,
        context: &Context,
        target: Option<&Target>,
        digest: Option<&str>,
        given: &[(&str, serde_json::Value)],
    ) -> Decision {
        match self.refusal(question, context, target, digest, given) {
            None => Decision::Abstain,
            Some(message) if self.settings.warn => warn(message),
            Some(message) => deny(message),
        }
    }

    /// Why it does not pass. What is not given at this hook is null.
    fn refusal(
        &self,
        question: Question,
        context: &Context,
        target: Option<&Target>,
        digest: Option<&str>,
        given: &[(&str, serde_json::Value)],
    ) -> Option<String> {
        if !self.settings.hooks.contains(&question) {
            return None;
        }
        let mut known = cel::Context::with_env(Arc::clone(&self.functions));
        for name in &self.read {
            let value = match name.as_str() {
                "context" => value_of(&json::context(context)),
                "hook" => question.name().into(),
                "target" => target.map_or(Value::Null, |target| value_of(&json::target(target))),
                "facts" => value_of(&json::facts(FACTS, target, digest)),
                other => {
                    let given = given.iter().find(|(name, _)| *name == other);
                    given.map_or(Value::Null, |(_, value)| value_of(value))
                }
            };
            known.add_variable_from_value(name.as_str(), value);
        }
        // In doubt, no.
        match Value::resolve(&self.rule, &known) {
            Ok(Value::Bool(true)) => None,
            Ok(Value::Bool(false)) => Some(self.settings.message.clone()),
            Ok(Value::String(message)) => Some(message.as_str().to_owned()).filter(|message| !message.is_empty()),
            Ok(other) => Some(format!("the expression gave {}, neither true, false nor a text", other.type_of())),
            Err(error) => Some(format!("the expression failed: {error}")),
        }
    }
}

/// Whole numbers are `int`, so that they mix with those that are written in an expression.
fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            // Sizes above what an int holds are above every limit, too.
            (None, _) if number.is_u64() => Value::Int(i64::MAX),
            (None, float) => Value::Float(float.unwrap_or_default()),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(list) => list.iter().map(value_of).collect::<Vec<_>>().into(),
        serde_json::Value::Object(object) => {
            let fields = object.iter().map(|(name, value)| (name.clone(), value_of(value)));
            fields.collect::<HashMap<String, Value>>().into()
        }
    }
}

fn refused() -> String {
    "refused by the expression".to_owned()
}

fn at_push() -> Vec<Question> {
    vec![Question::ManifestPush]
}

#[cfg(test)]
mod tests;

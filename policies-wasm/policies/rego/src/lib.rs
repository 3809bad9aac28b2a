//! Rules in Rego, as authors for OPA and Kubewarden write them: `deny[msg]`, `warn[msg]` and `allow`.

use portcullis_policy_sdk::json;
use portcullis_policy_sdk::prelude::*;
use regorus::{Engine, Value};
use std::cell::RefCell;

/// Longest source, in bytes.
const MAX_SOURCE: usize = 64 << 10;
/// Most messages of one kind that are passed on.
const MAX_MESSAGES: usize = 8;

/// What is looked up for a rule, whether it reads it or not.
const FACTS: &[Fact] = &[Fact::TagDigest, Fact::TagsOfDigest, Fact::ImageConfig, Fact::Usage, Fact::PushedAt];

/// The rules.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// The module in Rego, version 1 or 0, with a package of any name and a rule `deny`, `warn` or `allow`.
    #[schemars(length(min = 1, max = 65536))]
    source: String,
    /// The questions that it answers.
    #[serde(default = "at_push")]
    hooks: Vec<Question>,
    /// What the module finds under `data`, beside its package.
    #[serde(default)]
    data: serde_json::Map<String, serde_json::Value>,
}

/// A question that a module can answer.
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

struct Rego {
    hooks: Vec<Question>,
    package: String,
    rules: Rules,
    engine: RefCell<Engine>,
}

/// Which rules the module has.
#[derive(Clone, Copy)]
struct Rules {
    deny: bool,
    warn: bool,
    allow: bool,
}

/// What the rules say.
struct Answer {
    refusal: Option<String>,
    warnings: Vec<String>,
}

impl Policy for Rego {
    type Settings = Settings;
    const NAME: &'static str = "rego";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::Token, Hook::Request, Hook::ManifestPush, Hook::Pull];
    const WANTS: &'static [Fact] = FACTS;

    fn configure(settings: Settings) -> Result<Self, Problems> {
        if settings.source.len() > MAX_SOURCE {
            return Err(Problems::one("source", format!("longer than {MAX_SOURCE} bytes")));
        }
        let mut problems = Problems::none();
        if settings.hooks.is_empty() {
            problems.add("hooks", "name at least one of token, request, manifest-push and pull");
        }
        let (mut engine, package) = load(&settings.source).map_err(|message| Problems::one("source", message))?;
        let has = |rule: &str| engine.has_declared_rule_rooted_at("policy.rego", rule).unwrap_or_default();
        let rules = Rules { deny: has("deny"), warn: has("warn"), allow: has("allow") };
        if !rules.deny && !rules.warn && !rules.allow {
            problems.add("source", "the module has no rule deny, warn or allow");
        }
        let data = Value::from(serde_json::Value::Object(settings.data));
        problems.note("data", engine.add_data(data).map_err(|error| error.to_string()));
        problems.or(Rego { hooks: settings.hooks, package, rules, engine: RefCell::new(engine) })
    }

    fn on_token(&self, context: &Context, request: &TokenRequest) -> TokenDecision {
        let token = || json::token_request(request);
        match self.ask(Question::Token, context, None, None, |input| insert(input, "token", token())) {
            Some(Answer { refusal: Some(message), .. }) => deny_token(message),
            _ => TokenDecision::Abstain,
        }
    }

    fn on_request(&self, context: &Context, request: &Request) -> Decision {
        let fill = |input: &mut Input| insert(input, "request", json::request(request));
        decision(self.ask(Question::Request, context, request.target.as_ref(), None, fill))
    }

    fn on_manifest_push(&self, context: &Context, target: &Target, manifest: &Manifest) -> Decision {
        let fill = |input: &mut Input| insert(input, "manifest", json::manifest(manifest));
        decision(self.ask(Question::ManifestPush, context, Some(target), Some(&manifest.digest), fill))
    }

    fn on_pull(&self, context: &Context, target: &Target, manifest: Option<&Manifest>) -> Decision {
        let fill = |input: &mut Input| {
            if let Some(manifest) = manifest {
                insert(input, "manifest", json::manifest(manifest));
            }
        };
        let digest = manifest.map(|manifest| manifest.digest.as_str());
        decision(self.ask(Question::Pull, context, Some(target), digest, fill))
    }
}

policy!(Rego);

type Input = serde_json::Map<String, serde_json::Value>;

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

impl Rego {
    /// What the module says; none where it was not meant to be asked.
    fn ask(
        &self,
        question: Question,
        context: &Context,
        target: Option<&Target>,
        digest: Option<&str>,
        fill: impl FnOnce(&mut Input),
    ) -> Option<Answer> {
        if !self.hooks.contains(&question) {
            return None;
        }
        let mut input = Input::new();
        insert(&mut input, "hook", question.name().into());
        insert(&mut input, "context", json::context(context));
        if let Some(target) = target {
            insert(&mut input, "target", json::target(target));
        }
        if question != Question::Token {
            insert(&mut input, "facts", json::facts(FACTS, target, digest));
        }
        fill(&mut input);
        let answer = self.evaluate(serde_json::Value::Object(input).into());
        // In doubt, no.
        Some(answer.unwrap_or_else(|error| Answer {
            refusal: Some(format!("the rules failed: {}", first_line(&error))),
            warnings: Vec::new(),
        }))
    }

    fn evaluate(&self, input: Value) -> Result<Answer, String> {
        let mut engine = self.engine.borrow_mut();
        engine.set_input(input);
        let mut rule =
            |name: &str| engine.eval_rule(format!("{}.{name}", self.package)).map_err(|error| error.to_string());
        let mut denied = if self.rules.deny { messages(&rule("deny")?)? } else { Vec::new() };
        if self.rules.allow && rule("allow")? != Value::from(true) && denied.is_empty() {
            denied.push("not allowed by the rules".to_owned());
        }
        let warnings = if self.rules.warn { messages(&rule("warn")?)? } else { Vec::new() };
        Ok(Answer { refusal: (!denied.is_empty()).then(|| denied.join("; ")), warnings })
    }
}

/// Reads the module as Rego of version 1, or else of version 0, and tells its package.
fn load(source: &str) -> Result<(Engine, String), String> {
    let read = |v0: bool| {
        let mut engine = Engine::new();
        engine.set_rego_v0(v0);
        engine.set_strict_builtin_errors(true);
        engine.add_policy("policy.rego".to_owned(), source.to_owned()).map(|package| (engine, package))
    };
    let (engine, package) = read(false).or_else(|error| read(true).map_err(|_| error.to_string().trim().to_owned()))?;
    Ok((engine, package))
}

/// What a rule says: nothing, one message, or a set or list of them. A message is a text, or an object with `msg` or
/// `message`.
fn messages(value: &Value) -> Result<Vec<String>, String> {
    let all: Vec<&Value> = match value {
        Value::Undefined | Value::Bool(false) | Value::Null => Vec::new(),
        Value::Set(set) => set.iter().collect(),
        Value::Array(list) => list.iter().collect(),
        // `deny[msg]` without `contains` or a body's `if` is an object in version 1: its keys are the messages.
        Value::Object(object) if !is_message(value) => {
            object.iter().filter(|(_, holds)| **holds != Value::from(false)).map(|(message, _)| message).collect()
        }
        one => vec![one],
    };
    all.into_iter().take(MAX_MESSAGES).map(message).collect()
}

fn is_message(value: &Value) -> bool {
    message(value).is_ok()
}

fn message(value: &Value) -> Result<String, String> {
    let text = match value {
        Value::Bool(true) => Some("refused by the rules".to_owned()),
        Value::String(text) => Some(text.to_string()),
        Value::Object(object) => {
            let field = |name: &str| object.get(&Value::from(name)).and_then(|text| text.as_string().ok());
            field("msg").or_else(|| field("message")).map(ToString::to_string)
        }
        _ => None,
    };
    text.ok_or_else(|| format!("a message is a text or an object with msg, not {value}"))
}

fn decision(answer: Option<Answer>) -> Decision {
    match answer {
        None => Decision::Abstain,
        Some(Answer { refusal: Some(message), .. }) => deny(message),
        Some(Answer { warnings, .. }) => warnings.into_iter().fold(Decision::Abstain, Decision::and_warn),
    }
}

fn insert(input: &mut Input, name: &str, value: serde_json::Value) {
    input.insert(name.to_owned(), value);
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| line.contains("error")).unwrap_or(text.trim())
}

fn at_push() -> Vec<Question> {
    vec![Question::ManifestPush]
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<Rego>("cases");
    }
}

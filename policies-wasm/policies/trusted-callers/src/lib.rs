//! Who may push, and from where.

mod network;

use network::Network;
use portcullis_policy_sdk::json;
use portcullis_policy_sdk::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whom to trust. A caller has to be one of those that are named, where any are, and to come from one of the networks,
/// where any are named.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    /// Patterns of robots: their user names (`acme+ci`) or their names within the project (`ci`).
    robots: Globs,
    /// Identities from elsewhere, such as the jobs of a build system.
    federated: Vec<Federated>,
    /// Patterns of people, by their ids.
    users: Globs,
    /// Networks to come from: `10.0.0.0/8`, `2001:db8::/32`.
    networks: Vec<Network>,
    /// Patterns of the repositories where this holds.
    repositories: Globs,
    /// Whether deleting is asked about, too.
    deletes: bool,
}

/// Identities of one issuer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Federated {
    /// The issuer, exactly.
    issuer: String,
    /// Claims with the pattern that each has to match. Of a list, one member has to.
    #[serde(default)]
    claims: BTreeMap<String, Glob>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            robots: Globs::default(),
            federated: Vec::new(),
            users: Globs::default(),
            networks: Vec::new(),
            repositories: Globs::all(),
            deletes: true,
        }
    }
}

struct TrustedCallers(Settings);

impl Policy for TrustedCallers {
    type Settings = Settings;
    const NAME: &'static str = "trusted-callers";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::Request, Hook::ManifestPush];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        let mut problems = Problems::none();
        if !names_anyone(&settings) && settings.networks.is_empty() {
            problems.add("", "name robots, federated identities, users or networks; with none, nobody could push");
        }
        for (number, federated) in settings.federated.iter().enumerate() {
            if federated.issuer.is_empty() {
                problems.add(format!("federated[{number}].issuer"), "must not be empty");
            }
            if federated.claims.is_empty() {
                let all = "name at least one claim: an issuer's identities are anybody's";
                problems.add(format!("federated[{number}].claims"), all);
            }
        }
        problems.or(TrustedCallers(settings))
    }

    fn on_request(&self, context: &Context, request: &Request) -> Decision {
        let operation = request.operation;
        let judged = operation.is_push() || (self.0.deletes && operation.is_delete());
        if !judged {
            return Decision::Abstain;
        }
        let verb = if operation.is_push() { "push" } else { "delete" };
        self.judge(context, request.target.as_ref(), verb)
    }

    fn on_manifest_push(&self, context: &Context, target: &Target, _: &Manifest) -> Decision {
        self.judge(context, Some(target), "push")
    }
}

policy!(TrustedCallers);

impl TrustedCallers {
    fn judge(&self, context: &Context, target: Option<&Target>, verb: &str) -> Decision {
        let settings = &self.0;
        // A request without a repository is judged as if it were about all of them.
        if target.is_some_and(|target| !settings.repositories.matches(&target.repository)) {
            return Decision::Abstain;
        }
        if names_anyone(settings) && !self.is_named(context) {
            return deny(format!("{} is not trusted to {verb} here", shown(&context.subject)));
        }
        if !settings.networks.is_empty() && !self.is_near(&context.client_ip) {
            return deny(format!("{} is not in a network that is trusted to {verb} here", context.client_ip));
        }
        Decision::Abstain
    }

    fn is_named(&self, context: &Context) -> bool {
        let (settings, subject) = (&self.0, &context.subject);
        match subject.kind {
            SubjectKind::Anonymous => false,
            SubjectKind::Robot => context.is_robot(&settings.robots),
            SubjectKind::User => settings.users.matches(&subject.id),
            SubjectKind::Federated => {
                let claims = json::claims(context);
                let holds = |federated: &Federated| {
                    let issuer = subject.issuer.as_deref() == Some(federated.issuer.as_str());
                    issuer && federated.claims.iter().all(|(name, pattern)| claim_matches(claims.get(name), pattern))
                };
                settings.federated.iter().any(holds)
            }
        }
    }

    /// An address that cannot be read is nowhere.
    fn is_near(&self, address: &str) -> bool {
        let address = address.parse::<IpAddr>().map(|address| address.to_canonical());
        address.is_ok_and(|address| self.0.networks.iter().any(|network| network.contains(address)))
    }
}

fn names_anyone(settings: &Settings) -> bool {
    !settings.robots.is_empty() || !settings.federated.is_empty() || !settings.users.is_empty()
}

fn claim_matches(claim: Option<&serde_json::Value>, pattern: &Glob) -> bool {
    use serde_json::Value;
    match claim {
        Some(Value::String(text)) => pattern.matches(text),
        Some(Value::Bool(_) | Value::Number(_)) => claim.is_some_and(|value| pattern.matches(&value.to_string())),
        Some(Value::Array(members)) => {
            members.iter().any(|member| member.as_str().is_some_and(|text| pattern.matches(text)))
        }
        _ => false,
    }
}

fn shown(subject: &Subject) -> String {
    match subject.kind {
        SubjectKind::Anonymous => "an anonymous caller".to_owned(),
        SubjectKind::Robot => format!("robot {}", subject.id),
        SubjectKind::User => format!("user {}", subject.id),
        SubjectKind::Federated => {
            format!("{} of {}", subject.id, subject.issuer.as_deref().unwrap_or("an unknown issuer"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<TrustedCallers>("cases");
    }
}

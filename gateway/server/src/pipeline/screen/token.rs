//! Policies at a token's issue: they leave it as it is, narrow it, or refuse it.

use super::question;
use crate::pipeline::Visit;
use crate::pipeline::respond::Refusal;
use crate::telemetry::RequestId;
use portcullis_oci::Scope;
use portcullis_oci::scope::parse_all;
use portcullis_policy::Verdict;
use portcullis_policy::question::{Ask, GrantType, Question, Scope as AskedScope, TokenRequest};
use portcullis_tenancy::{Project, Robot, grant};

/// A token's part that is about one project.
pub struct TokenAsk<'a> {
    /// How the caller showed who he is.
    pub grant_type: GrantType,
    /// Whether a refresh token is wanted too.
    pub offline: bool,
    /// What is asked for.
    pub requested: &'a [Scope],
    /// What of it is granted.
    pub granted: Vec<Scope>,
    /// Its life where no policy shortens it, in seconds.
    pub ttl_s: u32,
}

/// What policies leave of a token's part.
pub struct Left {
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// Its life in seconds.
    pub ttl_s: u32,
    /// For the client.
    pub warnings: Vec<String>,
}

/// Asks the project's chain about the part of a token that is about the project.
pub async fn ask(
    visit: &Visit,
    robot: Option<&Robot>,
    project: &Project,
    request_id: &RequestId,
    ask: TokenAsk<'_>,
) -> Result<Left, Refusal> {
    let request = TokenRequest {
        service: visit.settings.config.tokens.service.clone(),
        grant_type: ask.grant_type,
        offline: ask.offline,
        requested: ask.requested.iter().map(scope).collect(),
        granted: ask.granted.iter().map(scope).collect(),
        default_ttl_s: ask.ttl_s,
        max_ttl_s: ask.ttl_s,
    };
    let context = question::context(visit, robot, project, request_id);
    let question = Question { context, ask: Ask::Token(request), facts: Default::default(), raw_manifest: None };
    let answer = super::chain::ask(visit, project, question, None).await?;
    Ok(match answer.verdict {
        Verdict::Narrow { scopes, ttl_s } => Left { scopes: narrowed(&scopes)?, ttl_s, warnings: answer.warnings },
        Verdict::Pass | Verdict::Deny(_) => Left { scopes: ask.granted, ttl_s: ask.ttl_s, warnings: answer.warnings },
    })
}

/// Whether policies leave all of `needed` to a robot that sends its credentials along with a request: their warnings, or none
/// where they do not.
pub(super) async fn covers(
    visit: &Visit,
    robot: Option<&Robot>,
    project: &Project,
    request_id: &RequestId,
    needed: &[Scope],
) -> Result<Option<Vec<String>>, Refusal> {
    let life = visit.settings.config.tokens.life.as_secs();
    let part = TokenAsk {
        grant_type: GrantType::Basic,
        offline: false,
        requested: needed,
        granted: needed.to_vec(),
        ttl_s: u32::try_from(life).unwrap_or(u32::MAX),
    };
    let left = ask(visit, robot, project, request_id, part).await?;
    Ok(grant::covers(&left.scopes, needed).then_some(left.warnings))
}

fn scope(scope: &Scope) -> AskedScope {
    match scope {
        Scope::Catalog => AskedScope { kind: "registry".into(), name: "catalog".into(), actions: vec!["*".into()] },
        Scope::Repository { name, actions } => AskedScope {
            kind: "repository".into(),
            name: name.to_string(),
            actions: actions.names().map(str::to_owned).collect(),
        },
    }
}

/// The host has checked that they are a part of what was granted, so that every one of them parses.
fn narrowed(scopes: &[AskedScope]) -> Result<Vec<Scope>, Refusal> {
    let texts: Vec<String> =
        scopes.iter().map(|scope| format!("{}:{}:{}", scope.kind, scope.name, scope.actions.join(","))).collect();
    parse_all(texts.iter().map(String::as_str)).map_err(|error| Refusal::Internal(format!("narrowed scopes: {error}")))
}

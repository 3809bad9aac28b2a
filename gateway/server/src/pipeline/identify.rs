//! `Authorization` → who calls. Tokens verified lately are remembered, by the hash of the whole token and for as long as
//! no rule has changed.

use super::Visit;
use super::authorize::required;
use super::respond::Refusal;
use crate::app::App;
use crate::limits::Attempt;
use dashmap::DashMap;
use http::header;
use portcullis_oci::challenge::{Authorization, ChallengeError, parse_authorization};
use portcullis_oci::scope::ScopeName;
use portcullis_oci::{Operation, Scope};
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::credential::SecretHash;
use portcullis_tenancy::robot::{self, RobotRefusal, split_username};
use portcullis_tenancy::store::Generation;
use portcullis_tenancy::token::{Access, Bearer, Carried, LEEWAY, TokenError};
use portcullis_tenancy::{Project, ProjectId, Robot, Timestamp, grant};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Most tokens remembered at a time.
const MAX_TOKENS: usize = 20_000;
/// Most scopes of all remembered tokens together, each token counted as one more: a token may have a thousand.
const MAX_SCOPES: u64 = 100_000;

/// Who calls.
pub enum Caller {
    /// Nobody said.
    Unknown,
    /// The holder of a valid token.
    Token(Arc<Verified>),
    /// A robot that sent its credentials along.
    Robot {
        /// The robot.
        robot: Arc<Robot>,
    },
}

impl Caller {
    /// The robot behind it, if there is one.
    pub fn robot(&self) -> Option<&Arc<Robot>> {
        match self {
            Self::Unknown => None,
            Self::Token(verified) => verified.robot.as_ref(),
            Self::Robot { robot } => Some(robot),
        }
    }

    /// Who it is, as it is written down.
    pub fn actor(&self) -> Box<str> {
        self.robot().map_or_else(|| "anonymous".into(), |robot| robot.username().into())
    }

    /// Whether its token is past its end, so that it is good for an upload under way alone.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        matches!(self, Self::Token(verified) if verified.is_expired(now))
    }
}

/// A token that was verified, and what it is good for under the rules of one generation.
pub struct Verified {
    generation: Generation,
    access: Access,
    /// The robot that it speaks for; none where it is anonymous.
    pub robot: Option<Arc<Robot>>,
    /// What it carries and what is still granted.
    pub scopes: Vec<Scope>,
}

impl Verified {
    fn is_expired(&self, now: Timestamp) -> bool {
        now.duration_since(self.access.expires_at) > LEEWAY.try_into().unwrap_or_default()
    }
}

/// Tokens verified lately, and secrets used lately.
pub struct TokenCache {
    verified: Cache<[u8; 32], Arc<Verified>, Scopes>,
    uses: DashMap<Box<str>, Timestamp>,
}

/// Weighs a remembered token by what it holds.
#[derive(Clone)]
struct Scopes;

impl Weighter<[u8; 32], Arc<Verified>> for Scopes {
    fn weight(&self, _: &[u8; 32], verified: &Arc<Verified>) -> u64 {
        u64::try_from(verified.scopes.len()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl TokenCache {
    /// An empty one.
    pub fn new() -> Self {
        Self { verified: Cache::with_weighter(MAX_TOKENS, MAX_SCOPES, Scopes), uses: DashMap::new() }
    }

    /// Takes what was noted of secrets' uses since the last time.
    pub fn take_uses(&self) -> Vec<(Box<str>, Timestamp)> {
        let ids: Vec<Box<str>> = self.uses.iter().map(|entry| entry.key().clone()).collect();
        ids.into_iter().filter_map(|id| self.uses.remove(&id)).collect()
    }
}

/// Finds out who calls, and whether he still may at `now`.
pub async fn identify(visit: &Visit, operation: &Operation, now: Timestamp) -> Result<Caller, Refusal> {
    let app = &visit.worker.app;
    if app.store.is_stale() {
        return Err(Refusal::unavailable(
            "the gateway's store has not answered for a while, and what it cannot check it does not allow",
        ));
    }
    let Some(value) = visit.head.headers.get(header::AUTHORIZATION) else { return Ok(Caller::Unknown) };
    let refused = |message: String, denial: Option<Kind>| Refusal::Challenge {
        scopes: required(operation),
        error: Some(ChallengeError::InvalidToken),
        message,
        denial,
    };
    match parse_authorization(value).map_err(|error| refused(error.to_string(), None))? {
        Authorization::Bearer(token) => {
            // Tokens end all the time; any other that is not good any more, or never was, is written down.
            let denial = |message: &str| (message != TokenError::Expired.to_string()).then_some(Kind::AccessDenial);
            let verified = verify(app, visit, token, now).await?;
            let verified = verified.map_err(|message| {
                let denial = denial(&message);
                refused(message, denial)
            })?;
            Ok(Caller::Token(verified))
        }
        Authorization::Basic { username, password } => {
            let (robot, _) = login(app, &username, &password, visit.peer, now)
                .await?
                .ok_or_else(|| refused(WRONG_CREDENTIALS.to_owned(), Some(Kind::LoginFailure)))?;
            Ok(Caller::Robot { robot })
        }
    }
}

/// What every failed login is told, whatever failed.
pub const WRONG_CREDENTIALS: &str = "user name or token is wrong, disabled, expired, or not allowed from this address; ask your project's admin for a robot";

/// Checks a robot's credentials. `None` is a refusal; unknown names cost the same as known ones, one look into the store and as
/// many comparisons. Whoever has failed too often
/// has to wait until he may fail again; the right secret is taken at any time.
pub async fn login(
    app: &App,
    username: &str,
    password: &str,
    peer: IpAddr,
    now: Timestamp,
) -> Result<Option<(Arc<Robot>, Box<str>)>, Refusal> {
    let (settings, attempt) = (app.settings.load(), Attempt::password(username));
    let rules = &settings.config.limits.rates.logins;
    let found = check_secret(app, username, password, peer, now).await?;
    if found.is_none() {
        app.limits.login_failed(rules, attempt, peer).await?;
    }
    Ok(found)
}

async fn check_secret(
    app: &App,
    username: &str,
    password: &str,
    peer: IpAddr,
    now: Timestamp,
) -> Result<Option<(Arc<Robot>, Box<str>)>, Refusal> {
    let Some(candidate) = SecretHash::of_candidate(password) else { return Ok(None) };
    let Some((project, name)) = split_username(username) else { return Ok(None) };
    let is_right = |robot: Option<&Robot>| robot::check_login(robot, &candidate, peer, now).is_ok();
    let robot = app.store.robot_named(project, name, is_right).await?;
    let secret = match robot::check_login(robot.as_deref(), &candidate, peer, now) {
        Ok((_, secret)) => secret.id.clone(),
        Err(refusal) => {
            tracing::debug!(project, robot = name, %refusal, "login refused");
            return Ok(None);
        }
    };
    app.tokens.uses.insert(secret.clone(), now);
    Ok(robot.map(|robot| (robot, secret)))
}

/// Verifies a token, or remembers that it was; the inner error is for the client. The token has to be good when the request
/// came, its robot at `now`.
async fn verify(
    app: &App,
    visit: &Visit,
    token: &str,
    now: Timestamp,
) -> Result<Result<Arc<Verified>, String>, Refusal> {
    let key = hash(token);
    let verified = match app.tokens.verified.get(&key).filter(|verified| verified.generation == app.store.generation())
    {
        Some(verified) => {
            app.telemetry.tokens_remembered.inc();
            verified
        }
        None => match verify_anew(app, visit, token).await? {
            Ok(verified) => {
                let verified = Arc::new(verified);
                app.tokens.verified.insert(key, Arc::clone(&verified));
                verified
            }
            Err(error) => return Ok(Err(error.to_string())),
        },
    };
    // What may change between two uses of one token without a change of any rule: the time and the address.
    let grace = visit.settings.config.tokens.upload_grace;
    let overdue = visit.now.duration_since(verified.access.expires_at);
    if overdue > grace.saturating_add(LEEWAY).try_into().unwrap_or_default() {
        return Ok(Err(TokenError::Expired.to_string()));
    }
    if let (Some(robot), Bearer::Robot { secret, .. }) = (&verified.robot, &verified.access.bearer)
        && let Err(refusal) = robot.check_use(secret, visit.peer, now)
    {
        return Ok(Err(refusal.to_string()));
    }
    Ok(Ok(verified))
}

async fn verify_anew(app: &App, visit: &Visit, token: &str) -> Result<Result<Verified, String>, Refusal> {
    app.telemetry.tokens_verified.inc();
    let generation = app.store.generation();
    let grace = visit.settings.config.tokens.upload_grace;
    let access = match app.key_ring().await?.verify_access(token, grace, visit.now) {
        Ok(access) => access,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let robot = match &access.bearer {
        Bearer::Anonymous => None,
        Bearer::Robot { robot, .. } => match app.store.robot(robot).await? {
            Some(robot) => Some(robot),
            None => return Ok(Err(RobotRefusal::Disabled.to_string())),
        },
    };
    let Some((scopes, projects)) = carried(app, &access.carried).await? else {
        return Ok(Err("the token's scopes are not kept any more; log in again".to_owned()));
    };
    let living = living_projects(app, &scopes).await?;
    // A token speaks of the projects that had these names when it was issued, not of whoever has them now.
    let same = |name: &str| {
        let issued = projects.iter().find(|(project, _)| **project == *name).map(|(_, id)| id);
        living.get(name).filter(|project| Some(&project.id) == issued).cloned()
    };
    let scopes = grant::narrow(&scopes, robot.as_deref(), &same);
    Ok(Ok(Verified { generation, access, robot, scopes }))
}

type ScopesAndProjects = (Vec<Scope>, Vec<(Box<str>, ProjectId)>);

async fn carried(app: &App, carried: &Carried) -> Result<Option<ScopesAndProjects>, Refusal> {
    match carried {
        Carried::Scopes { scopes, projects } => Ok(Some((scopes.clone(), projects.clone()))),
        Carried::Stored(id) => {
            let id = id.clone();
            let set = app.store.run(|store| async move { store.scope_set(&id).await }).await?;
            Ok(set.map(|set| (set.scopes, set.projects)))
        }
    }
}

/// The living projects that these scopes name.
pub async fn living_projects(app: &App, scopes: &[Scope]) -> Result<HashMap<Box<str>, Arc<Project>>, Refusal> {
    let mut living = HashMap::new();
    for project in scopes.iter().filter_map(project_name) {
        if !living.contains_key(project)
            && let Some(found) = app.store.project(project).await?
        {
            living.insert(project.into(), found);
        }
    }
    Ok(living)
}

/// The project that a scope names.
pub fn project_name(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::Catalog => None,
        Scope::Repository { name: ScopeName::Repository(name), .. } => Some(name.project()),
        Scope::Repository { name: ScopeName::Pattern(pattern), .. } => Some(pattern.project()),
    }
}

fn hash(token: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests;

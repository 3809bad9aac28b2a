//! Caller + operation → [`Granted`], or a challenge. What a caller may not do looks the same as what does not exist.

use super::Visit;
use super::identify::Caller;
use super::respond::Refusal;
use crate::config::Isolation;
use crate::upload_location::Session;
use portcullis_oci::challenge::ChallengeError;
use portcullis_oci::route::{SessionToken, UploadStart};
use portcullis_oci::scope::{Actions, ScopeName};
use portcullis_oci::{ErrorCode, Operation, ProtocolError, RepositoryName, Scope};
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::ledger::{Standing, Upload};
use portcullis_tenancy::{Project, grant};
use std::sync::Arc;

/// An operation that its caller may make. Only this stage makes one.
pub struct Granted {
    operation: Operation,
    caller: Caller,
    project: Option<Arc<Project>>,
    mount_source: Option<Arc<Project>>,
    session: Option<Session>,
}

impl Granted {
    /// What is done.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Who does it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The repository's project; none for ping and catalog.
    pub fn project(&self) -> Option<&Arc<Project>> {
        self.project.as_ref()
    }

    /// The project of the repository that a blob is mounted from.
    pub fn mount_source(&self) -> Option<&Arc<Project>> {
        self.mount_source.as_ref()
    }

    /// Makes a plain upload of a mount, as if its source were not there: 202, and nothing is told.
    pub(super) fn give_up_mount(&mut self) {
        self.mount_source = None;
        if let Operation::UploadStart { repository, start: UploadStart::Mount { .. } } = &self.operation {
            self.operation = Operation::UploadStart { repository: repository.clone(), start: UploadStart::Session };
        }
    }

    /// The upload that a chunk, an end, a status or a cancellation belongs to.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }
}

/// What an operation needs (Distribution's token scope documentation). A mount's source is asked for beside it.
pub fn required(operation: &Operation) -> Vec<Scope> {
    let push = Actions::PULL.union(Actions::PUSH);
    let (repository, actions) = match operation {
        Operation::Ping => return Vec::new(),
        Operation::Catalog { .. } => return vec![Scope::Catalog],
        Operation::TagsList { repository, .. }
        | Operation::Referrers { repository, .. }
        | Operation::ManifestPull { repository, .. }
        | Operation::ManifestHead { repository, .. }
        | Operation::BlobPull { repository, .. }
        | Operation::BlobHead { repository, .. } => (repository, Actions::PULL),
        Operation::UploadStart { repository, .. }
        | Operation::UploadChunk { repository, .. }
        | Operation::UploadFinish { repository, .. }
        | Operation::UploadStatus { repository, .. }
        | Operation::UploadCancel { repository, .. }
        | Operation::ManifestPush { repository, .. } => (repository, push),
        Operation::ManifestDelete { repository, .. }
        | Operation::TagDelete { repository, .. }
        | Operation::BlobDelete { repository, .. } => (repository, Actions::DELETE),
    };
    vec![repository_scope(repository, actions)]
}

/// Allows the operation, or challenges the caller.
pub async fn authorize(visit: &Visit, caller: Caller, mut operation: Operation) -> Result<Granted, Refusal> {
    let needed = required(&operation);
    let session_token = session_of(&operation);
    if matches!(caller, Caller::Unknown) {
        return Err(challenge(&operation, None, "authentication is needed: log in, then repeat the request"));
    }
    if caller.is_expired(visit.now) && session_token.is_none() {
        return Err(expired(&operation));
    }
    if !holds(visit, &caller, &needed).await? {
        let is_denied = caller.robot().is_some() && !may_hold(visit, &caller, &needed).await?;
        return Err(insufficient(&operation, is_denied));
    }
    let project = match operation.repository() {
        None => None,
        Some(repository) => match visit.worker.app.store.project(repository.project()).await? {
            Some(project) => Some(project),
            None => return Err(insufficient(&operation, caller.robot().is_some())),
        },
    };
    let mount_source = match &operation {
        Operation::UploadStart { repository, start: UploadStart::Mount { .. } } => {
            let repository = repository.clone();
            let source = mount_source(visit, &caller, &operation).await?;
            if source.is_none() {
                // A mount that may not be made is an upload like any other: 202, and nothing is told.
                operation = Operation::UploadStart { repository, start: UploadStart::Session };
            }
            source
        }
        _ => None,
    };
    let session = match (session_token, &project) {
        (Some(token), Some(project)) => Some(session(visit, &caller, project, &operation, &token).await?),
        _ => None,
    };
    Ok(Granted { operation, caller, project, mount_source, session })
}

/// Whether the caller holds all of these scopes now.
async fn holds(visit: &Visit, caller: &Caller, needed: &[Scope]) -> Result<bool, Refusal> {
    match caller {
        Caller::Unknown => Ok(false),
        Caller::Token(verified) => Ok(grant::covers(&verified.scopes, needed)),
        Caller::Robot { robot } => {
            let living = super::identify::living_projects(&visit.worker.app, needed).await?;
            let granted = grant::narrow(needed, Some(robot), &|name| living.get(name).cloned());
            Ok(grant::covers(&granted, needed))
        }
    }
}

/// Whether the caller would hold them, if he asked for a token that covers them: a client that has one for something else does
/// that, and is denied nothing.
async fn may_hold(visit: &Visit, caller: &Caller, needed: &[Scope]) -> Result<bool, Refusal> {
    let living = super::identify::living_projects(&visit.worker.app, needed).await?;
    let robot = caller.robot().map(|robot| robot.as_ref());
    let granted = grant::narrow(needed, robot, &|name| living.get(name).cloned());
    Ok(grant::covers(&granted, needed))
}

/// The project that a blob may be mounted from: the caller may pull there, and the blob is there.
async fn mount_source(visit: &Visit, caller: &Caller, operation: &Operation) -> Result<Option<Arc<Project>>, Refusal> {
    let Operation::UploadStart { start: UploadStart::Mount { digest, from: Some(from) }, .. } = operation else {
        return Ok(None);
    };
    let app = &visit.worker.app;
    if !holds(visit, caller, &[repository_scope(from, Actions::PULL)]).await? {
        return Ok(None);
    }
    let Some(source) = app.store.project(from.project()).await? else { return Ok(None) };
    let is_there = match app.store.standing(&source.id, from, digest).await? {
        Standing::Held { .. } => true,
        Standing::Uncharged => false,
        Standing::Unknown => visit.settings.config.upstream.isolation == Isolation::Repository,
    };
    Ok(is_there.then_some(source))
}

fn session_of(operation: &Operation) -> Option<SessionToken> {
    match operation {
        Operation::UploadChunk { session, .. }
        | Operation::UploadFinish { session, .. }
        | Operation::UploadStatus { session, .. }
        | Operation::UploadCancel { session, .. } => Some(session.clone()),
        _ => None,
    }
}

/// Opens an upload's location and checks that the upload is this robot's, in this repository, and still under way. A token
/// past its end is good for an upload that began before that, for as long as the grace says.
async fn session(
    visit: &Visit,
    caller: &Caller,
    project: &Project,
    operation: &Operation,
    token: &SessionToken,
) -> Result<Session, Refusal> {
    let unknown = || {
        Refusal::from(ProtocolError::new(
            ErrorCode::BlobUploadUnknown,
            "there is no such upload (any more); start it again with POST",
        ))
    };
    let app = &visit.worker.app;
    let robot = caller.robot().ok_or_else(unknown)?;
    let repository = operation.repository().ok_or_else(unknown)?;
    let session = app
        .locations
        .open(token)
        .filter(|session| session.belongs_to(&project.id, repository, &robot.id))
        .ok_or_else(unknown)?;
    let id = session.upload.clone();
    let upload: Upload = app.store.run(|store| async move { store.upload(&id).await }).await?.ok_or_else(unknown)?;
    let is_same = upload.robot == robot.id && upload.project == project.id && upload.repository == *repository;
    if !is_same || upload.expires_at <= visit.now {
        return Err(unknown());
    }
    if caller.is_expired(upload.started_at) {
        return Err(expired(operation));
    }
    Ok(session)
}

fn repository_scope(repository: &RepositoryName, actions: Actions) -> Scope {
    Scope::Repository { name: ScopeName::Repository(repository.clone()), actions }
}

fn expired(operation: &Operation) -> Refusal {
    challenge(operation, Some(ChallengeError::InvalidToken), "the token has expired; fetch a new one")
}

/// The challenge to credentials that are good for something else.
pub(super) fn insufficient(operation: &Operation, is_denied: bool) -> Refusal {
    let message = "the credentials do not cover this; see the challenge's scope";
    let mut refusal = challenge(operation, Some(ChallengeError::InsufficientScope), message);
    if let Refusal::Challenge { denial, .. } = &mut refusal {
        *denial = is_denied.then_some(Kind::AccessDenial);
    }
    refusal
}

/// The challenge for an operation: what a token must cover, a mount's source included.
fn challenge(operation: &Operation, error: Option<ChallengeError>, message: &str) -> Refusal {
    let mut scopes = required(operation);
    if let Operation::UploadStart { start: UploadStart::Mount { from: Some(from), .. }, .. } = operation {
        scopes.push(repository_scope(from, Actions::PULL));
    }
    Refusal::Challenge { scopes, error, message: message.to_owned(), denial: None }
}

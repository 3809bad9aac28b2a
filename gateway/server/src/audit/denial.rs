//! Which refusals are written down, and what of them. What no credentials were sent for is none: it is how every login begins.

use crate::pipeline::Visit;
use crate::pipeline::receive::{self, Endpoint};
use crate::pipeline::respond::Refusal;
use http::header;
use portcullis_oci::challenge::{Authorization, parse_authorization};
use portcullis_oci::{ErrorCode, Operation, Reference, Scope};
use portcullis_policy::Owner;
use portcullis_tenancy::audit::{Kind, Note};
use portcullis_tenancy::credential;

/// What of a refusal is written down. `robot` is who asks, `claimed` who he says that he is.
pub fn of(visit: &Visit, refusal: &Refusal, robot: Option<&str>, claimed: Option<&str>) -> Option<Note> {
    let (kind, reason) = judged(refusal, claimed.is_some())?;
    let named = (kind == Kind::LoginFailure).then(|| basic_username(visit)).flatten();
    let actor = robot.or(claimed.or(named.as_deref()).map(no_secret)).unwrap_or("anonymous");
    let note = Note::new(kind, actor).from(visit.peer).because(&reason);
    Some(about(visit, refusal, note))
}

fn judged(refusal: &Refusal, has_claimed: bool) -> Option<(Kind, String)> {
    match refusal {
        Refusal::Challenge { denial, message, scopes, .. } => {
            let scopes: Vec<String> = scopes.iter().map(Scope::to_string).collect();
            let reason = match (*denial)? {
                Kind::LoginFailure => message.clone(),
                _ => format!("{message} ({})", scopes.join(" ")),
            };
            Some(((*denial)?, reason))
        }
        Refusal::Login(message) => has_claimed.then(|| (Kind::LoginFailure, message.clone())),
        Refusal::Policy { refusal, .. } => {
            let of = match &refusal.owner {
                Owner::Platform => "the platform",
                Owner::Project(_) => "the project",
            };
            Some((
                Kind::PolicyDenial,
                format!("policy {} of {of} ({}): {}", refusal.policy, refusal.digest, refusal.message),
            ))
        }
        Refusal::Limited(limited) => {
            Some((Kind::LimitDenial, format!("{}: {}", limited.name().as_str(), limited.message())))
        }
        Refusal::Quota(message) => Some((Kind::QuotaDenial, message.clone())),
        // What no policy can judge, where one would have to.
        Refusal::Protocol(error) => {
            (error.code == ErrorCode::Denied).then(|| (Kind::PolicyDenial, error.message.clone()))
        }
        Refusal::Framing(_)
        | Refusal::Range { .. }
        | Refusal::Upstream(_)
        | Refusal::UpstreamStatus { .. }
        | Refusal::Unavailable(_)
        | Refusal::Shed(_)
        | Refusal::Store(_)
        | Refusal::Internal(_) => None,
    }
}

/// What it was about, as far as the request says so.
fn about(visit: &Visit, refusal: &Refusal, mut note: Note) -> Note {
    if let Refusal::Policy { project, .. } = refusal {
        note = note.project(project.as_str());
    }
    let Ok(Endpoint::Registry(operation)) = receive::receive(visit) else { return note };
    if let Some(repository) = operation.repository() {
        note = note.project(repository.project()).repository(repository.as_str());
    }
    let reference = match &operation {
        Operation::ManifestPull { reference, .. }
        | Operation::ManifestHead { reference, .. }
        | Operation::ManifestPush { reference, .. } => reference,
        Operation::TagDelete { tag, .. } => return note.reference(tag.as_str()),
        Operation::ManifestDelete { digest, .. }
        | Operation::BlobPull { digest, .. }
        | Operation::BlobHead { digest, .. }
        | Operation::BlobDelete { digest, .. }
        | Operation::UploadFinish { digest, .. } => return note.digest(digest.as_str()),
        _ => return note,
    };
    match reference {
        Reference::Tag(tag) => note.reference(tag.as_str()),
        Reference::Digest(digest) => note.digest(digest.as_str()),
    }
}

/// Whoever mixes name and secret up must not find his secret written down.
fn no_secret(name: &str) -> &str {
    let is_token = name.starts_with("ey") && name.matches('.').count() == 2;
    if is_token || name.trim_start().starts_with(credential::PREFIX) { "(a secret)" } else { name }
}

fn basic_username(visit: &Visit) -> Option<String> {
    match parse_authorization(visit.head.headers.get(header::AUTHORIZATION)?) {
        Ok(Authorization::Basic { username, .. }) => Some(username),
        _ => None,
    }
}

//! Takes [`Cleared`], and nothing else, upstream; rewrites what comes back; streams both ways.
//!
//! Paths are rebuilt from the operation, never copied; headers go by allow-lists in both directions; nothing of the
//! upstream's names and addresses gets out.

mod catalog;
mod delete;
mod manifest;
mod mapping;
mod pull;
mod referrers;
mod tags;
mod upload;

use super::Visit;
use super::admit::Places;
use super::authorize::Granted;
use super::inspect::Payload;
use super::reserve::{Cleared, Room};
use super::respond::{self, Refusal};
use super::screen::{Leave, Seen};
use crate::body::Body;
use crate::quota::Hold;
use crate::tag_lock::TagLocks;
use crate::trace;
use crate::upstream::Call;
use http::{Method, Response};
use portcullis_oci::{Operation, RepositoryName, Tag};
use portcullis_tenancy::Project;
use portcullis_tenancy::audit::{Entry, Kind, Note};
use std::sync::Arc;

/// What every forwarded operation on a repository needs at hand.
struct Errand {
    visit: Arc<Visit>,
    granted: Granted,
    project: Arc<Project>,
    repository: RepositoryName,
    /// The repository's name upstream.
    upstream_name: String,
    /// Room for what it brings.
    room: Option<Room>,
    /// Its places among those that may be under way at once: a write that goes on without its client has them until its end.
    _places: Arc<Places>,
}

/// Carries an operation out.
pub async fn forward(visit: &Arc<Visit>, cleared: Cleared) -> Result<Response<Body>, Refusal> {
    let (admitted, payload, leave, mut room) = cleared.into_parts();
    let (granted, places) = admitted.into_parts();
    let (Some(project), Some(repository)) = (granted.project().cloned(), granted.operation().repository().cloned())
    else {
        return match granted.operation() {
            Operation::Catalog { page } => {
                let list = catalog::catalog(visit, granted.caller(), page).await;
                list.map(|response| respond::with_warnings(response, &leave.warnings))
            }
            _ => Ok(respond::empty_object()),
        };
    };
    let upstream_name = project.upstream_name(&repository);
    let claimed = room.as_mut().and_then(|room| room.locks.take());
    let errand =
        Errand { visit: Arc::clone(visit), granted, project, repository, upstream_name, room, _places: places };
    let Leave { locks, seen, warnings } = leave;
    let locks = locks.or(claimed);
    if !matches!(errand.granted.operation(), Operation::UploadStatus { .. }) && !errand.granted.operation().is_write() {
        return read(&errand, seen).await.map(|response| respond::with_warnings(response, &warnings));
    }
    // A write goes on to its end, records included, when the client goes away in the middle.
    let place =
        Arc::clone(&visit.worker.writes).acquire_owned().await.map_err(|error| Refusal::Internal(error.to_string()))?;
    let writing = async move {
        let _place = place;
        write(&errand, payload, locks).await
    };
    match tokio::spawn(trace::carried(writing)).await {
        Ok(answer) => answer.map(|response| respond::with_warnings(response, &warnings)),
        Err(error) => Err(Refusal::Internal(format!("a write did not end: {error}"))),
    }
}

/// `seen` is the manifest that policies were shown: what is sent is what they judged.
async fn read(errand: &Errand, seen: Option<Seen>) -> Result<Response<Body>, Refusal> {
    match errand.granted.operation() {
        Operation::TagsList { page, .. } => tags::tags(errand, page).await,
        Operation::Referrers { digest, artifact_type, last, .. } => {
            referrers::referrers(errand, digest, artifact_type.as_deref(), last.as_ref()).await
        }
        Operation::ManifestPull { reference, .. } => pull::manifest(errand, &Method::GET, reference, seen).await,
        Operation::ManifestHead { reference, .. } => pull::manifest(errand, &Method::HEAD, reference, seen).await,
        Operation::BlobPull { digest, .. } => pull::blob(errand, &Method::GET, digest).await,
        Operation::BlobHead { digest, .. } => pull::blob(errand, &Method::HEAD, digest).await,
        other => Err(Refusal::Internal(format!("{} is no read", other.name()))),
    }
}

/// `locks` are those under which policies looked at tags, or that were had along with the room: the write is done under the same.
async fn write(errand: &Errand, payload: Payload, locks: Option<TagLocks>) -> Result<Response<Body>, Refusal> {
    match (errand.granted.operation(), payload) {
        (Operation::UploadStart { start, .. }, payload) => upload::start(errand, start, payload).await,
        (Operation::UploadChunk { .. }, payload) => upload::chunk(errand, payload).await,
        (Operation::UploadFinish { digest, .. }, payload) => upload::finish(errand, digest, payload).await,
        (Operation::UploadStatus { .. }, _) => upload::status(errand).await,
        (Operation::UploadCancel { .. }, _) => upload::cancel(errand).await,
        (Operation::ManifestPush { reference, tags, .. }, Payload::Manifest { bytes, manifest }) => {
            manifest::push(errand, reference, tags, bytes, *manifest, locks).await
        }
        (Operation::ManifestDelete { digest, .. }, _) => delete::manifest(errand, digest, locks).await,
        (Operation::TagDelete { tag, .. }, _) => delete::tag(errand, tag, locks).await,
        (Operation::BlobDelete { digest, .. }, _) => delete::blob(errand, digest).await,
        (other, _) => Err(Refusal::Internal(format!("{} is no write", other.name()))),
    }
}

impl Errand {
    /// A call for the errand's own operation, its path rebuilt with the upstream's name.
    fn call(&self) -> Call {
        let operation = self.granted.operation();
        self.call_to(operation.method(), operation.path_and_query(&self.upstream_name))
    }

    /// A call for some other path of the same repository.
    fn call_to(&self, method: Method, path: String) -> Call {
        Call::new(method, path, format!("repository:{}:pull,push,delete", self.upstream_name))
    }

    /// Sends a call.
    async fn send(&self, call: Call) -> Result<crate::upstream::Answer, Refusal> {
        let worker = &self.visit.worker;
        Ok(worker.app.upstream.call(&worker.pool, call).await?)
    }

    /// A note of what is done here, for the audit trail.
    fn note(&self, kind: Kind) -> Note {
        Note::new(kind, &self.granted.caller().actor())
            .from(self.visit.peer)
            .project(self.project.name.as_str())
            .repository(self.repository.as_str())
            .request(&self.visit.request_id.to_string())
    }

    /// It as a record, for the transaction of the change.
    fn seal(&self, note: Note) -> Entry {
        self.visit.worker.app.audit.seal(note)
    }

    /// The locks on these tags: those that are held already, or new ones.
    async fn lock(&self, taken: Option<TagLocks>, tags: Vec<Tag>) -> Result<TagLocks, Refusal> {
        match taken {
            Some(locks) => Ok(locks),
            None => {
                let store = &self.visit.worker.app.store;
                Ok(TagLocks::take(store, &self.project.id, &self.repository, tags).await?)
            }
        }
    }

    /// The room that an operation has which brings something.
    fn hold(&self) -> Result<&Arc<Hold>, Refusal> {
        let room = self.room.as_ref().map(|room| &room.hold);
        room.ok_or_else(|| Refusal::Internal(format!("{} has no room", self.granted.operation().name())))
    }
}

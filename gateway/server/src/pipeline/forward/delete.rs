//! Deletion of manifests, blobs and single tags.

use super::Errand;
use super::mapping::{plain, refusal};
use super::tags;
use crate::body::Body;
use crate::config::Isolation;
use crate::pipeline::respond::{Refusal, unknown_manifest};
use crate::quota::{AtWork, operation_id};
use crate::tag_lock::TagLocks;
use crate::throwaway::{Throwaway, Throwaways};
use crate::upstream::{Call, RequestBody};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use portcullis_oci::manifest::media_type;
use portcullis_oci::route::Page;
use portcullis_oci::{Digest, ErrorCode, Operation, Reference, Tag};
use portcullis_tenancy::audit::{Entry, Kind, Note};
use portcullis_tenancy::ledger::{JournalEntry, JournalStep, Removed, Standing};
use portcullis_tenancy::{Store, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes that a deletion gives back to its project.
const RECLAIMED: HeaderName = HeaderName::from_static("portcullis-reclaimed-bytes");

/// Most tags from before the gateway that are locked while a manifest is deleted. A push of another one at that moment may
/// lose its tag again.
const MAX_UNRECORDED: usize = 1000;

/// DELETE of a manifest by digest: every tag on it goes along, so all of them are locked. `locks` are those on the recorded
/// ones, where policies have looked at them.
pub async fn manifest(errand: &Errand, digest: &Digest, locks: Option<TagLocks>) -> Result<Response<Body>, Refusal> {
    let store = &errand.visit.worker.app.store;
    let (project, repository) = (errand.project.id.clone(), errand.repository.clone());
    let tags = store.run(|store| async move { store.tags(&project, &repository).await }).await?;
    let mut wanted = unrecorded(errand, &tags).await?;
    let along: Vec<&str> = tags.iter().filter(|(_, tagged)| tagged == digest).map(|(tag, _)| tag.as_str()).collect();
    let mut note = errand.note(Kind::Delete).digest(digest.as_str());
    if !along.is_empty() {
        note = note.reference(&along.join(" "));
    }
    if locks.is_none() {
        wanted.extend(tags.into_iter().filter(|(_, tagged)| tagged == digest).map(|(tag, _)| tag));
    }
    let further = TagLocks::take(store, &errand.project.id, &errand.repository, wanted).await?;
    // What policies have judged is what goes: a tag that came onto it meanwhile was not among it.
    let result = match &locks {
        Some(judged) if !still_as_judged(errand, digest, judged).await? => Err(Refusal::unavailable(
            "a tag was pushed onto the manifest while its deletion was looked at; try again in a moment",
        )),
        _ => delete_manifest(errand, digest, note).await,
    };
    for locks in locks.into_iter().chain([further]) {
        locks.release().await;
    }
    result
}

async fn still_as_judged(errand: &Errand, digest: &Digest, judged: &TagLocks) -> Result<bool, Refusal> {
    let store = &errand.visit.worker.app.store;
    let (project, repository) = (errand.project.id.clone(), errand.repository.clone());
    let tags = store.run(|store| async move { store.tags(&project, &repository).await }).await?;
    Ok(tags.iter().filter(|(_, tagged)| tagged == digest).all(|(tag, _)| judged.holds(tag)))
}

/// The upstream's tags that are not on record, from before the gateway. What they stand on is not known, so any may go along.
async fn unrecorded(errand: &Errand, recorded: &[(Tag, Digest)]) -> Result<Vec<Tag>, Refusal> {
    let recorded: BTreeSet<&Tag> = recorded.iter().map(|(tag, _)| tag).collect();
    let most = recorded.len().saturating_add(MAX_UNRECORDED);
    match tags::collect(errand, &Page { n: None, last: None }, most).await {
        Ok((tags, _)) => Ok(tags.into_iter().filter(|tag| !recorded.contains(tag)).take(MAX_UNRECORDED).collect()),
        // Without a list nobody knows of any.
        Err(Refusal::Protocol(_)) => Ok(Vec::new()),
        Err(refusal) => Err(refusal),
    }
}

async fn delete_manifest(errand: &Errand, digest: &Digest, note: Note) -> Result<Response<Body>, Refusal> {
    let journal = errand.begin(JournalStep::DeleteManifest { digest: digest.clone() }).await?;
    let answer = errand.send(errand.call()).await?;
    let status = answer.head.status;
    if !status.is_success() && status != StatusCode::NOT_FOUND {
        if status.is_client_error() {
            journal.finish(errand).await?;
        }
        return Err(refusal(errand, answer).await);
    }
    // What the upstream does not have (any more) is not kept in the record either.
    let (project, repository, forgotten) = (errand.project.id.clone(), errand.repository.clone(), digest.clone());
    let store = &errand.visit.worker.app.store;
    let now = Timestamp::now();
    let record = errand.seal(note);
    let audited = record.clone();
    let forget = move |store: Arc<dyn Store>| async move {
        store.audited(audited).remove_manifest(&project, &repository, &forgotten, now).await
    };
    let removed = store.run(forget).await?;
    store.forget_links();
    if status.is_success() && removed == Removed::default() {
        note_anyway(errand, record).await?;
    }
    journal.finish(errand).await?;
    if status == StatusCode::NOT_FOUND {
        return Err(refusal(errand, answer).await);
    }
    answer.whole().await?;
    Ok(reclaimed(removed.reclaimed))
}

/// DELETE of a blob: the repository does not hold it any more.
pub async fn blob(errand: &Errand, digest: &Digest) -> Result<Response<Body>, Refusal> {
    let visit = &errand.visit;
    let store = &visit.worker.app.store;
    let standing = store.standing(&errand.project.id, &errand.repository, digest).await?;
    let is_seen = match standing {
        Standing::Held { .. } => true,
        Standing::Uncharged => false,
        Standing::Unknown => visit.settings.config.upstream.isolation == Isolation::Repository,
    };
    if !is_seen {
        return Err(plain(ErrorCode::BlobUnknown, format!("{} has no such blob", errand.repository)));
    }
    let journal = errand.begin(JournalStep::DeleteBlob { digest: digest.clone() }).await?;
    let answer = errand.send(errand.call()).await?;
    let status = answer.head.status;
    if !status.is_success() {
        if status.is_client_error() {
            journal.finish(errand).await?;
        }
        return Err(refusal(errand, answer).await);
    }
    answer.whole().await?;
    let record = errand.seal(errand.note(Kind::BlobDelete).digest(digest.as_str()));
    let bytes = store.remove_link(&errand.project.id, &errand.repository, digest, record.clone()).await?;
    if !matches!(standing, Standing::Held { .. }) {
        note_anyway(errand, record).await?;
    }
    journal.finish(errand).await?;
    Ok(reclaimed(bytes))
}

/// A step that is journalled, and somebody at work at it.
struct Journalled {
    id: Box<str>,
    _at_work: AtWork,
}

impl Errand {
    async fn begin(&self, step: JournalStep) -> Result<Journalled, Refusal> {
        let app = &self.visit.worker.app;
        let entry = JournalEntry {
            id: operation_id(),
            project: self.project.id.clone(),
            repository: self.repository.clone(),
            step,
            actor: self.granted.caller().actor(),
            started_at: self.visit.now,
        };
        let journalled = Journalled { id: entry.id.clone(), _at_work: app.holds.at_work(&entry.id) };
        app.store.run(|store| async move { store.begin(&entry).await }).await?;
        Ok(journalled)
    }
}

impl Journalled {
    async fn finish(self, errand: &Errand) -> Result<(), Refusal> {
        let id = self.id.clone();
        Ok(errand.visit.worker.app.store.run(|store| async move { store.finish(&id).await }).await?)
    }
}

/// Done, and how many bytes the project gets back.
fn reclaimed(bytes: u64) -> Response<Body> {
    let mut response = accepted();
    response.headers_mut().insert(RECLAIMED, HeaderValue::from(bytes));
    response
}

/// DELETE of one tag. Its siblings stay: where the upstream only deletes by digest, a throw-away takes the tag first.
pub async fn tag(errand: &Errand, tag: &Tag, locks: Option<TagLocks>) -> Result<Response<Body>, Refusal> {
    let locks = errand.lock(locks, vec![tag.clone()]).await?;
    let result = delete_tag(errand, tag).await;
    locks.release().await;
    result
}

async fn delete_tag(errand: &Errand, tag: &Tag) -> Result<Response<Body>, Refusal> {
    if !exists(errand, tag).await? {
        // A deletion that a crash cut off may have left it on record.
        let record = errand.seal(errand.note(Kind::TagDelete).reference(tag.as_str()));
        forget_tag(errand, tag, record).await?;
        return Err(unknown_manifest(&errand.repository, &Reference::Tag(tag.clone())).into());
    }
    let answer = errand.send(errand.call()).await?;
    match answer.head.status {
        status if status.is_success() => {
            answer.whole().await?;
        }
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => {
            answer.whole().await?;
            replace_and_delete(errand, tag).await?;
        }
        _ => return Err(refusal(errand, answer).await),
    }
    let record = errand.seal(errand.note(Kind::TagDelete).reference(tag.as_str()));
    if !forget_tag(errand, tag, record.clone()).await? {
        note_anyway(errand, record).await?;
    }
    Ok(accepted())
}

/// Whether the tag is there, and is not a throw-away that a crash left behind.
async fn exists(errand: &Errand, tag: &Tag) -> Result<bool, Refusal> {
    let reference = Reference::Tag(tag.clone());
    let operation = Operation::ManifestPull { repository: errand.repository.clone(), reference };
    let call = errand.call_to(Method::GET, operation.path_and_query(&errand.upstream_name));
    let answer = errand.send(call.header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT))).await?;
    match answer.head.status {
        StatusCode::OK => {
            let (_, bytes) = answer.whole().await?;
            Ok(!errand.visit.worker.app.throwaways.is_ours(&bytes))
        }
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(refusal(errand, answer).await),
    }
}

/// Both steps are journalled beforehand; what a crash cuts off the sweeper finishes.
async fn replace_and_delete(errand: &Errand, tag: &Tag) -> Result<(), Refusal> {
    let app = &errand.visit.worker.app;
    let throwaway = app.throwaways.make();
    let journal =
        errand.begin(JournalStep::DeleteTag { tag: tag.clone(), throwaway: throwaway.digest.clone() }).await?;
    let put = errand.send(put_throwaway(errand, tag, &throwaway)).await?;
    if put.head.status != StatusCode::CREATED {
        let is_refused = put.head.status.is_client_error();
        let refused = refusal(errand, put).await;
        // What else went wrong, the sweeper finds out: the throw-away may be there.
        if is_refused {
            journal.finish(errand).await?;
        }
        return Err(refused);
    }
    put.whole().await?;
    let by_digest = Operation::ManifestDelete { repository: errand.repository.clone(), digest: throwaway.digest };
    let deleted = errand.send(errand.call_to(Method::DELETE, by_digest.path_and_query(&errand.upstream_name))).await?;
    if !deleted.head.status.is_success() {
        return Err(refusal(errand, deleted).await);
    }
    deleted.whole().await?;
    journal.finish(errand).await
}

fn put_throwaway(errand: &Errand, tag: &Tag, throwaway: &Throwaway) -> Call {
    let reference = Reference::Tag(tag.clone());
    let operation = Operation::ManifestPush { repository: errand.repository.clone(), reference, tags: Vec::new() };
    errand
        .call_to(Method::PUT, operation.path_and_query(&errand.upstream_name))
        .header(header::CONTENT_TYPE, HeaderValue::from_static(Throwaways::MEDIA_TYPE))
        .body(RequestBody::Full(throwaway.bytes.clone().into()))
}

/// Whether it was on record: what was not leaves none of its deletion.
async fn forget_tag(errand: &Errand, tag: &Tag, record: Entry) -> Result<bool, Refusal> {
    let (project, repository, tag) = (errand.project.id.clone(), errand.repository.clone(), tag.clone());
    let store = &errand.visit.worker.app.store;
    let forget =
        move |store: Arc<dyn Store>| async move { store.audited(record).remove_tag(&project, &repository, &tag).await };
    Ok(store.run(forget).await?.is_some())
}

/// Writes down what the upstream deleted and the store did not know of. A record that is there already stays one.
async fn note_anyway(errand: &Errand, record: Entry) -> Result<(), Refusal> {
    let store = &errand.visit.worker.app.store;
    Ok(store.run(|store| async move { store.add_records(&[record]).await }).await?)
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

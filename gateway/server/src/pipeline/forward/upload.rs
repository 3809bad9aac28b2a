//! Blobs on their way in. Locations are ours: the upstream's is sealed into them.

use super::Errand;
use super::mapping::{head, refusal};
use crate::body::Body;
use crate::pipeline;
use crate::pipeline::inspect::Payload;
use crate::pipeline::respond::{self, Refusal};
use crate::quota::{Counted, Hold, abandon, operation_id, soft_warning};
use crate::upload_location::{self, Session};
use crate::upstream::{Answer, Call, RequestBody, UpstreamError};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use portcullis_oci::route::UploadStart;
use portcullis_oci::{Digest, ErrorCode, Operation, ProtocolError, RepositoryName};
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::ledger::{Charge, StoredBlob, Upload};
use portcullis_tenancy::quota::Admission;
use portcullis_tenancy::{Store, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long to wait before looking again for a blob that was just stored.
const SECOND_LOOKS: [Duration; 3] = [Duration::from_millis(30), Duration::from_millis(150), Duration::from_millis(600)];

/// POST: an empty session, a whole blob, or a mount.
pub async fn start(errand: &Errand, start: &UploadStart, payload: Payload) -> Result<Response<Body>, Refusal> {
    match (start, errand.granted.mount_source()) {
        (UploadStart::Session, _) | (UploadStart::Mount { .. }, None) => open(errand).await,
        (UploadStart::Monolithic(digest), _) => monolithic(errand, digest, payload).await,
        (UploadStart::Mount { digest, from: Some(from) }, Some(source)) if errand.room.is_some() => {
            let from = RepositoryName::parse(&source.upstream_name(from))
                .map_err(|error| Refusal::Internal(error.to_string()))?;
            mount(errand, digest, from).await
        }
        (UploadStart::Mount { .. }, Some(_)) => open(errand).await,
    }
}

/// An empty session.
async fn open(errand: &Errand) -> Result<Response<Body>, Refusal> {
    let operation = Operation::UploadStart { repository: errand.repository.clone(), start: UploadStart::Session };
    let answer = errand.send(errand.call_to(Method::POST, operation.path_and_query(&errand.upstream_name))).await?;
    let (session, headers) = opened(errand, answer).await?;
    Ok(accepted(errand, StatusCode::ACCEPTED, &headers, &session))
}

/// All bytes in the POST itself. Upstreams differ in whether they know it (Distribution opens a session and ignores the
/// bytes), so it is always a session and its end.
async fn monolithic(errand: &Errand, digest: &Digest, payload: Payload) -> Result<Response<Body>, Refusal> {
    let operation = Operation::UploadStart { repository: errand.repository.clone(), start: UploadStart::Session };
    let answer = errand.send(errand.call_to(Method::POST, operation.path_and_query(&errand.upstream_name))).await?;
    let (session, _) = opened(errand, answer).await?;
    end(errand, &session, digest, payload).await
}

async fn mount(errand: &Errand, digest: &Digest, from: RepositoryName) -> Result<Response<Body>, Refusal> {
    let source_scope = format!("repository:{from}:pull");
    let start = UploadStart::Mount { digest: digest.clone(), from: Some(from) };
    let operation = Operation::UploadStart { repository: errand.repository.clone(), start };
    let mut call = errand.call_to(Method::POST, operation.path_and_query(&errand.upstream_name));
    call.scope = format!("{} {source_scope}", call.scope);
    let answer = errand.send(call).await?;
    if answer.head.status != StatusCode::CREATED {
        errand.hold()?.release().await;
        let (session, headers) = opened(errand, answer).await?;
        return Ok(accepted(errand, StatusCode::ACCEPTED, &headers, &session));
    }
    answer.whole().await?;
    stored(errand, digest).await
}

/// What the upstream opened, written down before the client hears of it.
async fn opened(errand: &Errand, answer: Answer) -> Result<(Session, HeaderMap), Refusal> {
    if answer.head.status != StatusCode::ACCEPTED {
        return Err(refusal(errand, answer).await);
    }
    let upstream = upstream_location(errand, &answer)?;
    let (parts, _) = answer.whole().await?;
    let visit = &errand.visit;
    let robot =
        errand.granted.caller().robot().ok_or_else(|| Refusal::Internal("an upload without a robot".to_owned()))?;
    let grace = visit.settings.config.tokens.upload_grace;
    // A whole blob's reservation has its upload's id.
    let id = match errand.granted.operation() {
        Operation::UploadStart { start: UploadStart::Monolithic(_), .. } => errand.hold()?.id().into(),
        _ => operation_id(),
    };
    let upload = Upload {
        id,
        project: errand.project.id.clone(),
        repository: errand.repository.clone(),
        robot: robot.id.clone(),
        started_at: visit.now,
        expires_at: visit.now.checked_add(grace).map_err(|error| Refusal::Internal(error.to_string()))?,
        upstream: Some(upstream.clone()),
    };
    let session = Session {
        upload: upload.id.clone(),
        project: upload.project.0.clone(),
        repository: upload.repository.as_str().into(),
        robot: upload.robot.0.clone(),
        offset: 0,
        upstream,
    };
    visit.worker.app.store.run(|store| async move { store.open_upload(&upload).await }).await?;
    Ok((session, parts.headers))
}

/// PATCH: a chunk, with or without a length.
pub async fn chunk(errand: &Errand, payload: Payload) -> Result<Response<Body>, Refusal> {
    let session = session(errand)?;
    let headers = &errand.visit.head.headers;
    let mut call = errand.call_to(Method::PATCH, session.upstream.to_string());
    for name in [header::CONTENT_RANGE, header::CONTENT_LENGTH] {
        if let Some(value) = headers.get(&name) {
            call.headers.insert(name, value.clone());
        }
    }
    let sent = errand.send(with_blob(call, payload, errand.hold()?)).await;
    let taken = errand.visit.body.as_ref().map_or(0, |body| body.bytes());
    let answer = match sent {
        Ok(answer) if matches!(answer.head.status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) => answer,
        Ok(answer) => {
            errand.hold()?.keep(taken).await;
            return Err(refusal(errand, answer).await);
        }
        Err(error) => return Err(interrupted(errand, session, taken, error).await),
    };
    // Where nobody knew the length, more room may have been had than was needed.
    if !errand.hold()?.is_exact() {
        errand.hold()?.keep(taken).await;
    }
    let session = Session { offset: session.offset.saturating_add(taken), ..session.clone() };
    went_on(errand, session, answer, StatusCode::ACCEPTED).await
}

/// A request broke off. Where that was for want of room, the upload is given up; else its client may come back to it, also where
/// nobody could tell whether there is room.
async fn interrupted(errand: &Errand, session: &Session, taken: u64, error: Refusal) -> Refusal {
    let hold = match errand.hold() {
        Ok(hold) => hold,
        Err(error) => return error,
    };
    let refusal = hold.refusal();
    if hold.is_short() {
        errand.give_up(session).await;
    } else {
        hold.keep(taken).await;
    }
    refusal.unwrap_or(error)
}

/// GET: how far it has got.
pub async fn status(errand: &Errand) -> Result<Response<Body>, Refusal> {
    let session = session(errand)?;
    let answer = errand.send(errand.call_to(Method::GET, session.upstream.to_string())).await?;
    if !answer.head.status.is_success() {
        return Err(refusal(errand, answer).await);
    }
    // `0-0` is an upload of one byte, or of none.
    let told =
        answer.head.headers.get(header::RANGE).and_then(upload_location::first_and_last).map_or(0, |(_, last)| last);
    let offset = if told == 0 { session.offset.min(1) } else { told.saturating_add(1) };
    went_on(errand, Session { offset, ..session.clone() }, answer, StatusCode::NO_CONTENT).await
}

/// DELETE: give it up.
pub async fn cancel(errand: &Errand) -> Result<Response<Body>, Refusal> {
    let session = session(errand)?;
    let answer = errand.send(errand.call_to(Method::DELETE, session.upstream.to_string())).await?;
    if !answer.head.status.is_success() && answer.head.status != StatusCode::NOT_FOUND {
        return Err(refusal(errand, answer).await);
    }
    answer.whole().await?;
    close(errand, session).await?;
    errand.hold()?.forget_lease();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// PUT: the last bytes and the digest.
pub async fn finish(errand: &Errand, digest: &Digest, payload: Payload) -> Result<Response<Body>, Refusal> {
    end(errand, session(errand)?, digest, payload).await
}

async fn end(errand: &Errand, session: &Session, digest: &Digest, payload: Payload) -> Result<Response<Body>, Refusal> {
    let separator = if session.upstream.contains('?') { '&' } else { '?' };
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("digest", digest.as_str()).finish();
    let mut call = errand.call_to(Method::PUT, format!("{}{separator}{query}", session.upstream));
    if let Some(value) = errand.visit.head.headers.get(header::CONTENT_RANGE) {
        call.headers.insert(header::CONTENT_RANGE, value.clone());
    }
    let hold = errand.hold()?;
    let answer = match errand.send(with_blob(call, payload, hold)).await {
        Ok(answer) => answer,
        // What became of it is found out by the sweeper, where it was not broken off here.
        Err(error) => {
            let Some(refusal) = hold.refusal() else { return Err(error) };
            errand.give_up(session).await;
            hold.release().await;
            return Err(refusal);
        }
    };
    if answer.head.status != StatusCode::CREATED {
        // It is no blob, and its bytes take up storage. What a failure of the upstream came to, the sweeper finds out.
        if answer.head.status.is_client_error() {
            errand.give_up(session).await;
        }
        return Err(refusal(errand, answer).await);
    }
    answer.whole().await?;
    // The bytes may have taken long to come, and revocation beats the grace.
    if let Err(revoked) = pipeline::confirm(&errand.visit, &errand.granted).await {
        errand.disown(digest).await?;
        return Err(revoked);
    }
    stored(errand, digest).await
}

/// The upstream holds the blob: that is written down, with the size that the upstream states, before the client hears of it.
async fn stored(errand: &Errand, digest: &Digest) -> Result<Response<Body>, Refusal> {
    let blob = arrived(errand, digest).await?;
    let id: Box<str> = errand.hold()?.id().into();
    let note = errand.note(Kind::BlobPush).digest(digest.as_str());
    let record = errand.seal(note.clone());
    let charge = |store: Arc<dyn Store>| async move { store.audited(record).add_blob(&blob, Charge::By(&id)).await };
    let began = Instant::now();
    let charged = errand.visit.worker.app.store.run(charge).await?;
    errand.visit.worker.app.holds.metrics.took("commit", began);
    let account = match charged {
        Admission::Granted { account, .. } => {
            errand.hold()?.forget_lease();
            account
        }
        // It is more than was reserved: the upload was sent by two hands at once, or its reservation ran out.
        Admission::Refused(shortage) => {
            errand.disown(digest).await?;
            return Err(Refusal::Quota(shortage.message(errand.project.name.as_str(), "upload")));
        }
        // Which of the two came last at the upstream nobody knows here: the journal has it still, and the sweeper looks.
        Admission::Busy => {
            return Err(Refusal::unavailable("the blob is being taken away this moment; push it again"));
        }
    };
    errand.visit.worker.app.audit.soft_limit(&errand.project, &account, || note);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(header::LOCATION, value(&format!("/v2/{}/blobs/{digest}", errand.repository))?);
    response.headers_mut().insert(HeaderName::from_static("docker-content-digest"), value(digest.as_str())?);
    Ok(respond::with_warnings(response, soft_warning(&errand.project, &account).as_slice()))
}

/// A blob that the upstream has just taken.
async fn arrived(errand: &Errand, digest: &Digest) -> Result<StoredBlob, Refusal> {
    Ok(StoredBlob {
        project: errand.project.id.clone(),
        repository: errand.repository.clone(),
        digest: digest.clone(),
        size: stated_size(errand, digest).await?,
        at: Timestamp::now(),
    })
}

/// The size that the upstream states for a blob that it has just taken. It may lose sight of it for a moment while another
/// upload of the same blob ends: Distribution rewrites a repository's link in place.
async fn stated_size(errand: &Errand, digest: &Digest) -> Result<u64, Refusal> {
    let operation = Operation::BlobHead { repository: errand.repository.clone(), digest: digest.clone() };
    let path = operation.path_and_query(&errand.upstream_name);
    for pause in SECOND_LOOKS.map(Some).into_iter().chain([None]) {
        let answer = errand.send(errand.call_to(Method::HEAD, path.clone())).await?;
        let answer = errand.visit.worker.app.upstream.follow(answer, &Method::HEAD).await?;
        match (answer.head.status, answer.content_length(), pause) {
            (StatusCode::OK, Some(size), _) => return Ok(size),
            (StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR, _, Some(pause)) => sleep(pause).await,
            _ => break,
        }
    }
    Err(UpstreamError::Odd(format!("it took {digest} and does not have it")).into())
}

/// An upload goes on: a new upstream location, sealed as before.
async fn went_on(
    errand: &Errand,
    mut session: Session,
    answer: Answer,
    status: StatusCode,
) -> Result<Response<Body>, Refusal> {
    let has_moved = answer.head.headers.contains_key(header::LOCATION);
    if has_moved {
        session.upstream = upstream_location(errand, &answer)?;
    }
    let moved = has_moved.then(|| session.upstream.clone());
    match (&errand.room, moved) {
        (Some(room), moved) => room.hold.leave(moved).await?,
        (None, Some(upstream)) => {
            let (id, store) = (session.upload.clone(), &errand.visit.worker.app.store);
            store.run(|store| async move { store.move_upload(&id, &upstream).await }).await?;
        }
        (None, None) => {}
    }
    let (parts, _) = answer.whole().await?;
    Ok(accepted(errand, status, &parts.headers, &session))
}

fn accepted(errand: &Errand, status: StatusCode, headers: &HeaderMap, session: &Session) -> Response<Body> {
    let mut response = head(errand, status, headers, Body::empty());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().remove(header::CONTENT_TYPE);
    let location = errand.visit.worker.app.locations.location(session);
    response
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::try_from(location).expect("base64 and a name are a header value"));
    response
}

/// The upstream's location: at its own origin, below this very repository, and nothing else.
fn upstream_location(errand: &Errand, answer: &Answer) -> Result<Box<str>, Refusal> {
    let prefix = format!("/v2/{}/blobs/uploads/", errand.upstream_name);
    let location = answer.head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
    location
        .filter(|uri| errand.visit.worker.app.upstream.is_own(uri))
        .filter(|uri| {
            uri.path().strip_prefix(&prefix).is_some_and(|session| !session.is_empty() && !session.contains('/'))
        })
        .and_then(|uri| uri.path_and_query().map(|path| path.as_str().into()))
        .ok_or_else(|| {
            UpstreamError::Odd("its upload location is not at upstream.url, below the repository".to_owned()).into()
        })
}

fn session(errand: &Errand) -> Result<&Session, Refusal> {
    errand
        .granted
        .session()
        .ok_or_else(|| ProtocolError::new(ErrorCode::BlobUploadUnknown, "there is no such upload").into())
}

fn with_blob(call: Call, payload: Payload, hold: &Arc<Hold>) -> Call {
    let call = call.header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    match payload {
        Payload::Blob(body) if hold.is_exact() => call.body(RequestBody::Client(body)),
        Payload::Blob(body) => call.body(RequestBody::Counted(Counted::new(body, Arc::clone(hold)))),
        _ => call,
    }
}

async fn close(errand: &Errand, session: &Session) -> Result<(), Refusal> {
    let id = session.upload.clone();
    Ok(errand.visit.worker.app.store.run(|store| async move { store.close_upload(&id).await }).await?)
}

impl Errand {
    /// Gives an upload up, upstream and on record.
    async fn give_up(&self, session: &Session) {
        if abandon(&self.visit.worker, &self.project, &self.repository, session).await
            && let Ok(hold) = self.hold()
        {
            hold.forget_lease();
        }
    }

    /// The upstream took a blob that may not stay: nobody is served it, and it goes like any other that is not charged.
    async fn disown(&self, digest: &Digest) -> Result<(), Refusal> {
        let (blob, id): (_, Box<str>) = (arrived(self, digest).await?, self.hold()?.id().into());
        let store = &self.visit.worker.app.store;
        store.run(|store| async move { store.disown(&blob, &id).await }).await?;
        self.hold()?.forget_lease();
        Ok(())
    }
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|error| Refusal::Internal(error.to_string()))
}

//! Manifests and blobs on their way out.

use super::Errand;
use super::mapping::{head, plain, refusal};
use crate::body::Body;
use crate::config::Isolation;
use crate::pipeline::respond::{Refusal, unknown_manifest};
use crate::pipeline::screen::Seen;
use crate::throwaway::Throwaways;
use crate::upstream::{Answer, Call, Resolved, UpstreamError};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use portcullis_oci::digest::Verifier;
use portcullis_oci::manifest::media_type;
use portcullis_oci::{Digest, ErrorCode, Operation, Reference};
use portcullis_tenancy::ledger::Standing;
use portcullis_tenancy::{Store, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// What of a manifest pull's headers goes upstream.
const CONDITIONS: [HeaderName; 2] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];
/// What of a blob pull's. A manifest is served whole or not at all: a part of one cannot be looked at.
const CONDITIONS_AND_RANGES: [HeaderName; 4] =
    [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::RANGE, header::IF_RANGE];

/// Most bytes of a small answer.
const SMALL: u64 = 64 * 1024;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// GET or HEAD of a blob.
pub async fn blob(errand: &Errand, method: &Method, digest: &Digest) -> Result<Response<Body>, Refusal> {
    let visit = &errand.visit;
    let app = &visit.worker.app;
    match app.store.standing(&errand.project.id, &errand.repository, digest).await? {
        Standing::Held { orphan_since: None } => {}
        Standing::Held { orphan_since: Some(since) } => renew_orphan(errand, digest, since),
        // From before the gateway, where the upstream keeps repositories apart by itself.
        Standing::Unknown if visit.settings.config.upstream.isolation == Isolation::Repository => {}
        // What is not charged is not served, though the upstream would.
        Standing::Unknown | Standing::Uncharged => {
            return Err(plain(ErrorCode::BlobUnknown, format!("{} has no such blob", errand.repository)));
        }
    }
    let headers = passed_up(&visit.head.headers, &CONDITIONS_AND_RANGES);
    let mut call = errand.call();
    call.headers = headers.clone();
    let answer = errand.send(call).await?;
    let answer = match app.upstream.resolve(answer, method, &headers).await? {
        Resolved::Answer(answer) => answer,
        Resolved::Elsewhere(location) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(header::LOCATION, location);
            return Ok(response);
        }
    };
    match answer.head.status {
        StatusCode::OK => deliver(errand, answer, (*method == Method::GET).then_some(digest)).await,
        StatusCode::PARTIAL_CONTENT if headers.contains_key(header::RANGE) => deliver(errand, answer, None).await,
        StatusCode::NOT_MODIFIED if has_condition(&headers) => deliver(errand, answer, None).await,
        StatusCode::RANGE_NOT_SATISFIABLE => Err(Refusal::Range { length: whole_length(&answer) }),
        _ => Err(refusal(errand, answer).await),
    }
}

/// A client that looks for a blob means to name it in a manifest soon: its wait begins anew, in the background.
fn renew_orphan(errand: &Errand, digest: &Digest, since: Timestamp) {
    let now = Timestamp::now();
    let grace = errand.visit.settings.config.quota.orphan_grace;
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    // A part of the grace is enough: this is asked by every look.
    if waited.saturating_mul(8) < grace {
        return;
    }
    let (store, project, digest) =
        (Arc::clone(&errand.visit.worker.app.store), errand.project.id.clone(), digest.clone());
    tokio::spawn(async move {
        let renew = move |store: Arc<dyn Store>| async move { store.renew_orphan(&project, &digest, now).await };
        if let Err(error) = store.run(renew).await {
            tracing::warn!(%error, "a blob's wait for a manifest was not begun anew");
        }
        store.forget_links();
    });
}

/// GET or HEAD of a manifest. What policies have seen is what is sent, wherever its tag points meanwhile.
pub async fn manifest(
    errand: &Errand,
    method: &Method,
    reference: &Reference,
    seen: Option<Seen>,
) -> Result<Response<Body>, Refusal> {
    let conditions = passed_up(&errand.visit.head.headers, &CONDITIONS);
    let may_be_unmodified = has_condition(&conditions);
    let judged = seen.as_ref().map(|seen| Reference::Digest(seen.digest.clone()));
    let reference = judged.as_ref().unwrap_or(reference);
    let mut call = match seen {
        None => errand.call(),
        Some(seen) if !may_be_unmodified => {
            check_schema(errand, reference, &seen.head)?;
            let body = if *method == Method::HEAD { Body::empty() } else { Body::full(seen.bytes) };
            return Ok(head(errand, seen.head.status, &seen.head.headers, body));
        }
        Some(seen) => {
            let by_digest = Operation::ManifestPull {
                repository: errand.repository.clone(),
                reference: Reference::Digest(seen.digest),
            };
            errand.call_to(method.clone(), by_digest.path_and_query(&errand.upstream_name))
        }
    };
    call.headers = conditions;
    call.headers.insert(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
    let answer = errand.send(call).await?;
    match answer.head.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if may_be_unmodified => {}
        _ => return Err(refusal(errand, answer).await),
    }
    check_schema(errand, reference, &answer.head)?;
    if let Reference::Digest(digest) = reference
        && errand.visit.worker.app.store.is_blob_alone(&errand.project.id, &errand.repository, digest).await?
    {
        return Err(unknown_manifest(&errand.repository, reference).into());
    }
    let media_type = answer.head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if Throwaways::could_be(media_type, answer.content_length()) {
        return look_closely(errand, method, reference, answer).await;
    }
    let expected = expected(reference, &answer)?;
    let is_whole = answer.head.status == StatusCode::OK && *method == Method::GET;
    deliver(errand, answer, expected.as_ref().filter(|_| is_whole)).await
}

fn check_schema(errand: &Errand, reference: &Reference, head: &Parts) -> Result<(), Refusal> {
    const SCHEMA_1: &[u8] = b"application/vnd.docker.distribution.manifest.v1";
    if head.headers.get(header::CONTENT_TYPE).is_none_or(|media_type| !media_type.as_bytes().starts_with(SCHEMA_1)) {
        return Ok(());
    }
    let message = format!(
        "{} {reference} is a schema 1 manifest, which is not served any more; push the image again",
        errand.repository
    );
    Err(plain(ErrorCode::ManifestUnknown, message))
}

/// An index of the very size of a throw-away: it is read whole, and is not there if it is one. To HEAD, head and bytes are
/// those of one and the same answer to GET: the tag may stand on something else a moment later.
async fn look_closely(
    errand: &Errand,
    method: &Method,
    reference: &Reference,
    answer: Answer,
) -> Result<Response<Body>, Refusal> {
    let answer = if *method == Method::HEAD {
        let pull = Operation::ManifestPull { repository: errand.repository.clone(), reference: reference.clone() };
        let call: Call = errand.call_to(Method::GET, pull.path_and_query(&errand.upstream_name));
        errand.send(call.header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT))).await?
    } else {
        answer
    };
    if answer.head.status != StatusCode::OK {
        return Err(refusal(errand, answer).await);
    }
    let mut verifier = expected(reference, &answer)?.as_ref().and_then(Digest::verifier);
    let (parts, bytes) = answer.whole().await?;
    if let Some(verifier) = &mut verifier {
        verifier.update(&bytes);
    }
    if !verifier.is_none_or(Verifier::matches) {
        return Err(UpstreamError::Odd(format!("its bytes for {reference} do not have their digest")).into());
    }
    if errand.visit.worker.app.throwaways.is_ours(&bytes) {
        return Err(unknown_manifest(&errand.repository, reference).into());
    }
    let body = if *method == Method::HEAD { Body::empty() } else { Body::full(bytes) };
    Ok(head(errand, parts.status, &parts.headers, body))
}

/// The digest that a manifest's bytes must have: the one that was asked for, or the one that goes with the tag's answer.
fn expected(reference: &Reference, answer: &Answer) -> Result<Option<Digest>, UpstreamError> {
    match (reference, answer.head.headers.get(DOCKER_CONTENT_DIGEST)) {
        (Reference::Digest(asked), Some(told)) if asked.as_str().as_bytes() != told.as_bytes() => {
            Err(UpstreamError::Odd(format!("it answered {told:?} to a pull of {asked}")))
        }
        (Reference::Digest(asked), _) => Ok(Some(asked.clone())),
        (Reference::Tag(_), told) => {
            Ok(told.and_then(|told| told.to_str().ok()).and_then(|told| Digest::parse(told).ok()))
        }
    }
}

/// Sends an answer on. A small one is read whole before: head and bytes then leave in one piece, and wrong bytes get no head.
async fn deliver(errand: &Errand, answer: Answer, expected: Option<&Digest>) -> Result<Response<Body>, Refusal> {
    let verifier: Option<Verifier> = expected.and_then(Digest::verifier);
    let Answer { head: parts, body } = answer;
    let relay = body.verified(verifier)?;
    let body = match relay.size_hint().exact() {
        Some(1..=SMALL) => Body::full(relay.collect().await.map_err(UpstreamError::broken)?.to_bytes()),
        _ => Body::relay(relay),
    };
    Ok(head(errand, parts.status, &parts.headers, body))
}

/// The length in `Content-Range: bytes */<length>`.
fn whole_length(answer: &Answer) -> Option<u64> {
    answer.head.headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?.parse().ok()
}

fn passed_up(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in names {
        if let Some(value) = headers.get(name) {
            passed.insert(name.clone(), value.clone());
        }
    }
    passed
}

fn has_condition(headers: &HeaderMap) -> bool {
    CONDITIONS.iter().any(|name| headers.contains_key(name))
}

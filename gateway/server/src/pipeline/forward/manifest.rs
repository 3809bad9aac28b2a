//! Manifests on their way in: put upstream under the lock of their tags, written down, then answered.

use super::Errand;
use super::mapping::{refusal, warnings};
use crate::body::Body;
use crate::pipeline::respond::{self, Refusal};
use crate::quota::soft_warning;
use crate::tag_lock::TagLocks;
use crate::upstream::{RequestBody, UpstreamError};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use portcullis_oci::manifest::Manifest;
use portcullis_oci::{Operation, Reference, Tag};
use portcullis_tenancy::Store;
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::ledger::{Charge, PushedManifest};
use portcullis_tenancy::quota::Admission;
use std::sync::Arc;
use std::time::Instant;

/// PUT, under a reference and any further tags.
pub async fn push(
    errand: &Errand,
    reference: &Reference,
    tags: &[Tag],
    bytes: Bytes,
    manifest: Manifest,
    locks: Option<TagLocks>,
) -> Result<Response<Body>, Refusal> {
    let locks = errand.lock(locks, tags.to_vec()).await?;
    let result = put_and_record(errand, reference, tags, bytes, manifest).await;
    match &result {
        Ok(_) => locks.end().await,
        Err(_) => locks.release().await,
    }
    result
}

async fn put_and_record(
    errand: &Errand,
    reference: &Reference,
    tags: &[Tag],
    bytes: Bytes,
    manifest: Manifest,
) -> Result<Response<Body>, Refusal> {
    let hold = errand.hold()?;
    let mut headers = match put(errand, reference, &bytes, &manifest).await {
        Ok(headers) => headers,
        // What the upstream refused is not there; what else went wrong, the sweeper finds out.
        Err(refusal @ Refusal::Protocol(_)) => {
            hold.release().await;
            return Err(refusal);
        }
        Err(other) => return Err(other),
    };
    for tag in tags {
        let by_tag = Reference::Tag(tag.clone());
        if by_tag != *reference {
            put(errand, &by_tag, &bytes, &manifest).await?;
            headers.append(HeaderName::from_static("oci-tag"), value(tag.as_str())?);
        }
    }
    headers.insert(header::LOCATION, value(&format!("/v2/{}/manifests/{}", errand.repository, manifest.digest))?);
    headers.insert(HeaderName::from_static("docker-content-digest"), value(manifest.digest.as_str())?);
    if let Some(subject) = &manifest.subject {
        // Supplied where the upstream does not know it: without it clients also push the fallback tag.
        headers.insert(HeaderName::from_static("oci-subject"), value(subject.digest.as_str())?);
    }
    let pushed = PushedManifest {
        project: errand.project.id.clone(),
        repository: errand.repository.clone(),
        manifest,
        tags: tags.to_vec(),
        pushed_at: errand.visit.now,
        pushed_by: errand.granted.caller().actor(),
    };
    let tagged = tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(" ");
    let mut note = errand.note(Kind::Push).digest(pushed.manifest.digest.as_str());
    if !tagged.is_empty() {
        note = note.reference(&tagged);
    }
    let record = errand.seal(note.clone());
    let (id, sizes): (Box<str>, _) = (hold.id().into(), errand.room.as_ref().map(|room| room.sizes.clone()));
    let charge = |store: Arc<dyn Store>| async move {
        store.audited(record).add_manifest(&pushed, &sizes.unwrap_or_default(), Charge::By(&id)).await
    };
    let began = Instant::now();
    let charged = errand.visit.worker.app.store.run(charge).await?;
    errand.visit.worker.app.holds.metrics.took("commit", began);
    let account = match charged {
        Admission::Granted { account, .. } => account,
        // Its reservation ran out meanwhile. It is upstream, and in the journal: the sweeper counts it.
        Admission::Refused(_) | Admission::Busy => {
            return Err(Refusal::unavailable("the push took too long to be recorded; push it again"));
        }
    };
    errand.visit.worker.app.audit.soft_limit(&errand.project, &account, || note);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    *response.headers_mut() = headers;
    Ok(respond::with_warnings(response, soft_warning(&errand.project, &account).as_slice()))
}

/// One PUT upstream; the digest that it states must be the one that was computed here.
async fn put(errand: &Errand, reference: &Reference, bytes: &Bytes, manifest: &Manifest) -> Result<HeaderMap, Refusal> {
    let operation = Operation::ManifestPush {
        repository: errand.repository.clone(),
        reference: reference.clone(),
        tags: Vec::new(),
    };
    let call = errand
        .call_to(Method::PUT, operation.path_and_query(&errand.upstream_name))
        .header(header::CONTENT_TYPE, value(&manifest.media_type)?)
        .body(RequestBody::Full(bytes.clone()));
    let answer = errand.send(call).await?;
    if answer.head.status != StatusCode::CREATED {
        return Err(refusal(errand, answer).await);
    }
    let (parts, _) = answer.whole().await?;
    let stated = parts.headers.get("docker-content-digest").map(HeaderValue::as_bytes);
    if stated.is_some_and(|stated| stated != manifest.digest.as_str().as_bytes()) {
        return Err(UpstreamError::Odd(format!("it stores {} as {stated:?}", manifest.digest)).into());
    }
    let mut headers = HeaderMap::new();
    for warning in warnings(errand, &parts.headers) {
        headers.append(header::WARNING, warning);
    }
    Ok(headers)
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|error| Refusal::Internal(error.to_string()))
}

//! `referrers`: the upstream's where it has them, else from the record and the fallback tag (OCI Distribution
//! Specification 1.1, "Listing Referrers" and "Referrers Tag Schema").

use super::Errand;
use super::mapping::refusal;
use crate::body::Body;
use crate::pipeline::respond::Refusal;
use crate::upstream::UpstreamError;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use portcullis_oci::manifest::media_type::{self, OCI_INDEX};
use portcullis_oci::{Digest, Operation, Reference, Tag};
use portcullis_tenancy::ledger::RecordedManifest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Theirs {
    #[serde(default)]
    manifests: Vec<Value>,
}

/// GET: never 404.
pub async fn referrers(
    errand: &Errand,
    digest: &Digest,
    artifact_type: Option<&str>,
) -> Result<Response<Body>, Refusal> {
    let answer = errand.send(errand.call()).await?;
    let mut entries = match answer.head.status {
        StatusCode::OK => entries(&answer.whole().await?.1)?,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => {
            answer.whole().await?;
            supplied(errand, digest).await?
        }
        _ => return Err(refusal(errand, answer).await),
    };
    if let Some(wanted) = artifact_type {
        entries.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
    }
    let index = Index { schema_version: 2, media_type: OCI_INDEX, manifests: entries };
    let body = serde_json::to_vec(&index).map_err(|error| Refusal::Internal(error.to_string()))?;
    let mut response = Response::new(Body::full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        response
            .headers_mut()
            .insert(HeaderName::from_static("oci-filters-applied"), HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

/// From the record, and from the fallback index that a client may have kept before.
async fn supplied(errand: &Errand, digest: &Digest) -> Result<Vec<Entry>, Refusal> {
    let (project, repository, subject) = (errand.project.id.clone(), errand.repository.clone(), digest.clone());
    let store = &errand.visit.worker.app.store;
    let recorded = store.run(|store| async move { store.referrers(&project, &repository, &subject).await }).await?;
    let mut entries: Vec<Entry> = recorded.into_iter().map(Entry::from).collect();
    for entry in fallback(errand, digest).await? {
        if !entries.iter().any(|known| known.digest == entry.digest) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// The entries of the fallback tag `sha256-<hex>`, if it is a readable index.
async fn fallback(errand: &Errand, digest: &Digest) -> Result<Vec<Entry>, Refusal> {
    let text: String = format!("{}-{}", digest.algorithm(), digest.encoded()).chars().take(128).collect();
    let Ok(tag) = Tag::parse(&text) else { return Ok(Vec::new()) };
    let operation = Operation::ManifestPull { repository: errand.repository.clone(), reference: Reference::Tag(tag) };
    let call = errand
        .call_to(Method::GET, operation.path_and_query(&errand.upstream_name))
        .header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
    let answer = errand.send(call).await?;
    if answer.head.status != StatusCode::OK {
        return Ok(Vec::new());
    }
    Ok(entries(&answer.whole().await?.1).unwrap_or_default())
}

/// The valid entries of an index.
fn entries(index: &[u8]) -> Result<Vec<Entry>, UpstreamError> {
    let theirs: Theirs =
        serde_json::from_slice(index).map_err(|_| UpstreamError::Odd("its referrers are no index".to_owned()))?;
    Ok(theirs
        .manifests
        .into_iter()
        .filter_map(|entry| serde_json::from_value::<Entry>(entry).ok())
        .filter(|entry| Digest::parse(&entry.digest).is_ok())
        .collect())
}

impl From<RecordedManifest> for Entry {
    fn from(recorded: RecordedManifest) -> Self {
        Self {
            media_type: recorded.media_type,
            digest: recorded.digest.as_str().to_owned(),
            size: recorded.size,
            artifact_type: recorded.artifact_type,
            annotations: recorded.annotations.into_iter().collect(),
        }
    }
}

//! `referrers`: the upstream's where it has them, else from the record and the fallback tag (OCI Distribution
//! Specification 1.1, "Listing Referrers" and "Referrers Tag Schema").

use super::Errand;
use super::mapping::refusal;
use crate::body::Body;
use crate::pipeline::respond::Refusal;
use crate::upstream::{NextPage, UpstreamError};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use portcullis_oci::manifest::media_type::{self, OCI_INDEX};
use portcullis_oci::{Digest, Operation, Reference, Tag};
use portcullis_tenancy::ledger::RecordedManifest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of entries that one answer holds, nearly: annotations may be as large as a manifest.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// What an entry takes beside its texts, nearly: digest, size, the fields' names.
const FRAME: usize = 256;
/// Most pages of the upstream's that are read for one of ours.
const MAX_PAGES: usize = 100;
/// Recorded manifests that are read at once.
const BATCH: u32 = 8;

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

/// What is told at once: the entries that come first by their digests, after a position, within [`PAGE_BYTES`].
struct Page<'a> {
    after: Option<&'a Digest>,
    artifact_type: Option<&'a str>,
    entries: BTreeMap<Digest, Entry>,
    bytes: usize,
    /// Some had no room.
    is_cut: bool,
}

impl Page<'_> {
    /// Takes an entry, and gives up the last ones where there are more than have room. The first that is offered under a
    /// digest stays.
    fn offer(&mut self, entry: Entry) {
        let Ok(digest) = Digest::parse(&entry.digest) else { return };
        let is_wanted = self.artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted));
        if !is_wanted || self.after.is_some_and(|after| digest <= *after) || self.entries.contains_key(&digest) {
            return;
        }
        self.bytes = self.bytes.saturating_add(entry.weight());
        self.entries.insert(digest, entry);
        while self.bytes > PAGE_BYTES && self.entries.len() > 1 {
            let last = self.entries.pop_last();
            self.bytes = self.bytes.saturating_sub(last.map_or(0, |(_, entry)| entry.weight()));
            self.is_cut = true;
        }
    }
}

impl Entry {
    /// Bytes that it takes, nearly.
    fn weight(&self) -> usize {
        let texts = self.annotations.iter().flat_map(|(name, value)| [name, value]);
        let texts = texts.chain(&self.artifact_type).chain([&self.media_type]);
        texts.fold(FRAME, |bytes, text| bytes.saturating_add(text.len()).saturating_add(3))
    }
}

/// GET: never 404. What has no room is behind a `Link`, whose `last` is the position reached.
pub async fn referrers(
    errand: &Errand,
    digest: &Digest,
    artifact_type: Option<&str>,
    last: Option<&Digest>,
) -> Result<Response<Body>, Refusal> {
    let mut page = Page { after: last, artifact_type, entries: BTreeMap::new(), bytes: 0, is_cut: false };
    if !upstreams(errand, digest, &mut page).await? {
        recorded(errand, digest, &mut page).await?;
        fallback(errand, digest, &mut page).await?;
    }
    let reached = page.entries.last_key_value().filter(|_| page.is_cut).map(|(digest, _)| digest.clone());
    let index = Index { schema_version: 2, media_type: OCI_INDEX, manifests: page.entries.into_values().collect() };
    let body = serde_json::to_vec(&index).map_err(|error| Refusal::Internal(error.to_string()))?;
    let mut response = Response::new(Body::full(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        headers.insert(HeaderName::from_static("oci-filters-applied"), HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = reached {
        headers.insert(header::LINK, next_link(errand, digest, artifact_type, last)?);
    }
    Ok(response)
}

fn next_link(
    errand: &Errand,
    digest: &Digest,
    artifact_type: Option<&str>,
    last: Digest,
) -> Result<HeaderValue, Refusal> {
    let next = Operation::Referrers {
        repository: errand.repository.clone(),
        digest: digest.clone(),
        artifact_type: artifact_type.map(str::to_owned),
        last: Some(last),
    };
    let link = format!("<{}>; rel=\"next\"", next.path_and_query(errand.repository.as_str()));
    HeaderValue::try_from(link).map_err(|error| Refusal::Internal(error.to_string()))
}

/// The upstream's own list, all its pages; returns whether it has one.
async fn upstreams(errand: &Errand, digest: &Digest, page: &mut Page<'_>) -> Result<bool, Refusal> {
    let first = Operation::Referrers {
        repository: errand.repository.clone(),
        digest: digest.clone(),
        artifact_type: page.artifact_type.map(str::to_owned),
        last: None,
    };
    let mut path = first.path_and_query(&errand.upstream_name);
    for _ in 0..MAX_PAGES {
        let answer = errand.send(errand.call_to(Method::GET, path.clone())).await?;
        match answer.head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => {
                answer.whole().await?;
                return Ok(false);
            }
            _ => return Err(refusal(errand, answer).await),
        }
        let (head, body) = answer.whole().await?;
        entries(&body)?.into_iter().for_each(|entry| page.offer(entry));
        match errand.visit.worker.app.upstream.next_page(&head.headers, &path) {
            NextPage::At(next) => path = next,
            NextPage::None | NextPage::Elsewhere => return Ok(true),
        }
    }
    Err(UpstreamError::Odd(format!("its referrers have more than {MAX_PAGES} pages")).into())
}

/// What is on record.
async fn recorded(errand: &Errand, digest: &Digest, page: &mut Page<'_>) -> Result<(), Refusal> {
    let mut after = page.after.cloned();
    loop {
        let (project, repository, subject) = (errand.project.id.clone(), errand.repository.clone(), digest.clone());
        let store = &errand.visit.worker.app.store;
        let batch =
            store
                .run(move |store| async move {
                    store.referrers(&project, &repository, &subject, after.as_ref(), BATCH).await
                })
                .await?;
        let is_end = batch.len() < BATCH as usize;
        after = batch.last().map(|manifest| manifest.digest.clone());
        batch.into_iter().for_each(|manifest| page.offer(manifest.into()));
        // They come in their order: what follows has no room either.
        if is_end || page.is_cut {
            return Ok(());
        }
    }
}

/// The entries of the fallback tag `sha256-<hex>`, if it is a readable index: what a client may have kept before.
async fn fallback(errand: &Errand, digest: &Digest, page: &mut Page<'_>) -> Result<(), Refusal> {
    let text: String = format!("{}-{}", digest.algorithm(), digest.encoded()).chars().take(128).collect();
    let Ok(tag) = Tag::parse(&text) else { return Ok(()) };
    let operation = Operation::ManifestPull { repository: errand.repository.clone(), reference: Reference::Tag(tag) };
    let call = errand
        .call_to(Method::GET, operation.path_and_query(&errand.upstream_name))
        .header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
    let answer = errand.send(call).await?;
    if answer.head.status == StatusCode::OK {
        let index = answer.whole().await?.1;
        entries(&index).unwrap_or_default().into_iter().for_each(|entry| page.offer(entry));
    }
    Ok(())
}

/// The entries of an index that can be read.
fn entries(index: &[u8]) -> Result<Vec<Entry>, UpstreamError> {
    let theirs: Theirs =
        serde_json::from_slice(index).map_err(|_| UpstreamError::Odd("its referrers are no index".to_owned()))?;
    Ok(theirs.manifests.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
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

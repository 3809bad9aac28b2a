//! Content for commands: what lies upstream is listed, fetched with its digests checked, and put there.

use super::{MAX_PAGES, UpstreamAdmin};
use crate::upstream::{Call, MAX_WHOLE_BODY, NextPage, RequestBody, UpstreamError};
use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use portcullis_oci::digest::Verifier;
use portcullis_oci::manifest::media_type;
use portcullis_oci::{Digest, Reference, Tag};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl UpstreamAdmin {
    /// The names of the repositories under a prefix; none where the upstream has no catalog.
    pub async fn repositories(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let below = format!("{prefix}/");
        let names = self.catalog().await?.unwrap_or_default();
        Ok(names.into_iter().filter(|name| name.starts_with(&below)).collect())
    }

    /// The names of all repositories; none where the upstream has no catalog, or shows the gateway none.
    pub async fn catalog(&self) -> anyhow::Result<Option<Vec<String>>> {
        let pages = self.pages::<Catalog>("/v2/_catalog", "registry:catalog:*", StatusCode::is_client_error).await;
        let pages = match pages {
            Err(error) if matches!(error.downcast_ref(), Some(UpstreamError::Login)) => return Ok(None),
            pages => pages?,
        };
        Ok(pages.map(|pages| pages.into_iter().filter_map(|page| page.repositories).flatten().collect()))
    }

    /// The tags of a repository, by the upstream's name; none where it has no such repository.
    pub async fn tags(&self, repository: &str) -> anyhow::Result<Vec<Tag>> {
        let (list, scope) = (format!("/v2/{repository}/tags/list"), format!("repository:{repository}:pull"));
        let pages = self.pages::<Tags>(&list, &scope, |status| *status == StatusCode::NOT_FOUND).await?;
        let names = pages.unwrap_or_default().into_iter().filter_map(|page| page.tags).flatten();
        Ok(names.filter_map(|name| Tag::parse(&name).ok()).collect())
    }

    /// A manifest with its media type; none where it is not there.
    pub async fn manifest(
        &self,
        repository: &str,
        reference: &Reference,
    ) -> anyhow::Result<Option<(Option<String>, Bytes)>> {
        let found = self.unverified_manifest(repository, reference).await?;
        if let (Some((_, bytes)), Reference::Digest(digest)) = (&found, reference) {
            verify(digest, bytes)?;
        }
        Ok(found)
    }

    /// The same, whatever its bytes are.
    pub async fn unverified_manifest(
        &self,
        repository: &str,
        reference: &Reference,
    ) -> anyhow::Result<Option<(Option<String>, Bytes)>> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let call = Call::new(Method::GET, path, format!("repository:{repository}:pull"))
            .header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
        let (head, bytes) = self.ask(call).await?;
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => bail!("the registry answered {} to {repository} {reference}", status.as_u16()),
        }
        let media_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(Some((media_type.map(str::to_owned), bytes)))
    }

    /// What a manifest's digest is; none where it is not there.
    pub async fn manifest_digest(&self, repository: &str, reference: &Reference) -> anyhow::Result<Option<Digest>> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let call = Call::new(Method::HEAD, path, format!("repository:{repository}:pull"))
            .header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
        let head = self.ask(call).await?.0;
        match (head.status, reference) {
            (StatusCode::NOT_FOUND, _) => return Ok(None),
            (StatusCode::OK, Reference::Digest(digest)) => return Ok(Some(digest.clone())),
            (StatusCode::OK, Reference::Tag(_)) => {}
            (status, _) => bail!("the registry answered {} to {repository} {reference}", status.as_u16()),
        }
        let told = head.headers.get("docker-content-digest").and_then(|value| Digest::parse(value.to_str().ok()?).ok());
        if told.is_some() {
            return Ok(told);
        }
        let found = self.unverified_manifest(repository, reference).await?;
        Ok(found.map(|(_, bytes)| Digest::sha256(&bytes)))
    }

    /// A blob's size, as the registry states it; none where it is not there.
    pub async fn blob_size(&self, repository: &str, digest: &Digest) -> anyhow::Result<Option<u64>> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let answer = self.send(Call::new(Method::HEAD, path, format!("repository:{repository}:pull"))).await?;
        let answer = self.upstream.follow(answer, &Method::HEAD).await?;
        match (answer.head.status, answer.content_length()) {
            (StatusCode::OK, Some(size)) => Ok(Some(size)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (StatusCode::OK, None) => bail!("the registry does not say how large {repository} {digest} is"),
            (status, _) => bail!("the registry answered {} to {repository} {digest}", status.as_u16()),
        }
    }

    /// A blob of at most so many bytes.
    pub async fn blob(&self, repository: &str, digest: &Digest, most: usize) -> anyhow::Result<Bytes> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let call = Call::new(Method::GET, path, format!("repository:{repository}:pull"));
        let answer = self.send(call).await?;
        let answer = self.upstream.follow(answer, &Method::GET).await?;
        if answer.head.status != StatusCode::OK {
            bail!("the registry answered {} to {digest}", answer.head.status.as_u16());
        }
        let read = Limited::new(answer.body, most).collect().await;
        let bytes = read.map_err(|error| anyhow::anyhow!("{digest}, of at most {most} bytes: {error}"))?.to_bytes();
        verify(digest, &bytes)?;
        Ok(bytes)
    }

    /// Puts a blob there, where it is not there already.
    pub async fn put_blob(&self, repository: &str, bytes: Bytes) -> anyhow::Result<Digest> {
        let digest = Digest::sha256(&bytes);
        let scope = || format!("repository:{repository}:pull,push");
        let head = format!("/v2/{repository}/blobs/{digest}");
        if self.call(Method::HEAD, head, scope(), RequestBody::Empty).await?.status == StatusCode::OK {
            return Ok(digest);
        }
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let (head, told) = self.ask(Call::new(Method::POST, uploads, scope())).await?;
        let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
        let (StatusCode::ACCEPTED, Some(location)) =
            (head.status, location.and_then(|uri| uri.path_and_query().cloned()))
        else {
            bail!("{}", refused(head.status, &told));
        };
        let separator = if location.query().is_some() { '&' } else { '?' };
        let put = Call::new(Method::PUT, format!("{location}{separator}digest={digest}"), scope())
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .body(RequestBody::Full(bytes));
        match self.ask(put).await? {
            (head, _) if head.status == StatusCode::CREATED => Ok(digest),
            (head, told) => bail!("{}", refused(head.status, &told)),
        }
    }

    /// Puts a manifest there.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &Reference,
        media_type: &'static str,
        bytes: Bytes,
    ) -> anyhow::Result<Digest> {
        let digest = Digest::sha256(&bytes);
        let path = format!("/v2/{repository}/manifests/{reference}");
        let put = Call::new(Method::PUT, path, format!("repository:{repository}:pull,push"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static(media_type))
            .body(RequestBody::Full(bytes));
        match self.ask(put).await? {
            (head, _) if head.status == StatusCode::CREATED => Ok(digest),
            (head, told) => bail!("{}", refused(head.status, &told)),
        }
    }

    async fn ask(&self, call: Call) -> anyhow::Result<(http::response::Parts, Bytes)> {
        Ok(self.send(call).await?.whole().await?)
    }

    /// All pages of a list; none where the answer to the first one means that there is no such list.
    async fn pages<T: DeserializeOwned>(
        &self,
        list: &str,
        scope: &str,
        is_absent: fn(&StatusCode) -> bool,
    ) -> anyhow::Result<Option<Vec<T>>> {
        let (mut pages, mut path) = (Vec::new(), format!("{list}?n=1000"));
        for _ in 0..MAX_PAGES {
            let (head, body) = self.ask(Call::new(Method::GET, path.as_str(), scope)).await?;
            match head.status {
                StatusCode::OK => {}
                status if pages.is_empty() && status != StatusCode::TOO_MANY_REQUESTS && is_absent(&status) => {
                    return Ok(None);
                }
                status => bail!("the registry answered {} to {list}", status.as_u16()),
            }
            pages.push(serde_json::from_slice(&body).with_context(|| format!("{list} is no list"))?);
            match self.upstream.next_page(&head.headers, &path) {
                NextPage::At(next) => path = next,
                NextPage::None => return Ok(Some(pages)),
                NextPage::Elsewhere => bail!("{list} goes on where it should not"),
            }
        }
        bail!("{list} has more than {MAX_PAGES} pages")
    }
}

fn verify(digest: &Digest, bytes: &[u8]) -> anyhow::Result<()> {
    let mut verifier = digest.verifier().with_context(|| format!("{digest} cannot be checked"))?;
    verifier.update(bytes);
    if !Verifier::matches(verifier) {
        bail!("the registry's bytes for {digest} do not have that digest");
    }
    Ok(())
}

/// A registry's refusal in its own words, where it has any.
fn refused(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<OneError>,
    }
    #[derive(Deserialize)]
    struct OneError {
        #[serde(default)]
        message: String,
    }
    let told: Option<Errors> = serde_json::from_slice(body.get(..MAX_WHOLE_BODY).unwrap_or(body)).ok();
    let message = told.and_then(|told| told.errors.into_iter().next()).map(|error| error.message);
    match message {
        Some(message) if !message.is_empty() => format!("the registry refuses it ({}): {message}", status.as_u16()),
        _ => format!("the registry answered {}", status.as_u16()),
    }
}

//! What the command line asks of the upstream: what lies under a prefix, whether it keeps repositories apart, and the
//! deletion of what a purged project holds.

mod content;

use crate::app::random;
use crate::config;
use crate::upstream::{Answer, Call, Login, NextPage, Pool, RequestBody, Upstream, UpstreamError};
use anyhow::{Context, bail};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Uri};
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::{Project, Store};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Most pages of a catalog that are read.
const MAX_PAGES: usize = 10_000;

/// How long to wait before a read that the upstream failed at is tried again.
const SECOND_LOOKS: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// What lies upstream under a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// This repository, and perhaps more.
    Something(String),
    /// The upstream has no catalog, or none that can be read to its end, so that nobody can tell.
    Unknown,
}

/// What `doctor` found out about the upstream.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Its `Date`.
    pub date: Option<String>,
    /// Whether a blob of one repository stays unseen in another; none where that could not be tried.
    pub keeps_repositories_apart: Option<bool>,
    /// Whether it takes uploads without any credentials.
    pub takes_anonymous_writes: bool,
}

/// What a purge deleted upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Manifests.
    pub manifests: usize,
    /// Blobs, counted in each repository.
    pub blobs: usize,
    /// Blobs that the upstream does not delete.
    pub kept_blobs: usize,
}

/// The upstream, for commands.
pub struct UpstreamAdmin {
    upstream: Upstream,
    pool: Arc<Pool>,
    /// What is waited before each request, so that whoever has more urgent questions is not held up.
    pause: Duration,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl UpstreamAdmin {
    /// The configured upstream.
    pub fn new(config: &config::Upstream) -> anyhow::Result<Self> {
        Ok(Self { upstream: Upstream::new(config)?, pool: Arc::default(), pause: Duration::ZERO })
    }

    /// The same with a pause before each request.
    #[must_use]
    pub fn paced(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// A registry to which somebody has logged in as a client.
    pub fn as_client(config: &config::Upstream, login: Login) -> anyhow::Result<Self> {
        Ok(Self { upstream: Upstream::as_client(config, login)?, pool: Arc::default(), pause: Duration::ZERO })
    }

    /// Whether anything lies under a prefix.
    pub async fn holds(&self, prefix: &str) -> anyhow::Result<Held> {
        let below = format!("{prefix}/");
        let mut path = "/v2/_catalog?n=1000".to_owned();
        for _ in 0..MAX_PAGES {
            let answer = self.send(Call::new(Method::GET, path.clone(), "registry:catalog:*")).await?;
            match answer.head.status {
                StatusCode::OK => {}
                status if status.is_client_error() => return Ok(Held::Unknown),
                status => bail!("the upstream answered {} to a request for its catalog", status.as_u16()),
            }
            let (head, body) = answer.whole().await?;
            let page: Catalog = serde_json::from_slice(&body).context("the upstream's catalog is no catalog")?;
            if let Some(held) = page.repositories.unwrap_or_default().into_iter().find(|name| name.starts_with(&below))
            {
                return Ok(Held::Something(held));
            }
            match self.upstream.next_page(&head.headers, &path) {
                NextPage::At(next) => path = next,
                NextPage::None => return Ok(Held::Nothing),
                // What was not read may hold something.
                NextPage::Elsewhere => return Ok(Held::Unknown),
            }
        }
        bail!("the upstream's catalog has more than {MAX_PAGES} pages")
    }

    /// Deletes every recorded manifest of a project upstream, then every blob, telling `progress` each (done, all). Whoever
    /// gets the prefix next reads nothing of it, even before the upstream's garbage collection.
    pub async fn delete_all(
        &self,
        store: &dyn Store,
        project: &Project,
        progress: &mut dyn FnMut(usize, usize),
    ) -> anyhow::Result<Deleted> {
        let manifests = manifests(store, project).await?;
        let blobs = blobs(store, project).await?;
        let all = manifests.len().saturating_add(blobs.len());
        let mut kept_blobs = 0_usize;
        for (done, (kind, (repository, digest))) in
            manifests.iter().map(|at| ("manifests", at)).chain(blobs.iter().map(|at| ("blobs", at))).enumerate()
        {
            let name = project.upstream_name(repository);
            let scope = format!("repository:{name}:pull,push,delete");
            let path = format!("/v2/{name}/{kind}/{digest}");
            let status = self.call(Method::DELETE, path, scope, RequestBody::Empty).await?.status;
            // Not every registry deletes a blob by itself.
            if kind == "blobs" && matches!(status.as_u16(), 400 | 405 | 501) {
                kept_blobs = kept_blobs.saturating_add(1);
            } else if !status.is_success() && status != StatusCode::NOT_FOUND {
                bail!("the upstream answered {} to the deletion of {repository}@{digest}", status.as_u16());
            }
            progress(done.saturating_add(1), all);
        }
        Ok(Deleted { manifests: manifests.len(), blobs: blobs.len().saturating_sub(kept_blobs), kept_blobs })
    }

    /// Asks the upstream for its date, and tries with a random blob in two scratch repositories whether it keeps them apart.
    pub async fn probe(&self) -> anyhow::Result<Probe> {
        let (head, _) = self.upstream.call(&self.pool, Call::new(Method::GET, "/v2/", "")).await?.whole().await?;
        if !head.status.is_success() {
            bail!("the upstream answered {} at /v2/", head.status.as_u16());
        }
        let date = head.headers.get(header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        let mut probe = Probe { date, ..Probe::default() };
        probe.takes_anonymous_writes =
            self.upstream.takes_anonymous_writes(&self.pool, "portcullis-doctor/anonymous").await?;
        probe.keeps_repositories_apart = self.tries_isolation().await?;
        Ok(probe)
    }

    async fn tries_isolation(&self) -> anyhow::Result<Option<bool>> {
        // The names stay the same, because some registries list a repository for ever once it was written to.
        let (mine, other) = ("portcullis-doctor/a", "portcullis-doctor/b");
        let mut bytes = vec![0; 64];
        random(&mut bytes);
        let digest = Digest::sha256(&bytes);
        let scope = |name: &str| format!("repository:{name}:pull,push,delete");
        let opened =
            self.call(Method::POST, format!("/v2/{mine}/blobs/uploads/"), scope(mine), RequestBody::Empty).await?;
        let location = opened.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
        let (StatusCode::ACCEPTED, Some(location)) =
            (opened.status, location.and_then(|uri| uri.path_and_query().cloned()))
        else {
            return Ok(None);
        };
        let separator = if location.query().is_some() { '&' } else { '?' };
        let path = format!("{location}{separator}digest={digest}");
        let stored = self.call(Method::PUT, path, scope(mine), RequestBody::Full(bytes.into())).await?;
        if stored.status != StatusCode::CREATED {
            return Ok(None);
        }
        let seen =
            self.call(Method::HEAD, format!("/v2/{other}/blobs/{digest}"), scope(other), RequestBody::Empty).await?;
        for name in [mine, other] {
            // What was tried with is taken away again, where it can be.
            let _ =
                self.call(Method::DELETE, format!("/v2/{name}/blobs/{digest}"), scope(name), RequestBody::Empty).await;
        }
        Ok(Some(seen.status == StatusCode::NOT_FOUND))
    }

    async fn call(
        &self,
        method: Method,
        path: String,
        scope: String,
        body: RequestBody,
    ) -> Result<http::response::Parts, UpstreamError> {
        let call = Call::new(method, path, scope)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .body(body);
        Ok(self.send(call).await?.whole().await?.0)
    }

    async fn send(&self, call: Call) -> Result<Answer, UpstreamError> {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        // A registry may fail to read what is written beside it (Distribution rewrites links in place): it is asked again.
        if matches!(call.method, Method::GET | Method::HEAD) {
            for pause in SECOND_LOOKS {
                let Some(asked) = call.copy() else { break };
                let answer = self.upstream.call(&self.pool, asked).await?;
                if !answer.head.status.is_server_error() {
                    return Ok(answer);
                }
                answer.whole().await?;
                tokio::time::sleep(pause).await;
            }
        }
        self.upstream.call(&self.pool, call).await
    }
}

/// How many manifests and blobs of a project are on record, counted in each repository.
pub async fn count_held(store: &dyn Store, project: &Project) -> anyhow::Result<(usize, usize)> {
    Ok((manifests(store, project).await?.len(), blobs(store, project).await?.len()))
}

async fn manifests(store: &dyn Store, project: &Project) -> anyhow::Result<Vec<(RepositoryName, Digest)>> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let repositories = store.repositories(&project.id, after.as_deref(), 1000).await?;
        let Some(last) = repositories.last() else { return Ok(all) };
        after = Some(last.as_str().to_owned());
        for repository in repositories {
            let manifests = store.manifests(&project.id, &repository).await?;
            all.extend(manifests.into_iter().map(|(digest, _)| (repository.clone(), digest)));
        }
    }
}

async fn blobs(store: &dyn Store, project: &Project) -> anyhow::Result<Vec<(RepositoryName, Digest)>> {
    let mut all = Vec::new();
    loop {
        let batch = store.links(&project.id, all.last(), 1000).await?;
        if batch.is_empty() {
            return Ok(all);
        }
        all.extend(batch);
    }
}

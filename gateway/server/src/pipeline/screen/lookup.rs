//! What is looked up before policies are asked, and only where one of them wants it. What the upstream holds is asked of the
//! upstream, so that it is true of content that the ledger never saw.

use crate::app::Worker;
use crate::pipeline::respond::Refusal;
use crate::throwaway::Throwaways;
use crate::upstream::{Answer, Call, MAX_WHOLE_BODY, UpstreamError};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use portcullis_oci::manifest::{self, Manifest, media_type};
use portcullis_oci::{Digest, Operation, Reference, RepositoryName, Tag};
use portcullis_policy::question::{self, Ask, Descriptor, Fact, FactSet, Facts, ImageConfig, Platform, Usage};
use portcullis_tenancy::{Project, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest image config that is read.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// Most referrers that are shown.
const MAX_REFERRERS: u32 = 256;

/// Looks things up in one repository, or about one project.
pub struct Lookup<'a> {
    worker: &'a Worker,
    project: &'a Project,
    repository: Option<&'a RepositoryName>,
}

/// A manifest as the upstream had it.
pub struct Seen {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The head that it came with.
    pub head: Parts,
    /// Its bytes.
    pub bytes: Bytes,
    /// What it says; none where it is no manifest that may be pushed here.
    pub manifest: Option<Manifest>,
}

impl Seen {
    /// Its bytes, for guests that read them.
    pub fn text(&self) -> Option<Arc<str>> {
        std::str::from_utf8(&self.bytes).ok().map(Arc::from)
    }
}

impl<'a> Lookup<'a> {
    /// In this project, and in this repository of it.
    pub fn new(worker: &'a Worker, project: &'a Project, repository: Option<&'a RepositoryName>) -> Self {
        Self { worker, project, repository }
    }

    /// The recorded tags on a manifest.
    pub async fn tags_of(&self, digest: &Digest) -> Result<Vec<Tag>, Refusal> {
        let Some(repository) = self.repository.cloned() else { return Ok(Vec::new()) };
        let project = self.project.id.clone();
        let store = &self.worker.app.store;
        let tags = store.run(|store| async move { store.tags(&project, &repository).await }).await?;
        Ok(tags.into_iter().filter(|(_, tagged)| tagged == digest).map(|(tag, _)| tag).collect())
    }

    /// The manifest that a pull would give now; none where there is none.
    pub async fn pulled(&self, reference: &Reference) -> Result<Option<Seen>, Refusal> {
        let Some(answer) = self.get(Method::GET, reference).await? else { return Ok(None) };
        let (head, bytes) = answer.whole().await?;
        if self.worker.app.throwaways.is_ours(&bytes) {
            return Ok(None);
        }
        if let (Reference::Digest(digest), Some(repository)) = (reference, self.repository)
            && self.worker.app.store.is_blob_alone(&self.project.id, repository, digest).await?
        {
            return Ok(None);
        }
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let manifest = manifest::parse(content_type, &bytes).ok();
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(_) => Digest::sha256(&bytes),
        };
        let is_it = digest.verifier().is_some_and(|mut verifier| {
            verifier.update(&bytes);
            verifier.matches()
        });
        let stated = head.headers.get("docker-content-digest").map(HeaderValue::as_bytes);
        if !is_it || stated.is_some_and(|stated| stated != digest.as_str().as_bytes()) {
            return Err(UpstreamError::Odd(format!("its bytes for {reference} do not have their digest")).into());
        }
        Ok(Some(Seen { digest, head, bytes, manifest }))
    }

    /// A manifest's record; its descriptors with the sizes that are on record where they are wanted.
    pub async fn record(&self, manifest: &Manifest, wants: FactSet) -> Result<question::Manifest, Refusal> {
        let mut record = question::Manifest::from(manifest);
        if wants.contains(Fact::StoredSizes) {
            let blobs = manifest.config.iter().chain(&manifest.layers).map(|descriptor| descriptor.digest.clone());
            let (project, blobs) = (self.project.id.clone(), blobs.collect::<Vec<_>>());
            let store = &self.worker.app.store;
            let sizes = store.run(|store| async move { store.stored_sizes(&project, &blobs).await }).await?;
            let sizes: BTreeMap<String, u64> =
                sizes.into_iter().map(|(digest, size)| (digest.to_string(), size)).collect();
            for descriptor in record.config.iter_mut().chain(&mut record.layers) {
                descriptor.stored_size = sizes.get(&descriptor.digest).copied();
            }
        }
        Ok(record)
    }

    /// The facts that are wanted for a question.
    pub async fn facts(&self, ask: &Ask, wants: FactSet) -> Result<Facts, Refusal> {
        let mut facts = Facts::default();
        if wants.is_empty() {
            return Ok(facts);
        }
        let (target, manifest) = match ask {
            Ask::ManifestPush { target, manifest } => (Some(target), Some(manifest)),
            Ask::Pull { target, manifest } => (Some(target), manifest.as_ref()),
            Ask::Request(request) => (request.target.as_ref(), None),
            Ask::Token(_) | Ask::Response { .. } => (None, None),
        };
        if wants.contains(Fact::Usage) {
            facts.usage = Some(self.usage().await?);
        }
        let Some(target) = target else { return Ok(facts) };
        let digest = target.digest.as_deref().and_then(|digest| Digest::parse(digest).ok());
        if wants.contains(Fact::TagDigest) {
            facts.tag_digest = Some(self.tag_digests(&target.tags).await?);
        }
        if let Some(digest) = &digest {
            let name = digest.to_string();
            if wants.contains(Fact::TagsOfDigest) {
                let tags = self.tags_of(digest).await?.iter().map(ToString::to_string).collect();
                facts.tags_of_digest = Some(BTreeMap::from([(name.clone(), tags)]));
            }
            if wants.contains(Fact::PushedAt) {
                let pushed = self.pushed_at(digest).await?.map(|time| (name, time));
                facts.pushed_at = Some(pushed.into_iter().collect());
            }
            if wants.contains(Fact::Referrers) {
                facts.referrers = Some(self.referrers(digest).await?);
            }
        }
        if wants.contains(Fact::VerifiedSigners) {
            // Nobody verifies signatures yet: nobody is known to have signed.
            facts.verified_signers = Some(Vec::new());
        }
        if wants.contains(Fact::ImageConfig)
            && let Some(config) = manifest.and_then(|manifest| manifest.config.as_ref())
        {
            facts.image_config = self.image_config(config).await?;
        }
        Ok(facts)
    }

    async fn usage(&self) -> Result<Usage, Refusal> {
        let project = self.project.id.clone();
        let store = &self.worker.app.store;
        let account = store.run(|store| async move { store.account(&project).await }).await?;
        Ok(Usage { used_bytes: account.committed, quota_bytes: account.quota })
    }

    async fn tag_digests(&self, tags: &[String]) -> Result<BTreeMap<String, String>, Refusal> {
        let mut digests = BTreeMap::new();
        for text in tags {
            let Ok(tag) = Tag::parse(text) else { continue };
            if let Some(digest) = self.tag_digest(&Reference::Tag(tag)).await? {
                digests.insert(text.clone(), digest.to_string());
            }
        }
        Ok(digests)
    }

    /// Where a tag points; none where it is not there, or is a throw-away that a crash left behind.
    async fn tag_digest(&self, tag: &Reference) -> Result<Option<Digest>, Refusal> {
        let Some(answer) = self.get(Method::HEAD, tag).await? else { return Ok(None) };
        let text = |name: &str| answer.head.headers.get(name).and_then(|value| value.to_str().ok());
        let media_type = answer.head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let length = text("content-length").and_then(|length| length.parse().ok());
        match text("docker-content-digest").and_then(|digest| Digest::parse(digest).ok()) {
            Some(digest) if !Throwaways::could_be(media_type, length) => Ok(Some(digest)),
            _ => Ok(self.pulled(tag).await?.map(|seen| seen.digest)),
        }
    }

    async fn pushed_at(&self, digest: &Digest) -> Result<Option<u64>, Refusal> {
        let Some(repository) = self.repository.cloned() else { return Ok(None) };
        let (project, digest) = (self.project.id.clone(), digest.clone());
        let store = &self.worker.app.store;
        let recorded = store.run(|store| async move { store.manifest(&project, &repository, &digest).await }).await?;
        Ok(recorded.and_then(|recorded| u64::try_from(recorded.pushed_at.as_millisecond()).ok()))
    }

    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, Refusal> {
        let Some(repository) = self.repository.cloned() else { return Ok(Vec::new()) };
        let (project, subject) = (self.project.id.clone(), digest.clone());
        let store = &self.worker.app.store;
        let recorded = store
            .run(|store| async move { store.referrers(&project, &repository, &subject, None, MAX_REFERRERS).await })
            .await?;
        let shown = recorded.into_iter().map(|recorded| Descriptor {
            media_type: recorded.media_type,
            digest: recorded.digest.to_string(),
            size: recorded.size,
            artifact_type: recorded.artifact_type,
            annotations: recorded.annotations,
            ..Descriptor::default()
        });
        Ok(shown.collect())
    }

    /// What an image's config says; none where it is no image's, is too large, or is not there.
    async fn image_config(&self, config: &Descriptor) -> Result<Option<ImageConfig>, Refusal> {
        let is_image = matches!(
            config.media_type.as_str(),
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        );
        let (Some(repository), Ok(digest)) = (self.repository, Digest::parse(&config.digest)) else { return Ok(None) };
        if !is_image || config.size > MAX_CONFIG_BYTES {
            return Ok(None);
        }
        let mut verifier = digest.verifier();
        let operation = Operation::BlobPull { repository: repository.clone(), digest };
        let app = &self.worker.app;
        let answer = app.upstream.call(&self.worker.pool, self.call(Method::GET, &operation)).await?;
        let answer = app.upstream.follow(answer, &Method::GET).await?;
        if answer.head.status != StatusCode::OK {
            return Ok(None);
        }
        let most = usize::try_from(MAX_CONFIG_BYTES).unwrap_or(MAX_WHOLE_BODY);
        let Ok(read) = Limited::new(answer.body, most).collect().await else { return Ok(None) };
        let bytes = read.to_bytes();
        if let Some(verifier) = &mut verifier {
            verifier.update(&bytes);
        }
        let is_it = verifier.is_some_and(portcullis_oci::digest::Verifier::matches);
        Ok(serde_json::from_slice::<Config>(&bytes).ok().filter(|_| is_it).map(ImageConfig::from))
    }

    async fn get(&self, method: Method, reference: &Reference) -> Result<Option<Answer>, Refusal> {
        let Some(repository) = self.repository else { return Ok(None) };
        let operation = Operation::ManifestPull { repository: repository.clone(), reference: reference.clone() };
        let call = self.call(method, &operation).header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
        let answer = self.worker.app.upstream.call(&self.worker.pool, call).await?;
        match answer.head.status {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Refusal::UpstreamStatus { status, retry_after: None }),
        }
    }

    fn call(&self, method: Method, operation: &Operation) -> Call {
        let name = operation.repository().map(|name| self.project.upstream_name(name)).unwrap_or_default();
        Call::new(method, operation.path_and_query(&name), format!("repository:{name}:pull,push,delete"))
    }
}

/// An image's config, as far as policies see it (OCI Image Specification, "Image Configuration").
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    created: Option<String>,
    #[serde(default)]
    config: Option<RunConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

impl From<Config> for ImageConfig {
    fn from(config: Config) -> Self {
        let run = config.config.unwrap_or_default();
        Self {
            platform: Platform { os: config.os, architecture: config.architecture, cpu_variant: config.variant },
            created_ms: config
                .created
                .and_then(|time| u64::try_from(time.parse::<Timestamp>().ok()?.as_millisecond()).ok()),
            user: run.user.filter(|user| !user.is_empty()),
            labels: run.labels.unwrap_or_default().into_iter().collect(),
        }
    }
}

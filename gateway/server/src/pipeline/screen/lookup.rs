//! What is looked up before policies are asked, and only where one of them wants it. What the upstream holds is asked of the
//! upstream, so that it is true of content that the ledger never saw.

mod config;

use crate::app::Worker;
use crate::pipeline::respond::Refusal;
use crate::throwaway::Throwaways;
use crate::upstream::{Answer, Call, MAX_WHOLE_BODY, UpstreamError};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use portcullis_oci::manifest::{self, Manifest, media_type};
use portcullis_oci::{Digest, Operation, Reference, RepositoryName, Tag};
use portcullis_policy::question::{self, Ask, Descriptor, Fact, FactSet, Facts, Usage};
use portcullis_policy::{Failure, FailureKind};
use portcullis_tenancy::Project;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// What was looked up for a question, and the first reason why something could not be.
#[derive(Default)]
pub struct Found {
    /// For the policies; those that want what could not be had fail.
    pub facts: Facts,
    /// For the client, where such a failure counts.
    pub refusal: Option<Refusal>,
}

impl Found {
    fn keep<T>(&mut self, fact: Fact, found: Result<T, Refusal>) -> Option<T> {
        found.map_err(|refusal| self.miss(fact, refusal)).ok()
    }

    fn miss(&mut self, fact: Fact, refusal: Refusal) {
        self.facts.failed.push((fact, failure(&refusal)));
        self.refusal.get_or_insert(refusal);
    }
}

/// What it is to a policy that something could not be looked up. What the upstream and the store said is for the log alone.
pub fn failure(refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::Protocol(error) => Failure::new(FailureKind::Unreadable, &error.message),
        other => {
            tracing::warn!(error = ?other, "what a policy wants could not be looked up");
            Failure::new(FailureKind::Lookup, "what it wants could not be looked up")
        }
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
        // What may be pushed may be pulled.
        let most = self.worker.app.settings.load().config.limits.manifest_bytes.max(MAX_WHOLE_BODY);
        let (head, bytes) = answer.whole_up_to(most).await?;
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
    pub async fn record(&self, manifest: &Manifest, wants: FactSet, found: &mut Found) -> question::Manifest {
        let mut record = question::Manifest::from(manifest);
        if wants.contains(Fact::StoredSizes)
            && let Some(sizes) = found.keep(Fact::StoredSizes, self.stored_sizes(manifest).await)
        {
            for descriptor in record.config.iter_mut().chain(&mut record.layers) {
                descriptor.stored_size = sizes.get(&descriptor.digest).copied();
            }
        }
        record
    }

    async fn stored_sizes(&self, manifest: &Manifest) -> Result<BTreeMap<String, u64>, Refusal> {
        let blobs = manifest.config.iter().chain(&manifest.layers).map(|descriptor| descriptor.digest.clone());
        let (project, blobs) = (self.project.id.clone(), blobs.collect::<Vec<_>>());
        let store = &self.worker.app.store;
        let sizes = store.run(|store| async move { store.stored_sizes(&project, &blobs).await }).await?;
        Ok(sizes.into_iter().map(|(digest, size)| (digest.to_string(), size)).collect())
    }

    /// The facts that are wanted for a question.
    pub async fn facts(&self, ask: &Ask, wants: FactSet, found: &mut Found) {
        if wants.is_empty() {
            return;
        }
        let (target, manifest) = match ask {
            Ask::ManifestPush { target, manifest } => (Some(target), Some(manifest)),
            Ask::Pull { target, manifest } => (Some(target), manifest.as_ref()),
            Ask::Request(request) => (request.target.as_ref(), None),
            Ask::Token(_) | Ask::Response { .. } => (None, None),
        };
        if wants.contains(Fact::Usage) {
            found.facts.usage = found.keep(Fact::Usage, self.usage().await);
        }
        let Some(target) = target else { return };
        let digest = target.digest.as_deref().and_then(|digest| Digest::parse(digest).ok());
        if wants.contains(Fact::TagDigest) {
            found.facts.tag_digest = found.keep(Fact::TagDigest, self.tag_digests(&target.tags).await);
        }
        if let Some(digest) = &digest {
            self.facts_of_digest(digest, wants, found).await;
        }
        if wants.contains(Fact::VerifiedSigners) {
            // Nobody verifies signatures yet: nobody is known to have signed.
            found.facts.verified_signers = Some(Vec::new());
        }
        if wants.contains(Fact::ImageConfig)
            && let Some(config) = manifest.and_then(|manifest| manifest.config.as_ref())
        {
            let read = self.image_config(config, ask).await;
            found.facts.image_config = found.keep(Fact::ImageConfig, read).flatten();
        }
    }

    async fn facts_of_digest(&self, digest: &Digest, wants: FactSet, found: &mut Found) {
        let name = digest.to_string();
        if wants.contains(Fact::TagsOfDigest)
            && let Some(tags) = found.keep(Fact::TagsOfDigest, self.tags_of(digest).await)
        {
            let tags = tags.iter().map(ToString::to_string).collect();
            found.facts.tags_of_digest = Some(BTreeMap::from([(name.clone(), tags)]));
        }
        if wants.contains(Fact::PushedAt)
            && let Some(pushed) = found.keep(Fact::PushedAt, self.pushed_at(digest).await)
        {
            found.facts.pushed_at = Some(pushed.map(|time| (name, time)).into_iter().collect());
        }
        if wants.contains(Fact::Referrers) {
            found.facts.referrers = found.keep(Fact::Referrers, self.referrers(digest).await);
        }
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

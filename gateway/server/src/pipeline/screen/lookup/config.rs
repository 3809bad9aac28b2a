//! An image's config. One that cannot be read says nothing to policies, and something to whoever runs the image: it is refused.

use super::Lookup;
use crate::pipeline::respond::Refusal;
use crate::upstream::UpstreamError;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use portcullis_oci::{Digest, ErrorCode, Operation, ProtocolError, manifest};
use portcullis_policy::question::{Ask, Descriptor, ImageConfig, Platform};
use portcullis_tenancy::Timestamp;

/// Largest image config that is read.
const MAX_BYTES: usize = 1024 * 1024;
const TOO_LARGE: &str = "it is larger than 1 MiB";

impl Lookup<'_> {
    /// What an image's config says; none where it is no image's, or is not there.
    pub(super) async fn image_config(&self, config: &Descriptor, ask: &Ask) -> Result<Option<ImageConfig>, Refusal> {
        let is_image = matches!(
            config.media_type.as_str(),
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        );
        if !is_image {
            return Ok(None);
        }
        let unreadable = |why: &str| unreadable(&config.digest, why, ask);
        if !usize::try_from(config.size).is_ok_and(|size| size <= MAX_BYTES) {
            return Err(unreadable(TOO_LARGE));
        }
        let (Some(repository), Ok(digest)) = (self.repository, Digest::parse(&config.digest)) else { return Ok(None) };
        let verifier = digest.verifier();
        let operation = Operation::BlobPull { repository: repository.clone(), digest };
        let Some(bytes) = self.blob(&operation).await? else { return Ok(None) };
        let bytes = bytes.map_err(unreadable)?;
        let is_it = verifier.is_some_and(|mut verifier| {
            verifier.update(&bytes);
            verifier.matches()
        });
        if !is_it {
            return Err(unreadable("its bytes cannot be checked against its digest, or are others"));
        }
        let config = manifest::ImageConfig::parse(&bytes).map_err(|error| unreadable(&error.message))?;
        record(config).map(Some).map_err(unreadable)
    }

    /// A small blob's bytes, or why it is not read; none where it is not there.
    async fn blob(&self, operation: &Operation) -> Result<Option<Result<Bytes, &'static str>>, Refusal> {
        let app = &self.worker.app;
        let answer = app.upstream.call(&self.worker.pool, self.call(Method::GET, operation)).await?;
        let answer = app.upstream.follow(answer, &Method::GET).await?;
        match answer.head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(Refusal::UpstreamStatus { status, retry_after: None }),
        }
        match Limited::new(answer.body, MAX_BYTES).collect().await {
            Ok(read) => Ok(Some(Ok(read.to_bytes()))),
            Err(error) if error.is::<LengthLimitError>() => Ok(Some(Err(TOO_LARGE))),
            Err(error) => Err(UpstreamError::broken(error).into()),
        }
    }
}

/// The contract's record.
fn record(config: manifest::ImageConfig) -> Result<ImageConfig, &'static str> {
    let manifest::Platform { os, architecture, variant } = config.platform;
    let created = config.created.map(|time| time.parse::<Timestamp>());
    let created = created.transpose().map_err(|_| "its `created` is no time as RFC 3339 has it")?;
    Ok(ImageConfig {
        platform: Platform { os, architecture, cpu_variant: variant },
        // What Go writes for no time at all lies before 1970.
        created_ms: created.and_then(|time| u64::try_from(time.as_millisecond()).ok()),
        user: config.user,
        labels: config.labels,
    })
}

fn unreadable(digest: &str, why: &str, ask: &Ask) -> Refusal {
    let code = if matches!(ask, Ask::ManifestPush { .. }) { ErrorCode::ManifestInvalid } else { ErrorCode::Denied };
    let message = format!(
        "a policy judges the image by its config {digest}, which cannot be judged: {why}; build the image again, and push it"
    );
    ProtocolError::new(code, message).into()
}

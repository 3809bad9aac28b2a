//! What is sent along → [`Inspected`]: a pushed manifest is read whole, parsed, and what it names must be there; a blob's
//! bytes stay a stream.

use super::Visit;
use super::admit::Admitted;
use super::authorize::Granted;
use super::respond::Refusal;
use crate::config::Isolation;
use crate::upstream::{BodyFault, ClientBody, RequestBody, UpstreamError};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Limited};
use portcullis_oci::manifest::{self, Manifest};
use portcullis_oci::route::UploadStart;
use portcullis_oci::{Digest, ErrorCode, Operation, ProtocolError, Reference};
use portcullis_tenancy::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a manifest may take to arrive, whatever its size.
const MANIFEST_PATIENCE: Duration = Duration::from_secs(60);
/// What a client's line carries at least, in bytes a second: a large manifest may take as much longer.
const SLOWEST_LINE: u64 = 64 * 1024;

/// An operation whose payload is known as far as it must be. Only this stage makes one.
pub struct Inspected {
    admitted: Admitted,
    payload: Payload,
}

/// What goes along with an operation.
pub enum Payload {
    /// Nothing.
    None,
    /// A blob's bytes, still on their way.
    Blob(ClientBody),
    /// A manifest, whole and parsed.
    Manifest {
        /// Its bytes.
        bytes: Bytes,
        /// What it says.
        manifest: Box<Manifest>,
    },
}

impl Inspected {
    /// What was granted.
    pub(super) fn granted(&self) -> &Granted {
        self.admitted.granted()
    }

    /// What goes along.
    pub(super) fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Makes a plain upload of a mount, as if its source were not there.
    pub(super) fn give_up_mount(&mut self) {
        self.admitted.granted_mut().give_up_mount();
    }

    /// Both, to be sent.
    pub(super) fn into_parts(self) -> (Admitted, Payload) {
        (self.admitted, self.payload)
    }
}

/// Takes over the request's body where the operation has one.
pub async fn inspect(visit: &Visit, admitted: Admitted) -> Result<Inspected, Refusal> {
    let payload = match admitted.granted().operation() {
        Operation::ManifestPush { reference, .. } => {
            let (bytes, manifest) = read_manifest(visit, reference).await?;
            check_references(visit, &admitted, &manifest).await?;
            Payload::Manifest { bytes, manifest: Box::new(manifest) }
        }
        Operation::UploadChunk { .. }
        | Operation::UploadFinish { .. }
        | Operation::UploadStart { start: UploadStart::Monolithic(_), .. } => {
            let timeouts = visit.worker.app.upstream.timeouts();
            visit.body.as_ref().map_or(Payload::None, |body| Payload::Blob(body.stream(timeouts)))
        }
        _ => Payload::None,
    };
    Ok(Inspected { admitted, payload })
}

async fn read_manifest(visit: &Visit, reference: &Reference) -> Result<(Bytes, Manifest), Refusal> {
    let headers = &visit.head.headers;
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(
            ProtocolError::new(ErrorCode::ManifestInvalid, "a manifest is sent without Content-Encoding").into()
        );
    }
    let limit = visit.settings.config.limits.manifest_bytes;
    let too_large = || {
        let message = format!("a manifest has at most {limit} bytes here; put what is large into a layer");
        Refusal::from(
            ProtocolError::new(ErrorCode::ManifestInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE),
        )
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let bytes = match &visit.body {
        None => Bytes::new(),
        Some(body) => {
            let stream = RequestBody::Client(body.stream(visit.worker.app.upstream.timeouts()));
            let patience = MANIFEST_PATIENCE.saturating_add(Duration::from_secs(limit as u64 / SLOWEST_LINE));
            let Ok(read) = timeout(patience, Limited::new(stream, limit).collect()).await else {
                return Err(UpstreamError::ClientBody(BodyFault::Late).into());
            };
            match read {
                Ok(collected) => collected.to_bytes(),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
                Err(_) => return Err(UpstreamError::ClientBody(body.failure().unwrap_or(BodyFault::Early)).into()),
            }
        }
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let content_type = types.next().and_then(|value| value.to_str().ok());
    if types.next().is_some() {
        return Err(ProtocolError::new(ErrorCode::ManifestInvalid, "a manifest has one Content-Type").into());
    }
    let mut manifest = manifest::parse(content_type, &bytes)?;
    if let Reference::Digest(digest) = reference {
        check_digest(digest, &bytes)?;
        manifest.digest = digest.clone();
    }
    Ok((bytes, manifest))
}

fn check_digest(digest: &Digest, bytes: &[u8]) -> Result<(), Refusal> {
    let Some(mut verifier) = digest.verifier() else {
        let message = "manifests are pushed by tag, or by sha256 or sha512 digest";
        return Err(ProtocolError::new(ErrorCode::DigestInvalid, message).into());
    };
    verifier.update(bytes);
    if verifier.matches() {
        return Ok(());
    }
    Err(ProtocolError::new(ErrorCode::DigestInvalid, "the manifest's bytes do not have the digest in the path").into())
}

/// What came as a blob is nobody's child, whatever the upstream makes of it. And where the upstream does not keep repositories
/// apart, a manifest may name only what the ledger links to its repository.
async fn check_references(visit: &Visit, admitted: &Admitted, manifest: &Manifest) -> Result<(), Refusal> {
    let granted = admitted.granted();
    let (Some(project), Some(repository)) = (granted.project(), granted.operation().repository()) else {
        return Ok(());
    };
    let children: Vec<Digest> = manifest.children.iter().map(|child| child.digest.clone()).collect();
    let missing = if visit.settings.config.upstream.isolation == Isolation::Repository {
        let mut missing = Vec::new();
        for child in children {
            if visit.worker.app.store.is_blob_alone(&project.id, repository, &child).await? {
                missing.push(child);
            }
        }
        missing
    } else {
        let named = manifest.config.iter().chain(&manifest.layers).filter(|descriptor| !descriptor.is_foreign());
        let blobs: Vec<Digest> = named.map(|descriptor| descriptor.digest.clone()).collect();
        let (id, name) = (project.id.clone(), repository.clone());
        let look = |store: Arc<dyn Store>| async move {
            let mut missing = store.missing_links(&id, &name, &blobs).await?;
            missing.extend(store.missing_manifests(&id, &name, &children).await?);
            Ok(missing)
        };
        visit.worker.app.store.run(look).await?
    };
    let Some(first) = missing.first() else { return Ok(()) };
    let message = format!(
        "{} of what the manifest names is not in {repository}, {first} for one; push or mount it into this repository first",
        missing.len()
    );
    let detail = serde_json::json!(
        missing.iter().take(16).map(|digest| serde_json::json!({"digest": digest.as_str()})).collect::<Vec<_>>()
    );
    Err(ProtocolError::new(ErrorCode::ManifestBlobUnknown, message).with_detail(detail).into())
}

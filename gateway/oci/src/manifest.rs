//! Manifests, read as an upstream written in Go reads them, or refused (`MANIFEST_INVALID`).
//!
//! Go folds the case of keys, and its last duplicate key wins. So that no parser difference can hide a layer, refused are:
//! duplicate keys; keys equal to a known key under Unicode simple case folding but not byte for byte, at any level;
//! `layers` together with `manifests`; a `Content-Type` that differs from `mediaType`; schema 1; bytes after the document;
//! `null` and other types where a known key wants its own.

mod config;
mod fields;
mod json;

pub use config::ImageConfig;

use crate::error::Excerpt;
use crate::{Digest, ErrorCode, ProtocolError};
use fields::Object;

/// A pushed manifest's facts, all that the rules and the ledger need to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The media type, from `Content-Type`.
    pub media_type: String,
    /// `artifactType`; for an image manifest without one its config's media type (OCI Distribution Specification 1.1,
    /// "Listing Referrers").
    pub artifact_type: Option<String>,
    /// The digest of the bytes as pushed (sha256).
    pub digest: Digest,
    /// The size of the bytes as pushed.
    pub size: u64,
    /// The config, for image manifests.
    pub config: Option<Descriptor>,
    /// The layers, for image manifests.
    pub layers: Vec<Descriptor>,
    /// The manifests, for indexes.
    pub children: Vec<Descriptor>,
    /// What this manifest refers to.
    pub subject: Option<Descriptor>,
    /// `annotations`, in the document's order.
    pub annotations: Vec<(String, String)>,
}

/// A descriptor (OCI Image Specification, "Content Descriptors").
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    /// `mediaType`
    pub media_type: String,
    /// `digest`
    pub digest: Digest,
    /// `size`, as claimed.
    pub size: u64,
    /// `artifactType`
    pub artifact_type: Option<String>,
    /// `platform`, for children.
    pub platform: Option<Platform>,
    /// `urls`, for foreign layers.
    pub urls: Vec<String>,
    /// `annotations`
    pub annotations: Vec<(String, String)>,
}

impl Descriptor {
    /// Whether it is a foreign (non-distributable) layer, whose bytes need not be here.
    pub fn is_foreign(&self) -> bool {
        media_type::FOREIGN_LAYERS.contains(&self.media_type.as_str())
    }
}

/// A platform.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the specification's
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

/// The media types that are taken and served.
pub mod media_type {
    /// Layers that CNCF Distribution takes without their bytes, and the newer kin of them.
    pub(super) const FOREIGN_LAYERS: &[&str] = &[
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ];

    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// What is sent upstream as `Accept`, always in full (Distribution 2.8 turns schema 2 into schema 1 where it is missing).
    pub const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
}

/// Reads a pushed manifest, whose size the caller has capped. `content_type` is the header's value with its parameters, if there was one.
pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Manifest, ProtocolError> {
    let media_type = accepted_type(content_type)?;
    let document = json::read(bytes, json::Keys::Manifest)
        .map_err(|error| invalid(format!("the manifest is no unambiguous JSON: {error}")))?;
    let root = Object::root("the manifest", &document)?;
    check_kind(&root, media_type)?;

    let is_index = matches!(media_type, media_type::OCI_INDEX | media_type::DOCKER_LIST);
    let (config, layers, children) = if is_index {
        root.forbid(&["config", "layers"], "in an index")?;
        (None, Vec::new(), root.descriptors("manifests", MAX_CHILDREN)?)
    } else {
        root.forbid(&["manifests"], "beside `layers`")?;
        (
            Some(root.required("config", root.descriptor("config")?)?),
            root.descriptors("layers", MAX_LAYERS)?,
            Vec::new(),
        )
    };
    let config_type = config.as_ref().map(|config: &Descriptor| config.media_type.clone());
    Ok(Manifest {
        media_type: media_type.to_owned(),
        artifact_type: root.artifact_type()?.or(config_type),
        digest: Digest::sha256(bytes),
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        config,
        layers,
        children,
        subject: root.descriptor("subject")?,
        annotations: root.annotations()?,
    })
}

/// Most layers of an image.
const MAX_LAYERS: usize = 4096;
/// Most manifests of an index.
const MAX_CHILDREN: usize = 4096;

/// The one accepted media type that the header names.
fn accepted_type(content_type: Option<&str>) -> Result<&'static str, ProtocolError> {
    const ACCEPTED: [&str; 4] =
        [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST];
    let header = content_type.ok_or_else(|| invalid("a manifest needs a Content-Type: send its media type"))?;
    let essence = header.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
    ACCEPTED.into_iter().find(|accepted| *accepted == essence).ok_or_else(|| {
        let essence = Excerpt(essence);
        invalid(format!("the Content-Type {essence} is none of the OCI and Docker (schema 2) manifest types"))
    })
}

/// Refuses schema 1, and what another reader might take for another kind of manifest.
fn check_kind(root: &Object<'_>, media_type: &str) -> Result<(), ProtocolError> {
    match root.integer("schemaVersion")? {
        Some(2) => {}
        Some(1) => {
            return Err(invalid("schema 1 is not taken: push the image again with a newer client"));
        }
        _ => return Err(invalid("`schemaVersion` must be 2")),
    }
    root.forbid(&["fsLayers", "history", "signatures"], "outside of schema 1")?;
    let is_docker = matches!(media_type, media_type::DOCKER_MANIFEST | media_type::DOCKER_LIST);
    match root.string("mediaType")? {
        Some(inner) if inner == media_type => Ok(()),
        Some(inner) => {
            Err(invalid(format!("`mediaType` is {}, the Content-Type {media_type}: send the same", Excerpt(inner))))
        }
        None if is_docker => Err(invalid(format!("`mediaType` is missing: it must be {media_type}"))),
        None => Ok(()),
    }
}

fn invalid(message: impl Into<String>) -> ProtocolError {
    ProtocolError::new(ErrorCode::ManifestInvalid, message)
}

#[cfg(test)]
mod tests;

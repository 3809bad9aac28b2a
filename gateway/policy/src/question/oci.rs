//! What a manifest of the registry protocol is to a policy.

use super::{Descriptor, Manifest, Platform};
use portcullis_oci::manifest;

impl From<&manifest::Platform> for Platform {
    fn from(platform: &manifest::Platform) -> Self {
        Self {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            cpu_variant: platform.variant.clone(),
        }
    }
}

/// Without `stored-size`, which only the ledger knows.
impl From<&manifest::Descriptor> for Descriptor {
    fn from(descriptor: &manifest::Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.as_str().to_owned(),
            size: descriptor.size,
            stored_size: None,
            artifact_type: descriptor.artifact_type.clone(),
            platform: descriptor.platform.as_ref().map(Platform::from),
            urls: descriptor.urls.clone(),
            annotations: descriptor.annotations.clone(),
        }
    }
}

/// Without `stored-size`, which only the ledger knows.
impl From<&manifest::Manifest> for Manifest {
    fn from(manifest: &manifest::Manifest) -> Self {
        let all = |descriptors: &[manifest::Descriptor]| descriptors.iter().map(Descriptor::from).collect();
        Self {
            media_type: manifest.media_type.clone(),
            artifact_type: manifest.artifact_type.clone(),
            digest: manifest.digest.as_str().to_owned(),
            size: manifest.size,
            config: manifest.config.as_ref().map(Descriptor::from),
            layers: all(&manifest.layers),
            children: all(&manifest.children),
            subject: manifest.subject.as_ref().map(Descriptor::from),
            annotations: manifest.annotations.clone(),
        }
    }
}

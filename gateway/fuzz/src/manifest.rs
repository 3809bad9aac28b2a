//! Manifests.

use crate::go::{Descriptor, Json};
use crate::{Outcome, first_line, text};
use portcullis_oci::manifest::{self, media_type, parse};
use portcullis_oci::{Digest, ErrorCode};

/// A `Content-Type`, and from the next line on a manifest. What is taken is what an upstream written in Go reads in it: the
/// same kind, the same config, layers and children in the same order, the same sizes, the same subject.
pub fn manifest(bytes: &[u8]) -> Outcome {
    let (header, body) = first_line(bytes);
    let manifest = match parse(text(header), body) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert_eq!((error.code, error.status.as_u16()), (ErrorCode::ManifestInvalid, 400));
            assert!(error.message.len() < 1024 && !error.message.contains(char::is_control), "{error:?}");
            return Outcome::Refused;
        }
    };
    assert_eq!((&manifest.digest, manifest.size), (&Digest::sha256(body), body.len() as u64));

    let go = Json::read(body).expect("what is taken is JSON");
    assert_eq!(go.integer("schemaVersion"), 2);
    assert!(["", &manifest.media_type].contains(&go.string("mediaType")), "it is of another kind");
    for key in ["fsLayers", "history", "signatures"] {
        assert_eq!(go.field(key), None, "it is of schema 1, too");
    }
    let config: Vec<Descriptor> = manifest.config.iter().map(seen).collect();
    assert_eq!(go.field("config").map(Json::descriptor).as_slice(), config);
    assert_eq!(go.descriptors("layers"), manifest.layers.iter().map(seen).collect::<Vec<_>>());
    assert_eq!(go.descriptors("manifests"), manifest.children.iter().map(seen).collect::<Vec<_>>());
    let subject: Vec<Descriptor> = manifest.subject.iter().map(seen).collect();
    assert_eq!(go.field("subject").map(Json::descriptor).as_slice(), subject);

    let is_index = [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&manifest.media_type.as_str());
    assert_eq!(is_index, manifest.config.is_none());
    assert!(if is_index { manifest.layers.is_empty() } else { manifest.children.is_empty() });
    Outcome::Taken
}

fn seen(descriptor: &manifest::Descriptor) -> Descriptor {
    Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).expect("a size is what Go's int64 holds"),
    }
}

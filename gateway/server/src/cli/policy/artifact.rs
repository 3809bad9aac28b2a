//! Policies as OCI artifacts: a manifest with one layer of WebAssembly, in the layout of CNCF's guidance ("Wasm OCI Artifact
//! Layout") or in the older one.

use crate::cli::output::Failure;
use portcullis_oci::manifest::{Descriptor, Manifest};
use portcullis_oci::{Digest, Reference, RepositoryName, Tag};

/// The layer.
pub(super) const WASM: &str = "application/wasm";
/// The layer, as it was before.
const WASM_BEFORE: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// The config.
pub(super) const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// Where an artifact is: `[HOST/]PROJECT/…[:TAG][@DIGEST]`; without both it is `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The registry, where one is named.
    pub(super) host: Option<String>,
    /// The repository.
    pub(super) repository: RepositoryName,
    /// The digest where one is named, else the tag.
    pub(super) reference: Reference,
}

impl Place {
    /// Reads a reference as clients write it. What stands before the first slash is a host where it has a dot or a port.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::Usage(format!("{text:?} is no reference ({why}); write [HOST/]PROJECT/NAME[:TAG][@DIGEST]"))
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest).map_err(|error| wrong(error.to_string()))?)),
            None => (text, None),
        };
        let (host, name) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (Some(first.to_ascii_lowercase()), rest)
            }
            _ => (None, name),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) => (name, Some(Tag::parse(tag).map_err(|error| wrong(error.to_string()))?)),
            None => (name, None),
        };
        let repository = RepositoryName::parse(name).map_err(|error| wrong(error.to_string()))?;
        let reference = match (digest, tag) {
            (Some(digest), _) => Reference::Digest(digest),
            (None, Some(tag)) => Reference::Tag(tag),
            (None, None) => Reference::Tag(Tag::parse("latest").map_err(|error| wrong(error.to_string()))?),
        };
        Ok(Self { host, repository, reference })
    }
}

/// The layer that holds the component.
pub(super) fn layer(manifest: &Manifest) -> Result<&Descriptor, Failure> {
    let mut layers = manifest.layers.iter().filter(|layer| layer.media_type == WASM || layer.media_type == WASM_BEFORE);
    match (layers.next(), layers.next()) {
        (Some(layer), None) => Ok(layer),
        (found, _) => Err(Failure::Refused(format!(
            "{} is no policy: it has {} layers of WebAssembly ({WASM}), where a policy has one; push one with `portcullis policy push`",
            manifest.digest,
            if found.is_some() { "several" } else { "no" }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_clients_write_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, host, repository, reference) in [
            ("acme/p", None, "acme/p", "latest"),
            ("acme/p:1.0", None, "acme/p", "1.0"),
            ("registry.example.com/acme/p:1", Some("registry.example.com"), "acme/p", "1"),
            ("127.0.0.1:5000/acme/policies/p", Some("127.0.0.1:5000"), "acme/policies/p", "latest"),
            ("LOCALHOST:5000/acme/p:1", Some("localhost:5000"), "acme/p", "1"),
            ("[::1]:5000/acme/p:1", Some("[::1]:5000"), "acme/p", "1"),
            (&format!("acme/p@{digest}"), None, "acme/p", digest.as_str()),
            (&format!("acme/p:1@{digest}"), None, "acme/p", digest.as_str()),
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!((place.host.as_deref(), place.repository.as_str()), (host, repository), "{text}");
            assert_eq!(place.reference.to_string(), reference, "{text}");
        }
        for text in ["", "acme/p:", "acme/p@sha256:1", "Acme/p", "acme//p", "acme/p:-1", "a b/c"] {
            assert!(matches!(Place::parse(text), Err(Failure::Usage(_))), "{text}");
        }
    }
}

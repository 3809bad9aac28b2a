//! Throw-away manifests: an empty index put under a tag in order to delete the tag alone over an upstream that
//! deletes by digest only. Recognised by a keyed mark, so that no client ever pulls one, on any node.

use crate::app::random;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_oci::Digest;
use portcullis_oci::manifest::media_type::OCI_INDEX;

const PREFIX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"portcullis.throwaway":""#;
const SUFFIX: &str = r#""}}"#;
const NONCE_BYTES: usize = 16;
const MARK_BYTES: usize = NONCE_BYTES + 32;
/// base64 without padding of the mark.
const MARK_TEXT: usize = MARK_BYTES / 3 * 4;

/// What every throw-away measures.
const LENGTH: usize = PREFIX.len() + MARK_TEXT + SUFFIX.len();

/// Makes and recognises throw-aways.
pub struct Throwaways(hmac::Key);

/// A throw-away manifest.
pub struct Throwaway {
    /// Its bytes, an OCI index.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

impl Throwaways {
    /// What it is pushed as.
    pub const MEDIA_TYPE: &str = OCI_INDEX;

    /// With the deployment's key for this purpose.
    pub fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    /// A new one; random, so that its digest is unique to the operation.
    pub fn make(&self) -> Throwaway {
        let mut mark = [0; NONCE_BYTES];
        random(&mut mark);
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&mark);
        let mut mark = mark.to_vec();
        mark.extend_from_slice(context.sign().as_ref());
        let bytes = format!("{PREFIX}{}{SUFFIX}", URL_SAFE_NO_PAD.encode(mark)).into_bytes();
        Throwaway { digest: Digest::sha256(&bytes), bytes }
    }

    /// Whether an answer with these headers could be one, so that its bytes must be looked at. Cheap: asked on every pull.
    pub fn could_be(content_type: Option<&[u8]>, content_length: Option<u64>) -> bool {
        content_length == Some(LENGTH as u64) && content_type == Some(OCI_INDEX.as_bytes())
    }

    /// Whether these bytes are a throw-away of this deployment.
    pub fn is_ours(&self, bytes: &[u8]) -> bool {
        let mark = bytes
            .strip_prefix(PREFIX.as_bytes())
            .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()))
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        mark.as_deref()
            .and_then(|mark| mark.split_at_checked(NONCE_BYTES))
            .is_some_and(|(nonce, tag)| hmac::verify(&self.0, nonce, tag).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throwaways() -> Throwaways {
        Throwaways(hmac::Key::new(hmac::HMAC_SHA256, b"key"))
    }

    #[test]
    fn a_throwaway_is_recognised_by_its_own_deployment_alone() {
        let made = throwaways().make();
        assert!(throwaways().is_ours(&made.bytes));
        assert!(Throwaways::could_be(Some(OCI_INDEX.as_bytes()), Some(made.bytes.len() as u64)));
        let other = Throwaways(hmac::Key::new(hmac::HMAC_SHA256, b"other"));
        assert!(!other.is_ours(&made.bytes));
    }

    #[test]
    fn each_throwaway_has_a_digest_of_its_own() {
        assert_ne!(throwaways().make().digest, throwaways().make().digest);
    }

    #[test]
    fn a_tenants_index_of_the_same_length_is_not_taken_for_one() {
        let forged = format!("{PREFIX}{}{SUFFIX}", "A".repeat(MARK_TEXT));
        assert!(!throwaways().is_ours(forged.as_bytes()));
    }
}

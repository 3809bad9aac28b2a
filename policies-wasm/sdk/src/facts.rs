//! What the gateway looked up before it asked, because [`Policy::WANTS`](crate::Policy::WANTS) names it.
//!
//! Answers come at once. Natively they come from [`testing::set_facts`](crate::testing::set_facts).

use crate::{Descriptor, ImageConfig, Usage};

#[cfg(target_family = "wasm")]
use crate::bindings::portcullis::policy::facts as source;
#[cfg(not(target_family = "wasm"))]
use crate::testing::facts as source;

/// The digest that a tag of this repository points to; none where there is no such tag. Wants `tag-digest`.
pub fn tag_digest(tag: &str) -> Option<String> {
    source::tag_digest(tag)
}

/// The tags of this repository that point to a digest. Wants `tags-of-digest`.
pub fn tags_of_digest(digest: &str) -> Vec<String> {
    source::tags_of_digest(digest)
}

/// The configuration of the image in question; none where it is an index or no image. Wants `image-config`.
pub fn image_config() -> Option<ImageConfig> {
    source::get_image_config()
}

/// What the project uses of its quota. Wants `usage`.
pub fn usage() -> Usage {
    source::get_usage()
}

/// When a digest was pushed, in milliseconds since 1970; none where that is not known. Wants `pushed-at`.
pub fn pushed_at_ms(digest: &str) -> Option<u64> {
    source::pushed_at_ms(digest)
}

/// What refers to the image in question: signatures, attestations, bills of material. Wants `referrers`.
pub fn referrers() -> Vec<Descriptor> {
    source::referrers()
}

/// Who signed the image in question, as verified by the gateway. Wants `verified-signers`.
pub fn verified_signers() -> Vec<String> {
    source::verified_signers()
}

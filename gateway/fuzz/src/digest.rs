//! Digests, and bytes checked against them.

use crate::{Outcome, first_line, text};
use portcullis_oci::Digest;

/// A digest, and from the next line on some bytes. A digest has one spelling, and nothing in it that means anything in a path;
/// bytes have their own digest, however they come, and no other.
pub fn digest(bytes: &[u8]) -> Outcome {
    let (line, content) = first_line(bytes);
    let own = Digest::sha256(content);
    assert_eq!(Digest::parse(own.as_str()).as_ref(), Ok(&own));
    let (before, behind) = content.split_at(content.len() / 3);
    assert!(is_of(&own, &[before, behind]) && !is_of(&own, &[before, behind, b"x"]), "{own}");

    let Some(digest) = text(line).and_then(|text| Digest::parse(text).ok()) else { return Outcome::Refused };
    assert_eq!(digest.as_str().as_bytes(), line);
    assert_eq!(format!("{}:{}", digest.algorithm(), digest.encoded()), digest.as_str());
    assert!(line.len() <= 255 && line.iter().all(|byte| byte.is_ascii_graphic() && !b"/\\%?#&;".contains(byte)));
    assert_eq!(digest.is_computable(), digest.verifier().is_some());
    if digest.algorithm() == "sha256" {
        assert_eq!(is_of(&digest, &[content]), digest == own);
    }
    Outcome::Taken
}

fn is_of(digest: &Digest, pieces: &[&[u8]]) -> bool {
    digest.verifier().is_some_and(|mut verifier| {
        pieces.iter().for_each(|piece| verifier.update(piece));
        verifier.matches()
    })
}

//! Content digests, `algorithm:encoded` (OCI Image Specification, "Digests"), and verification of bytes against them.

use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA384, SHA512, digest};
use std::fmt;

/// A digest that matches the grammar, at most 255 bytes; sha256, sha384 and sha512 also have the right length and lower-case
/// hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Box<str>);

/// A string is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `algorithm:encoded`, such as sha256 with 64 lower-case hex digits")]
pub struct DigestError;

impl Digest {
    /// Parses `algorithm:encoded`.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError)?;
        let valid = match computable(algorithm) {
            Some((_, hex_digits)) => {
                encoded.len() == hex_digits && encoded.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            }
            None => {
                text.len() <= MAX_BYTES
                    && algorithm.split(['+', '.', '_', '-']).all(is_algorithm_component)
                    && !encoded.is_empty()
                    && encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-'))
            }
        };
        if valid { Ok(Self(text.into())) } else { Err(DigestError) }
    }

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of_hash("sha256", digest(&SHA256, bytes).as_ref())
    }

    fn of_hash(algorithm: &str, hash: &[u8]) -> Self {
        let mut text = format!("{algorithm}:");
        text.extend(hex_digits(hash));
        Self(text.into())
    }

    /// The whole digest, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256`.
    pub fn algorithm(&self) -> &str {
        self.halves().0
    }

    /// The hex digits.
    pub fn encoded(&self) -> &str {
        self.halves().1
    }

    fn halves(&self) -> (&str, &str) {
        self.0.split_once(':').expect("a parsed digest has a colon")
    }

    /// A running check of bytes against this digest; `None` where the algorithm cannot be computed here.
    pub fn verifier(&self) -> Option<Verifier> {
        let (algorithm, _) = computable(self.algorithm())?;
        Some(Verifier { context: Context::new(algorithm), expected: self.clone() })
    }

    /// Whether bytes can be checked against it here.
    pub fn is_computable(&self) -> bool {
        computable(self.algorithm()).is_some()
    }
}

/// Hashes bytes as they pass and says in the end whether they were the digest's.
pub struct Verifier {
    context: Context,
    expected: Digest,
}

impl Verifier {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Whether all bytes together have the digest.
    pub fn matches(self) -> bool {
        let hash = self.context.finish();
        hex_digits(hash.as_ref()).eq(self.expected.encoded().chars())
    }
}

/// Most bytes of a digest.
const MAX_BYTES: usize = 255;

/// The algorithms that are computed here, and how many hex digits their digests have.
fn computable(algorithm: &str) -> Option<(&'static Algorithm, usize)> {
    match algorithm {
        "sha256" => Some((&SHA256, 64)),
        "sha384" => Some((&SHA384, 96)),
        "sha512" => Some((&SHA512, 128)),
        _ => None,
    }
}

fn hex_digits(hash: &[u8]) -> impl Iterator<Item = char> {
    hash.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16))
}

fn is_algorithm_component(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::sha256(b"").as_str(), EMPTY);
        assert_eq!(Digest::parse(EMPTY), Ok(Digest::sha256(b"")));
    }

    #[test]
    fn a_digest_falls_apart_at_its_colon() {
        let digest = Digest::parse("sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564").unwrap();
        assert_eq!(digest.algorithm(), "sha256+b64u");
        assert_eq!(digest.encoded(), "LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564");
        assert!(!digest.is_computable());
        assert!(digest.verifier().is_none());
    }

    #[test]
    fn digests_against_the_grammar_are_refused() {
        let hex = "a".repeat(64);
        let refused = [
            String::new(),
            ":".into(),
            "sha256".into(),
            "sha256:".into(),
            format!(":{hex}"),
            format!("sha256:{}", "a".repeat(63)),
            format!("sha256:{}", "a".repeat(65)),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}", "g".repeat(64)),
            format!("sha512:{hex}"),
            format!("sha384:{hex}"),
            format!("SHA256:{hex}"),
            format!("sha256::{hex}"),
            format!("other+:{hex}"),
            format!("+other:{hex}"),
            format!("ot++her:{hex}"),
            "other:a/b".into(),
            "other:a%20".into(),
            "other:é".into(),
            format!("other:{}", "a".repeat(250)),
        ];
        for text in refused {
            assert_eq!(Digest::parse(&text), Err(DigestError), "{text:?}");
        }
        assert!(Digest::parse(&format!("other:{}", "a".repeat(249))).is_ok());
    }

    #[test]
    fn sha384_and_sha512_are_verified() {
        for (algorithm, name) in [(&SHA384, "sha384"), (&SHA512, "sha512")] {
            let expected = Digest::parse(Digest::of_hash(name, digest(algorithm, b"abc").as_ref()).as_str()).unwrap();
            let mut verifier = expected.verifier().unwrap();
            verifier.update(b"a");
            verifier.update(b"bc");
            assert!(verifier.matches());
            assert!(!expected.verifier().unwrap().matches());
        }
    }

    proptest! {
        #[test]
        fn bytes_match_their_own_digest_in_any_pieces_and_no_other(bytes: Vec<u8>, cut: prop::sample::Index, other: Vec<u8>) {
            let digest = Digest::sha256(&bytes);
            prop_assert_eq!(Digest::parse(digest.as_str()), Ok(digest.clone()));
            let (head, tail) = bytes.split_at(cut.index(bytes.len().saturating_add(1)));
            let mut verifier = digest.verifier().unwrap();
            verifier.update(head);
            verifier.update(tail);
            prop_assert!(verifier.matches());
            let mut verifier = digest.verifier().unwrap();
            verifier.update(&other);
            prop_assert_eq!(verifier.matches(), other == bytes);
        }

        #[test]
        fn what_the_grammar_generates_is_taken(text in "[a-z][a-z0-9]{0,3}([+._-][a-z0-9]{1,3}){1,3}:[a-zA-Z0-9=_-]{1,90}") {
            let digest = Digest::parse(&text).unwrap();
            prop_assert_eq!(format!("{}:{}", digest.algorithm(), digest.encoded()), text);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in any::<String>()) {
            let _ = Digest::parse(&text);
        }
    }
}

//! Robot secrets: `pcr_` + 43 base62 digits (256 random bits) + 6 base62 digits (CRC-32 of what stands before).
//!
//! The checksum is tested before any look-up; only the SHA-256 is kept; comparison takes constant time.

use crate::{Random, digits};
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How every secret begins.
pub const PREFIX: &str = "pcr_";
const RANDOM_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const LENGTH: usize = PREFIX.len() + RANDOM_DIGITS + CHECKSUM_DIGITS;

/// A secret as its holder knows it. Shown once, wiped when dropped, never printed by `Debug`.
pub struct Secret(Zeroizing<String>);

/// What is kept of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl Secret {
    /// Makes a new one.
    pub fn generate(random: Random<'_>) -> Self {
        let mut number = Zeroizing::new([0; 32]);
        random(number.as_mut_slice());
        // The whole length at once: a string that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(PREFIX);
        text.extend(digits::base62::<RANDOM_DIGITS>(number.as_mut_slice()).iter().map(|digit| char::from(*digit)));
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.iter().map(|digit| char::from(*digit)));
        Self(text)
    }

    /// Its text, to be shown to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What to keep of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
thread_local! {
    /// How often this thread has compared.
    pub(crate) static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl SecretHash {
    /// The hash of a candidate, if its form and checksum are right.
    pub fn of_candidate(candidate: &str) -> Option<Self> {
        let bytes = candidate.as_bytes();
        if bytes.len() != LENGTH {
            return None;
        }
        let (body, claimed) = bytes.split_last_chunk::<CHECKSUM_DIGITS>()?;
        let random_part = body.strip_prefix(PREFIX.as_bytes())?;
        let sound = random_part.iter().all(|byte| digits::is_base62(*byte)) && checksum(body) == *claimed;
        sound.then(|| Self::of(bytes))
    }

    /// Constant-time comparison.
    pub fn matches(&self, candidate: &Self) -> bool {
        #[cfg(test)]
        COMPARED.with(|compared| compared.set(compared.get().saturating_add(1)));
        self.0.ct_eq(&candidate.0).into()
    }

    fn of(text: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text).as_ref());
        Self(hash)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    *digits::base62(&mut crc32fast::hash(body).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(fill: u8) -> Secret {
        Secret::generate(&move |bytes: &mut [u8]| bytes.fill(fill))
    }

    #[test]
    fn a_secret_is_recognised_by_prefix_length_and_checksum() {
        let secret = secret(7);
        let text = secret.expose();
        assert_eq!(text.len(), 53);
        assert!(text.starts_with("pcr_"));
        assert!(text.bytes().skip(4).all(|byte| byte.is_ascii_alphanumeric()));
        assert!(SecretHash::of_candidate(text).is_some_and(|hash| hash.matches(&secret.hash())));
    }

    #[test]
    fn every_single_wrong_character_is_caught_by_form_or_checksum() {
        let secret = secret(7);
        for place in 0..secret.expose().len() {
            for wrong in [b'0', b'a', b'Z', b'-', b' '] {
                let mut text = secret.expose().as_bytes().to_vec();
                if text[place] != wrong {
                    text[place] = wrong;
                    assert!(SecretHash::of_candidate(std::str::from_utf8(&text).unwrap()).is_none(), "place {place}");
                }
            }
        }
    }

    #[test]
    fn a_right_checksum_does_not_help_a_wrong_form() {
        for body in
            [format!("xyz_{}", "0".repeat(43)), format!("pcr_{}", "0".repeat(42)), format!("pcr_{}", "-".repeat(43))]
        {
            let sum = checksum(body.as_bytes());
            let text = format!("{body}{}", std::str::from_utf8(&sum).unwrap());
            assert!(SecretHash::of_candidate(&text).is_none(), "{body}");
        }
    }

    #[test]
    fn secrets_differ_with_their_random_bytes_and_so_do_their_hashes() {
        assert!(!secret(1).hash().matches(&secret(2).hash()));
    }

    #[test]
    fn debug_shows_neither_the_secret_nor_its_hash() {
        let secret = secret(7);
        assert_eq!(format!("{secret:?} {:?}", secret.hash()), "Secret(..) SecretHash(..)");
    }

    proptest! {
        #[test]
        fn every_generated_secret_is_a_sound_candidate(bytes: [u8; 32]) {
            let secret = Secret::generate(&move |out: &mut [u8]| out.copy_from_slice(&bytes));
            prop_assert_eq!(SecretHash::of_candidate(secret.expose()), Some(secret.hash()));
        }

        #[test]
        fn no_other_text_is_a_candidate(text in ".{0,80}") {
            prop_assert_eq!(SecretHash::of_candidate(&text), None);
        }
    }
}

//! The rules of the house: projects, robots, credentials, grants, tokens. No HTTP, no SQL; time and randomness are passed in.

pub mod audit;
pub mod credential;
mod digits;
pub mod error;
pub mod grant;
pub mod key;
pub mod ledger;
pub mod limit;
#[cfg(test)]
mod memory;
pub mod policy;
pub mod project;
pub mod quota;
pub mod robot;
pub mod store;
pub mod token;

pub use error::TenancyError;
pub use grant::Grant;
pub use jiff::Timestamp;
pub use project::{Project, ProjectId, ProjectName};
pub use robot::{Robot, RobotId};
pub use store::{Store, StoreError};

/// A source of random bytes, passed in so that the rules stay repeatable in tests.
pub type Random<'a> = &'a (dyn Fn(&mut [u8]) + Send + Sync);

/// A new random identifier: 128 bits as 26 lower-case base32 digits.
pub fn random_id(random: Random<'_>) -> Box<str> {
    let mut bytes = [0; 16];
    random(&mut bytes);
    digits::base32(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn random_ids_are_26_lower_case_digits_and_differ_wherever_the_bytes_differ() {
        let ids: HashSet<Box<str>> = (0..16)
            .map(|place| {
                random_id(&|bytes: &mut [u8]| {
                    bytes.fill(0);
                    bytes[place] = 1;
                })
            })
            .chain([random_id(&|bytes: &mut [u8]| bytes.fill(0)), random_id(&|bytes: &mut [u8]| bytes.fill(255))])
            .collect();
        assert_eq!(ids.len(), 18);
        for id in ids {
            assert_eq!(id.len(), 26);
            assert!(id.bytes().all(|digit| digit.is_ascii_lowercase() || (b'2'..=b'7').contains(&digit)), "{id}");
        }
    }
}

//! `WWW-Authenticate`, as upstreams send it.

use crate::{Outcome, text};
use portcullis_oci::challenge::{UpstreamChallenge, bearer_challenge, parse_challenge};

/// The longest that is read, in bytes.
const LONGEST: usize = 8192;

/// A header's value. What is read has a realm and no control characters; written by us, it is read again as the same, but for
/// what a header cannot hold.
pub fn challenge(bytes: &[u8]) -> Outcome {
    let Some(text) = text(bytes) else { return Outcome::Refused };
    let (realm, service, scope) = match parse_challenge(text) {
        None => return Outcome::Refused,
        Some(UpstreamChallenge::Basic) => return Outcome::Taken,
        Some(UpstreamChallenge::Bearer { realm, service, scope }) => (realm, service, scope),
    };
    assert!(!realm.is_empty() && text.len() <= LONGEST);
    for part in [Some(&realm), service.as_ref(), scope.as_ref()].into_iter().flatten() {
        assert!(part.len() <= text.len() && !part.contains(char::is_control), "{part:?}");
    }
    let written = bearer_challenge(&realm, &service.unwrap_or_default(), &[], None);
    let again = parse_challenge(written.to_str().expect("it was written as ASCII"));
    let held: String = realm.chars().filter(|c| matches!(c, ' '..='~')).collect();
    match again {
        Some(UpstreamChallenge::Bearer { realm, scope: None, .. }) => assert_eq!(realm, held),
        None => assert!(held.is_empty() || written.len() > LONGEST, "{written:?}"),
        other => panic!("{written:?} is read as {other:?}"),
    }
    Outcome::Taken
}

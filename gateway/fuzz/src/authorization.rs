//! `Authorization`, as clients send it.

use crate::Outcome;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use portcullis_oci::challenge::{Authorization, parse_authorization};
use portcullis_tenancy::credential::SecretHash;

/// A header's value. User name and password fall apart at the first colon and hold no control characters; credentials have one
/// spelling behind their scheme; no password but one of our form is looked up.
pub fn authorization(bytes: &[u8]) -> Outcome {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return Outcome::Refused };
    let Ok(read) = parse_authorization(&value) else { return Outcome::Refused };
    let (scheme, credentials) = match &read {
        Authorization::Basic { username, password } => {
            assert!(!username.contains(':') && !format!("{username}{password}").contains(char::is_control));
            if SecretHash::of_candidate(password).is_some() {
                assert!(password.starts_with("pcr_") && password.len() == 53, "{password}");
            }
            ("Basic", STANDARD.encode(format!("{username}:{password}")))
        }
        Authorization::Bearer(token) => ("Bearer", (*token).to_owned()),
    };
    let shown = value.to_str().expect("what is read is ASCII");
    let (sent_scheme, sent) = shown.split_once(' ').expect("what is read has credentials");
    assert!(sent_scheme.eq_ignore_ascii_case(scheme), "{shown}");
    assert_eq!(sent.trim_matches(' '), credentials, "one spelling");
    assert!(credentials.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','), "{credentials}");
    let again = HeaderValue::try_from(format!("{scheme} {credentials}")).expect("it came in a header");
    assert!(parse_authorization(&again) == Ok(read), "{shown}");
    Outcome::Taken
}

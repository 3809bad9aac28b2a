//! What must stand in no log, metric, trace or error: found by its form, whoever it belongs to, and by its value where the
//! test's own files hold it. Every gateway is looked at when a test lets go of it, and every error that a test is answered.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter values are no secrets: they would be found in anything.
const SHORTEST: usize = 8;
/// How much is shown of what stands before a secret. Of the secret itself, nothing is.
const SHOWN: usize = 120;

/// A secret that was found: what it is, and what stands before it.
pub type Found = String;

/// All secrets in a text that are recognised by their form.
pub fn by_form(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (what, begin, is_part, least) in FORMS {
        for (at, _) in text.match_indices(begin) {
            let rest = &text[at + begin.len()..];
            let length = rest.bytes().take_while(|byte| is_part(*byte)).count();
            // In the middle of a longer word it is chance: digests and sealed locations are long.
            let inside = text[..at].bytes().next_back().is_some_and(is_base64url);
            let is_one = length >= least && !inside && (what != BASIC || is_credentials(&rest[..length]));
            if is_one {
                found.push(shown(what, text, at));
            }
        }
    }
    found
}

/// All places of these values in a text, as they are, in hexadecimal digits and in Base64.
pub fn by_value(text: &str, values: &[Vec<u8>]) -> Vec<Found> {
    let mut found = Vec::new();
    for value in values.iter().filter(|value| value.len() >= SHORTEST) {
        let hex = value.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let mut spellings = vec![hex.clone(), hex.to_uppercase(), STANDARD_NO_PAD.encode(value)];
        spellings.push(URL_SAFE_NO_PAD.encode(value));
        spellings.extend(std::str::from_utf8(value).map(str::to_owned));
        // Its bytes, as Rust shows them.
        spellings.push(format!("{value:?}").trim_matches(['[', ']']).to_owned());
        for spelling in spellings {
            found.extend(text.match_indices(&spelling).map(|(at, _)| shown("a secret of this test's", text, at)));
        }
    }
    found
}

/// Fails the test where a text holds a secret by its form.
#[track_caller]
pub fn none_in(what: &str, text: &str) {
    let found = by_form(text);
    assert!(found.is_empty(), "{what} holds secrets: {found:#?}");
}

const BASIC: &str = "Basic credentials";

type Form = (&'static str, &'static str, fn(u8) -> bool, usize);

/// What it is, how it begins, what it goes on with, and for how long at least.
const FORMS: [Form; 6] = [
    ("a robot's secret", "pcr_", |byte| byte.is_ascii_alphanumeric(), 40),
    ("a token", "eyJ", is_base64url, 16),
    (BASIC, "Basic ", is_base64, SHORTEST),
    (BASIC, "basic ", is_base64, SHORTEST),
    ("Bearer credentials", "Bearer ", is_base64url, 20),
    ("a private key", "PRIVATE KEY-----", |_| true, 1),
];

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn is_credentials(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|decoded| decoded.contains(&b':'))
}

fn shown(what: &str, text: &str, at: usize) -> Found {
    let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
    let start = (line.max(at.saturating_sub(SHOWN))..=at).find(|start| text.is_char_boundary(*start)).unwrap_or(at);
    format!("{what} after: {}", &text[start..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_their_form_and_not_shown() {
        let robot = format!("pcr_{}", "a1B2".repeat(13));
        let token = format!("eyJhbGciOiJFZERTQSJ9.{}.{}", "eyJzdWIi".repeat(3), "x".repeat(40));
        let basic = STANDARD.encode(format!("acme+ci:{robot}"));
        for (text, what) in [
            (format!("password={robot} "), "a robot's secret"),
            (format!("\"token\":\"{token}\""), "a token"),
            (format!("authorization: Basic {basic}"), BASIC),
            (format!("Authorization: Bearer {token}"), "Bearer credentials"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C".to_owned(), "a private key"),
        ] {
            let found = by_form(&format!("a line\n{text}\n"));
            assert!(found.iter().any(|one| one.starts_with(what)), "{text}: {found:?}");
            assert!(found.iter().all(|one| !one.contains(&robot) && !one.contains(&token)), "{found:?}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_not_taken_for_it() {
        for text in [
            "Basic realm=\"portcullis\"",
            "Bearer realm=\"https://localhost:8443/token\",service=\"portcullis\"",
            "pcr_ and then nothing",
            "location=/v2/acme/a/blobs/uploads/AbCdeyJhbGciOiJFZERTQSJ9AbCd",
            "Basic authentication is off",
        ] {
            assert_eq!(by_form(text), Vec::<Found>::new(), "{text}");
        }
    }

    #[test]
    fn values_are_found_in_every_spelling() {
        let value: Vec<u8> = (200..232).collect();
        let hex = value.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        for spelling in [hex, STANDARD.encode(&value), URL_SAFE_NO_PAD.encode(&value), format!("key: {value:?}")] {
            assert!(!by_value(&format!("x {spelling} y"), std::slice::from_ref(&value)).is_empty(), "{spelling}");
        }
        let password = b"a-password-of-mine".to_vec();
        assert_eq!(by_value("login with a-password-of-mine failed", &[password]).len(), 1);
        assert!(by_value("short", &[b"short".to_vec()]).is_empty());
    }
}

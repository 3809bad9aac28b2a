//! Tokens made by an attacker, or by a later version of ourselves.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A token's header and claims.
pub(super) fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut json = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (json(), json())
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs with the ring's own Ed25519 key, whatever the header says.
fn signed(header: &Value, claims: &Value) -> String {
    let seal = master().seal_key(Purpose::SigningKeys);
    let opened = stored_key(Algorithm::EdDsa, 1, 0, None).open(&seal).unwrap();
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let key = jsonwebtoken::EncodingKey::from_ed_der(&opened.pkcs8);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

fn good() -> (Value, Value) {
    parts(&ring().sign_access(&access(), at(0)).unwrap())
}

fn with(mut value: Value, key: &str, member: Value) -> Value {
    value[key] = member;
    value
}

fn without(mut value: Value, key: &str) -> Value {
    value.as_object_mut().unwrap().remove(key);
    value
}

fn verdict(token: &str) -> Result<Access, TokenError> {
    ring().verify_access(token, NO_GRACE, at(1))
}

/// What becomes of a token with this header, properly signed over it.
fn header_verdict(header: &Value) -> Result<Access, TokenError> {
    verdict(&signed(header, &good().1))
}

fn claims_verdict(claims: &Value) -> Result<Access, TokenError> {
    verdict(&signed(&good().0, claims))
}

#[test]
fn the_forger_of_these_tests_forges_well() {
    let (header, claims) = good();
    assert_eq!(verdict(&signed(&header, &claims)), Ok(access()));
}

#[test]
fn alg_none_is_refused_with_and_without_a_signature() {
    for none in ["none", "None", "NONE", ""] {
        let header = with(good().0, "alg", json!(none));
        assert_eq!(header_verdict(&header), Err(TokenError::Algorithm));
        let unsigned = format!("{}.{}.", encoded(&header), encoded(&good().1));
        assert_eq!(verdict(&unsigned), Err(TokenError::Malformed));
    }
}

#[test]
fn an_algorithm_other_than_the_keys_is_refused() {
    for alg in ["ES256", "HS256", "RS256", "PS256", "ES384", "eddsa", "Ed25519"] {
        assert_eq!(header_verdict(&with(good().0, "alg", json!(alg))), Err(TokenError::Algorithm), "{alg}");
    }
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    let seal = master().seal_key(Purpose::SigningKeys);
    let opened = stored_key(Algorithm::EdDsa, 1, 0, None).open(&seal).unwrap();
    for secret in [opened.public.clone(), opened.public_jwk.to_string().into_bytes(), opened.kid.as_bytes().to_vec()] {
        for (kid, expected) in [(&*opened.kid, TokenError::Algorithm), ("refresh", TokenError::Kind)] {
            let header = with(with(good().0, "alg", json!("HS256")), "kid", json!(kid));
            let message = format!("{}.{}", encoded(&header), encoded(&good().1));
            let key = jsonwebtoken::EncodingKey::from_secret(&secret);
            let tag = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
            assert_eq!(verdict(&format!("{message}.{tag}")), Err(expected));
        }
    }
}

#[test]
fn not_even_our_own_refresh_key_signs_an_access_token() {
    let bytes = master().mac_key_bytes(Purpose::RefreshTokens);
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "refresh"});
    let message = format!("{}.{}", encoded(&header), encoded(&good().1));
    let key = jsonwebtoken::EncodingKey::from_secret(bytes.as_slice());
    let tag = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    assert_eq!(verdict(&format!("{message}.{tag}")), Err(TokenError::Kind));
}

/// A refresh token with these claims, properly signed over them.
fn refresh_verdict(claims: &Value) -> Result<Refresh, TokenError> {
    let bytes = master().mac_key_bytes(Purpose::RefreshTokens);
    let header = json!({"alg": "HS256", "typ": "portcullis-refresh+jwt", "kid": "refresh"});
    let message = format!("{}.{}", encoded(&header), encoded(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(bytes.as_slice());
    let tag = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    ring().verify_refresh(&format!("{message}.{tag}"), at(1))
}

#[test]
fn a_refresh_token_has_us_as_issuer_and_as_audience() {
    let (_, claims) = parts(&ring().sign_refresh(&refresh(), at(0), &counting()).unwrap());
    assert_eq!(refresh_verdict(&claims), Ok(refresh()));
    assert_eq!(refresh_verdict(&with(claims.clone(), "aud", json!(SERVICE))), Err(TokenError::Foreign));
    assert_eq!(refresh_verdict(&with(claims.clone(), "iss", json!("somebody else"))), Err(TokenError::Foreign));
    for name in ["iss", "aud", "iat", "jti", "robot", "secret"] {
        assert_eq!(refresh_verdict(&without(claims.clone(), name)), Err(TokenError::Malformed), "{name}");
    }
}

#[test]
fn neither_nbf_nor_iat_may_lie_in_the_future() {
    for name in ["nbf", "iat"] {
        let (soon, later) = (at(61).as_second(), at(62).as_second());
        assert!(claims_verdict(&with(good().1, name, json!(soon))).is_ok(), "{name}");
        assert_eq!(claims_verdict(&with(good().1, name, json!(later))), Err(TokenError::NotYet), "{name}");
    }
}

#[test]
fn a_key_that_the_token_carries_is_never_looked_at() {
    let seal = master().seal_key(Purpose::SigningKeys);
    let foreign = stored_key(Algorithm::EdDsa, 99, 0, None).open(&seal).unwrap();
    for (kid, expected) in
        [(&*foreign.kid, TokenError::UnknownKey), (good().0["kid"].as_str().unwrap(), TokenError::Signature)]
    {
        let mut header = with(good().0, "kid", json!(kid));
        header["jwk"] = foreign.public_jwk.clone();
        header["jku"] = json!("https://attacker.example/keys");
        header["x5c"] = json!(["AAAA"]);
        let message = format!("{}.{}", encoded(&header), encoded(&good().1));
        let key = jsonwebtoken::EncodingKey::from_ed_der(&foreign.pkcs8);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::EdDSA).unwrap();
        assert_eq!(verdict(&format!("{message}.{signature}")), Err(expected));
    }
}

#[test]
fn a_token_that_calls_something_critical_is_refused() {
    for crit in [json!(["exp"]), json!([]), json!(null), json!("b64")] {
        assert_eq!(header_verdict(&with(good().0, "crit", crit)), Err(TokenError::Malformed));
    }
}

#[test]
fn an_unknown_or_missing_kid_is_an_unknown_key() {
    assert_eq!(header_verdict(&with(good().0, "kid", json!("unknown"))), Err(TokenError::UnknownKey));
    assert_eq!(header_verdict(&without(good().0, "kid")), Err(TokenError::UnknownKey));
}

#[test]
fn any_other_typ_is_another_kind() {
    for typ in ["JWT", "AT+JWT", "application/at+jwt", "portcullis-refresh+jwt", "portcullis-session+jwt", ""] {
        assert_eq!(header_verdict(&with(good().0, "typ", json!(typ))), Err(TokenError::Kind), "{typ}");
    }
    assert_eq!(header_verdict(&without(good().0, "typ")), Err(TokenError::Kind));
}

#[test]
fn the_audience_may_be_a_text_or_a_list_that_holds_us() {
    for ours in [json!(SERVICE), json!([SERVICE]), json!(["other", SERVICE])] {
        assert_eq!(claims_verdict(&with(good().1, "aud", ours)), Ok(access()));
    }
    for others in [json!("other"), json!([]), json!(["other"]), json!(ISSUER), json!("")] {
        assert_eq!(claims_verdict(&with(good().1, "aud", others)), Err(TokenError::Foreign));
    }
    for nonsense in [json!(null), json!(7), json!({"0": SERVICE})] {
        assert_eq!(claims_verdict(&with(good().1, "aud", nonsense)), Err(TokenError::Malformed));
    }
}

#[test]
fn unknown_claims_are_ignored() {
    assert_eq!(claims_verdict(&with(good().1, "later", json!({"version": 2}))), Ok(access()));
}

#[test]
fn a_missing_or_senseless_claim_is_malformed() {
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access", "projects", "robot", "secret"] {
        assert_eq!(claims_verdict(&without(good().1, name)), Err(TokenError::Malformed), "{name}");
    }
    for (name, senseless) in [
        ("exp", json!("never")),
        ("exp", json!(1e300)),
        ("exp", json!(i64::MAX)),
        ("iat", json!(i64::MIN)),
        ("scope_set", json!("beside access")),
        ("access", json!({})),
        ("access", json!([{"type": "repository", "name": "acme/../globex", "actions": ["pull"]}])),
        ("access", json!([{"type": "repository", "name": "*/**", "actions": ["pull"]}])),
        ("projects", json!([])),
    ] {
        assert_eq!(claims_verdict(&with(good().1, name, senseless)), Err(TokenError::Malformed), "{name}");
    }
    let nameless = without(without(good().1, "robot"), "secret");
    assert_eq!(claims_verdict(&nameless), Err(TokenError::Malformed), "a subject that nobody stands behind");
}

#[test]
fn every_token_has_one_spelling() {
    let token = ring().sign_access(&access(), at(0)).unwrap();
    let (header, rest) = token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    // 64 bytes take 86 digits, of which the last has four bits to spare.
    let stray_bits = format!("{}_", &signature[..85]);
    let padded = URL_SAFE.encode(URL_SAFE_NO_PAD.decode(signature).unwrap());
    assert!(padded.ends_with('='));
    for other in [
        format!("{header}.{claims}.{stray_bits}"),
        format!("{header}.{claims}.{padded}"),
        format!("{header}.{claims}.{signature}."),
        format!(".{header}.{claims}.{signature}"),
        format!("{header}.{claims}..{signature}"),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}.{signature}.{signature}"),
        String::new(),
        "..".into(),
    ] {
        assert_eq!(verdict(&other), Err(TokenError::Malformed), "{other}");
    }
}

#[test]
fn a_header_that_is_no_object_or_says_something_twice_is_malformed() {
    let kid = good().0["kid"].clone();
    for header in [
        "null".to_owned(),
        "\"x\"".into(),
        "[]".into(),
        "{".into(),
        format!(r#"["EdDSA","at+jwt",{kid}]"#),
        format!(r#"{{"alg":"EdDSA","alg":"none","typ":"at+jwt","kid":{kid}}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":{kid}}}x"#),
    ] {
        let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(&header), encoded(&good().1));
        assert_eq!(verdict(&token), Err(TokenError::Malformed), "{header}");
    }
}

#[test]
fn an_array_of_the_members_is_no_object() {
    let (header, claims) = good();
    assert_eq!(header_verdict(&json!([header["alg"], header["typ"], header["kid"]])), Err(TokenError::Malformed));
    let names = "iss sub aud exp nbf iat jti access projects scope_set robot secret".split(' ');
    let members: Vec<&Value> = names.map(|name| claims.get(name).unwrap_or(&Value::Null)).collect();
    assert_eq!(claims_verdict(&json!(members)), Err(TokenError::Malformed));
    let entry = json!([["repository", "acme/app", ["pull"]]]);
    assert_eq!(claims_verdict(&with(claims, "access", entry)), Err(TokenError::Malformed));
}

#[test]
fn the_checks_come_in_their_order() {
    let (header, claims) = good();
    let unsigned = |header: &Value, claims: &Value| format!("{}.{}.AAAA", encoded(header), encoded(claims));
    let late = with(claims.clone(), "exp", json!(0));
    let foreign = with(late.clone(), "iss", json!("somebody else"));

    let mut everything_wrong =
        with(with(with(header.clone(), "kid", json!("x")), "alg", json!("none")), "typ", json!("x"));
    assert_eq!(verdict(&"x".repeat(MAX_TOKEN_BYTES + 1)), Err(TokenError::TooLong));
    assert_eq!(verdict(&"x".repeat(MAX_TOKEN_BYTES)), Err(TokenError::Malformed));
    assert_eq!(verdict(&unsigned(&everything_wrong, &foreign)), Err(TokenError::UnknownKey));
    everything_wrong["kid"] = header["kid"].clone();
    assert_eq!(verdict(&unsigned(&everything_wrong, &foreign)), Err(TokenError::Algorithm));
    everything_wrong["alg"] = header["alg"].clone();
    assert_eq!(verdict(&unsigned(&everything_wrong, &foreign)), Err(TokenError::Kind));
    assert_eq!(verdict(&unsigned(&header, &foreign)), Err(TokenError::Expired));
    let foreign = with(claims.clone(), "iss", json!("somebody else"));
    assert_eq!(verdict(&unsigned(&header, &foreign)), Err(TokenError::Signature));
    assert_eq!(verdict(&signed(&header, &foreign)), Err(TokenError::Foreign));
    assert_eq!(verdict(&signed(&header, &claims)), Ok(access()));
}

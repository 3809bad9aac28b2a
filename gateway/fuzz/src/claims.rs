//! Claims, rightly signed and of any contents: what stands behind the signature's check.

use crate::keys::{GRACE, ISSUER, KEYS, NOW, SERVICE, now};
use crate::{Outcome, first_line};
use portcullis_tenancy::token::{Access, Bearer, Carried, LEEWAY};
use serde_json::Value;

/// A token's header, and from the next line on its claims, in which `<kid>` stands for the key's name. What is taken is for us,
/// by us, of its kind, in its time and of our making; and it says what another reader of JSON finds in it.
pub fn claims(bytes: &[u8]) -> Outcome {
    let (header, claims) = first_line(bytes);
    let named = |part: &[u8]| match std::str::from_utf8(part) {
        Ok(text) => text.replace("<kid>", &KEYS.kid).into_bytes(),
        Err(_) => part.to_vec(),
    };
    let (header, claims) = (named(header), named(claims));
    let token = KEYS.sign(&header, &claims);
    assert!(KEYS.ring.verify_refresh(&token, now()).is_err(), "this key signs no refresh tokens");
    let Ok(access) = KEYS.ring.verify_access(&token, GRACE, now()) else { return Outcome::Refused };

    let header: Value = serde_json::from_slice(&header).expect("it was read");
    assert_eq!((&header["alg"], &header["typ"], &header["kid"]), (&"EdDSA".into(), &"at+jwt".into(), &kid()));
    assert!(header.get("crit").is_none(), "{header}");
    let claims: Value = serde_json::from_slice(&claims).expect("it was read");
    check_times(&claims, access.expired);
    check_bearer(&claims, &access);
    check_carried(&claims, &access.carried);

    let again = KEYS.ring.sign_access(&access, now()).expect("a key is in force");
    assert_eq!(KEYS.ring.verify_access(&again, GRACE, now()), Ok(access), "we would have signed it");
    Outcome::Taken
}

fn kid() -> Value {
    Value::from(KEYS.kid.as_str())
}

fn check_times(claims: &Value, expired: bool) {
    let second = |claim: &str| claims[claim].as_i64().unwrap_or_else(|| panic!("{claim}: {claims}"));
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).expect("some minutes");
    let leeway = seconds(LEEWAY);
    assert!(second("nbf") <= NOW + leeway && second("iat") <= NOW + leeway, "{claims}");
    assert!(NOW < second("exp").saturating_add(leeway + seconds(GRACE)), "{claims}");
    assert_eq!(expired, NOW >= second("exp").saturating_add(leeway), "{claims}");
}

fn check_bearer(claims: &Value, access: &Access) {
    let audience = &claims["aud"];
    let for_us = audience == SERVICE || audience.as_array().is_some_and(|all| all.contains(&SERVICE.into()));
    assert!(claims["iss"] == ISSUER && for_us, "{claims}");
    assert_eq!(claims["jti"], *access.id);
    match &access.bearer {
        Bearer::Anonymous => assert!(claims["sub"] == "" && claims["robot"].is_null() && claims["secret"].is_null()),
        Bearer::Robot { robot, secret, username } => {
            let said = (&claims["robot"], &claims["secret"], &claims["sub"]);
            assert_eq!(said, (&(*robot.0).into(), &(**secret).into(), &username.as_str().into()));
        }
    }
}

fn check_carried(claims: &Value, carried: &Carried) {
    match carried {
        Carried::Stored(id) => {
            assert!(claims["scope_set"] == **id && claims["access"].is_null() && claims["projects"].is_null());
        }
        Carried::Scopes { scopes, projects } => {
            assert!(claims["scope_set"].is_null(), "{claims}");
            let entries = claims["access"].as_array().expect("it was read");
            assert_eq!(entries.len(), scopes.len());
            for (entry, scope) in entries.iter().zip(scopes) {
                let scope = scope.to_string();
                let name = entry["name"].as_str().expect("it was read");
                assert!(scope.starts_with(&format!("{}:{name}:", entry["type"].as_str().expect("it was read"))));
                // `*` stands for all three: what is given is never more than what is said.
                let said: Vec<&str> =
                    entry["actions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let given = scope.rsplit(':').next().unwrap_or_default();
                let covered =
                    |action: &str| said.iter().any(|said| said.split(',').any(|one| one == action || one == "*"));
                assert!(given.split(',').all(covered), "{scope}: {said:?}");
            }
            let named = claims["projects"].as_object().expect("it was read");
            assert_eq!(named.len(), projects.len());
            projects.iter().for_each(|(name, id)| assert_eq!(named[&**name], *id.0));
        }
    }
}

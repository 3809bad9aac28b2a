//! Tokens, as a forger would write them.

use crate::keys::{GRACE, KEYS, NOW, now};
use crate::{Outcome, text};
use portcullis_oci::scope::parse_all;
use portcullis_tenancy::token::{Access, Bearer, Carried, Refresh};
use portcullis_tenancy::{ProjectId, RobotId, Timestamp};
use std::sync::LazyLock;

/// One true access token, and one true refresh token.
static TRUE: LazyLock<(String, String)> = LazyLock::new(|| {
    let scopes = parse_all(["repository:acme/app:pull,push registry:catalog:*"].into_iter()).expect("two scopes");
    let at = |second| Timestamp::from_second(second).expect("a second of this century");
    let access = Access {
        bearer: Bearer::Robot {
            robot: RobotId("robot".into()),
            secret: "secret".into(),
            username: "acme+ci".to_owned(),
        },
        carried: Carried::Scopes { scopes, projects: vec![("acme".into(), ProjectId("project".into()))] },
        issued_at: at(NOW),
        expires_at: at(NOW + 300),
        expired: false,
        id: "jti".into(),
    };
    let refresh = Refresh { robot: RobotId("robot".into()), secret: "secret".into() };
    let random = |bytes: &mut [u8]| bytes.fill(3);
    let sign = KEYS.ring.sign_access(&access, now()).expect("a key is in force");
    (sign, KEYS.ring.sign_refresh(&refresh, now(), &random).expect("a key is in force"))
});

/// A token, in which `<h>`, `<c>` and `<s>` stand for header, claims and signature of a true access token, and `<H>`, `<C>` and
/// `<S>` for those of a true refresh token. Whatever is taken is, to the letter, what we signed.
pub fn token(bytes: &[u8]) -> Outcome {
    let Some(text) = text(bytes) else { return Outcome::Refused };
    let (access, refresh) = &*TRUE;
    let token = expand(&expand(text, ["<h>", "<c>", "<s>"], access), ["<H>", "<C>", "<S>"], refresh);
    let read = KEYS.ring.verify_access(&token, GRACE, now());
    let refreshes = KEYS.ring.verify_refresh(&token, now()).is_ok();
    assert!(!refreshes || token == *refresh, "{token}");
    let Ok(read) = read else { return if refreshes { Outcome::Taken } else { Outcome::Refused } };
    assert!(!refreshes, "it is of two kinds");
    assert_eq!(KEYS.ring.sign_access(&read, now()).expect("a key is in force"), token);
    Outcome::Taken
}

fn expand(text: &str, names: [&str; 3], token: &str) -> String {
    names.iter().zip(token.split('.')).fold(text.to_owned(), |text, (name, part)| text.replace(name, part))
}

use super::*;
use crate::key::{self, Algorithm, MasterKey, Purpose, StoredKey};
use crate::memory::{at, counting};
use portcullis_oci::scope::parse_all;
use proptest::prelude::*;

mod forged;

const ISSUER: &str = "portcullis-test-deployment";
const SERVICE: &str = "portcullis";
const NO_GRACE: Duration = Duration::ZERO;

fn master() -> MasterKey {
    MasterKey::new([7; 32])
}

/// A key that signs from a second on, its id drawn from `fill`.
fn stored_key(algorithm: Algorithm, fill: u8, signs_from: i64, verifies_until: Option<i64>) -> StoredKey {
    let seal = master().seal_key(Purpose::SigningKeys);
    let random = move |bytes: &mut [u8]| bytes.fill(fill);
    let key = key::generate(algorithm, &seal, at(signs_from), at(0), &random).unwrap();
    StoredKey { verifies_until: verifies_until.map(at), ..key }
}

fn ring_of(keys: &[StoredKey]) -> KeyRing {
    KeyRing::open(ISSUER.into(), SERVICE.into(), keys, &master()).unwrap()
}

fn ring() -> KeyRing {
    ring_of(&[stored_key(Algorithm::EdDsa, 1, 0, None)])
}

fn scopes(text: &str) -> Vec<Scope> {
    parse_all([text].into_iter()).unwrap()
}

fn project(name: &str) -> (Box<str>, ProjectId) {
    (name.into(), ProjectId(format!("{name:a<26.26}").into()))
}

fn robot() -> Bearer {
    Bearer::Robot { robot: RobotId("robot-id".into()), secret: "secret-id".into(), username: "acme+ci".into() }
}

/// Lives from second 0 to 300.
fn access() -> Access {
    Access {
        bearer: robot(),
        carried: Carried::Scopes {
            scopes: scopes("repository:acme/app:pull,push repository:acme/team/**:pull registry:catalog:*"),
            projects: vec![project("acme")],
        },
        issued_at: at(0),
        expires_at: at(300),
        expired: false,
        id: "jti".into(),
    }
}

fn refresh() -> Refresh {
    Refresh { robot: RobotId("robot-id".into()), secret: "secret-id".into() }
}

#[test]
fn an_access_token_comes_back_as_it_was_signed() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let ring = ring_of(&[stored_key(algorithm, 1, 0, None)]);
        for bearer in [Bearer::Anonymous, robot()] {
            for carried in [access().carried, Carried::Stored("set-id".into())] {
                let access = Access { bearer: bearer.clone(), carried, ..access() };
                let token = ring.sign_access(&access, at(0)).unwrap();
                assert_eq!(ring.verify_access(&token, NO_GRACE, at(1)), Ok(access));
            }
        }
    }
}

#[test]
fn the_claims_stand_in_distributions_form() {
    let token = ring().sign_access(&access(), at(0)).unwrap();
    let (header, claims) = forged::parts(&token);
    assert_eq!((&header["typ"], &header["alg"]), (&"at+jwt".into(), &"EdDSA".into()));
    assert_eq!(
        claims,
        serde_json::json!({
            "iss": ISSUER, "sub": "acme+ci", "aud": SERVICE, "jti": "jti",
            "exp": at(300).as_second(), "nbf": at(0).as_second(), "iat": at(0).as_second(),
            "access": [
                {"type": "repository", "name": "acme/app", "actions": ["pull", "push"]},
                {"type": "repository", "name": "acme/team/**", "actions": ["pull"]},
                {"type": "registry", "name": "catalog", "actions": ["*"]},
            ],
            "projects": {"acme": project("acme").1.0},
            "robot": "robot-id", "secret": "secret-id",
        })
    );
}

#[test]
fn an_anonymous_token_has_an_empty_subject_and_no_access_is_an_empty_list() {
    let carried = Carried::Scopes { scopes: vec![], projects: vec![] };
    let token = ring().sign_access(&Access { bearer: Bearer::Anonymous, carried, ..access() }, at(0)).unwrap();
    let (_, claims) = forged::parts(&token);
    assert_eq!((&claims["sub"], &claims["access"]), (&"".into(), &serde_json::json!([])));
    assert!(claims.get("robot").is_none() && claims.get("secret").is_none());
}

#[test]
fn a_token_ends_a_leeway_after_its_end() {
    let (ring, token) = (ring(), ring().sign_access(&access(), at(0)).unwrap());
    assert!(ring.verify_access(&token, NO_GRACE, at(359)).is_ok_and(|access| !access.expired));
    assert_eq!(ring.verify_access(&token, NO_GRACE, at(360)), Err(TokenError::Expired));
}

#[test]
fn a_token_within_the_grace_is_marked_expired() {
    let (ring, token) = (ring(), ring().sign_access(&access(), at(0)).unwrap());
    let hour = Duration::from_secs(3600);
    assert!(ring.verify_access(&token, hour, at(359)).is_ok_and(|access| !access.expired));
    assert!(ring.verify_access(&token, hour, at(360)).is_ok_and(|access| access.expired));
    assert!(ring.verify_access(&token, hour, at(3959)).is_ok_and(|access| access.expired));
    assert_eq!(ring.verify_access(&token, hour, at(3960)), Err(TokenError::Expired));
    assert!(ring.verify_access(&token, Duration::MAX, at(3960)).is_ok_and(|access| access.expired));
}

#[test]
fn a_token_from_the_future_is_not_valid_yet() {
    let (ring, token) = (ring(), ring().sign_access(&access(), at(0)).unwrap());
    assert!(ring.verify_access(&token, NO_GRACE, at(-60)).is_ok());
    assert_eq!(ring.verify_access(&token, NO_GRACE, at(-61)), Err(TokenError::NotYet));
    let token = ring.sign_refresh(&refresh(), at(0), &counting()).unwrap();
    assert!(ring.verify_refresh(&token, at(-60)).is_ok());
    assert_eq!(ring.verify_refresh(&token, at(-61)), Err(TokenError::NotYet));
}

#[test]
fn a_refresh_token_is_useless_as_an_access_token_and_the_other_way_round() {
    let ring = ring();
    let access = ring.sign_access(&access(), at(0)).unwrap();
    let token = ring.sign_refresh(&refresh(), at(0), &counting()).unwrap();
    assert_eq!(ring.verify_refresh(&token, at(1)), Ok(refresh()));
    assert_eq!(ring.verify_access(&token, NO_GRACE, at(1)), Err(TokenError::Kind));
    assert_eq!(ring.verify_refresh(&access, at(1)), Err(TokenError::Kind));
    let (header, claims) = forged::parts(&token);
    assert_eq!((&header["typ"], &claims["aud"]), (&"portcullis-refresh+jwt".into(), &ISSUER.into()));
    assert!(claims.get("exp").is_none() && claims.get("access").is_none());
}

#[test]
fn a_refresh_token_outlives_every_rotation_of_keys() {
    let token = ring().sign_refresh(&refresh(), at(0), &counting()).unwrap();
    let years = 10 * 365 * 86_400;
    let later = ring_of(&[stored_key(Algorithm::Es256, 2, years, None)]);
    assert_eq!(later.verify_refresh(&token, at(years)), Ok(refresh()));
}

#[test]
fn two_refresh_tokens_of_one_secret_differ() {
    let (ring, random) = (ring(), counting());
    let sign = || ring.sign_refresh(&refresh(), at(0), &random).unwrap();
    assert_ne!(sign(), sign());
}

#[test]
fn two_nodes_on_one_store_sign_alike() {
    let keys = [stored_key(Algorithm::EdDsa, 1, 0, None)];
    let (one, other) = (ring_of(&keys), ring_of(&keys));
    let token = one.sign_access(&access(), at(0)).unwrap();
    assert!(other.verify_access(&token, NO_GRACE, at(1)).is_ok());
    let token = one.sign_refresh(&refresh(), at(0), &counting()).unwrap();
    assert!(other.verify_refresh(&token, at(1)).is_ok());
}

#[test]
fn another_deployments_tokens_are_foreign_even_under_the_same_keys() {
    let keys = [stored_key(Algorithm::EdDsa, 1, 0, None)];
    let ring = ring_of(&keys);
    for (issuer, service) in [("somebody else", SERVICE), (ISSUER, "something else")] {
        let other = KeyRing::open(issuer.into(), service.into(), &keys, &master()).unwrap();
        let token = other.sign_access(&access(), at(0)).unwrap();
        assert_eq!(ring.verify_access(&token, NO_GRACE, at(1)), Err(TokenError::Foreign));
    }
    let other = KeyRing::open("somebody else".into(), SERVICE.into(), &keys, &master()).unwrap();
    let token = other.sign_refresh(&refresh(), at(0), &counting()).unwrap();
    assert_eq!(ring.verify_refresh(&token, at(1)), Err(TokenError::Foreign));
}

#[test]
fn another_master_keys_refresh_tokens_are_not_ours_and_its_rows_do_not_open() {
    let keys = [stored_key(Algorithm::EdDsa, 1, 0, None)];
    let thief = MasterKey::new([8; 32]);
    assert!(KeyRing::open(ISSUER.into(), SERVICE.into(), &keys, &thief).is_err(), "a backup alone mints nothing");
    let other = KeyRing::open(ISSUER.into(), SERVICE.into(), &[], &thief).unwrap();
    let token = other.sign_refresh(&refresh(), at(0), &counting()).unwrap();
    assert_eq!(ring().verify_refresh(&token, at(1)), Err(TokenError::Signature));
}

#[test]
fn the_newest_key_in_force_signs_and_the_older_ones_verify_until_their_end() {
    let (old, new) = (stored_key(Algorithm::EdDsa, 1, 0, Some(1000)), stored_key(Algorithm::Es256, 2, 100, None));
    let ring = ring_of(&[new.clone(), old.clone()]);
    let kid_at = |second| {
        let token = ring.sign_access(&access(), at(second)).unwrap();
        forged::parts(&token).0["kid"].as_str().unwrap().to_owned()
    };
    assert_eq!(kid_at(99), *old.kid, "not every node knows the new key yet");
    assert_eq!(kid_at(100), *new.kid);

    let token = ring_of(&[stored_key(Algorithm::EdDsa, 1, 0, None)]).sign_access(&access(), at(0)).unwrap();
    let hour = Duration::from_secs(3600);
    assert!(ring.verify_access(&token, hour, at(999)).is_ok());
    assert_eq!(ring.verify_access(&token, hour, at(1000)), Err(TokenError::UnknownKey));
}

#[test]
fn the_key_set_holds_the_public_keys_that_verify_now() {
    let (old, new) = (stored_key(Algorithm::EdDsa, 1, 0, Some(1000)), stored_key(Algorithm::Es256, 2, 100, None));
    let ring = ring_of(&[new.clone(), old.clone()]);
    let kids = |second| {
        let set = ring.jwks(at(second));
        assert!(!set.to_string().contains("\"d\""));
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().into()).collect::<Vec<Box<str>>>()
    };
    assert_eq!(kids(0), [old.kid.clone(), new.kid.clone()], "an upstream may learn of a key before it signs");
    assert_eq!(kids(1000), [new.kid]);
}

#[test]
fn without_a_key_in_force_nothing_is_signed() {
    for keys in
        [vec![], vec![stored_key(Algorithm::EdDsa, 1, 100, None)], vec![stored_key(Algorithm::EdDsa, 1, 0, Some(50))]]
    {
        assert!(matches!(ring_of(&keys).sign_access(&access(), at(50)), Err(crate::TenancyError::Internal(_))));
    }
}

#[test]
fn debug_of_a_ring_names_its_keys_only() {
    let shown = format!("{:?}", ring());
    assert!(shown.contains(ISSUER) && !shown.contains("signing"), "{shown}");
}

/// Two hundred scopes of typical names, as a build that touches many repositories asks for them.
fn many_scopes() -> Vec<Scope> {
    (0..200).flat_map(|n| scopes(&format!("repository:acme/team-{}/service-{n}:pull,push", n % 7))).collect()
}

#[test]
fn two_hundred_scopes_leave_a_token_below_four_kibibytes() {
    let projects = vec![project("acme")];
    let (carried, set) = carry(many_scopes(), projects.clone(), at(300));
    let set = set.expect("too many to be carried inline");
    assert_eq!(carried, Carried::Stored(set.id.clone()));
    let token = ring().sign_access(&Access { carried, ..access() }, at(0)).unwrap();
    assert!(token.len() < 1024, "{}", token.len());
    for scope in many_scopes() {
        assert!(set.scopes.contains(&scope));
    }
    assert_eq!((set.scopes.len(), set.projects, set.expires_at), (200, projects, at(300)));
}

#[test]
fn a_few_scopes_are_carried_inline_in_the_order_asked() {
    let asked = scopes("repository:b/b:pull repository:a/a:push");
    let projects = vec![project("b"), project("a")];
    let (carried, set) = carry(asked.clone(), projects.clone(), at(300));
    assert_eq!((carried, set), (Carried::Scopes { scopes: asked, projects }, None));
}

#[test]
fn what_is_carried_inline_never_makes_a_token_of_four_kibibytes() {
    for count in 1..200 {
        let asked: Vec<Scope> = many_scopes().into_iter().take(count).collect();
        let (carried, _) = carry(asked, vec![project("acme")], at(300));
        let username = format!("{}+{}", "p".repeat(64), "r".repeat(64));
        let bearer = Bearer::Robot { robot: RobotId("r".repeat(26).into()), secret: "s".repeat(26).into(), username };
        let token =
            ring().sign_access(&Access { carried, bearer, id: "j".repeat(26).into(), ..access() }, at(0)).unwrap();
        assert!(token.len() < 4096, "{count} scopes: {}", token.len());
    }
}

#[test]
fn equal_sets_have_equal_ids_and_other_sets_other_ids() {
    let set = |scopes: Vec<Scope>, projects| ScopeSet::new(scopes, projects, at(300)).id;
    let (forwards, mut backwards) = (many_scopes(), many_scopes());
    backwards.reverse();
    let (acme, globex) = (project("acme"), project("globex"));
    let id = set(forwards.clone(), vec![acme.clone(), globex.clone()]);
    assert_eq!(id, set(backwards, vec![globex.clone(), acme.clone()]));
    assert_ne!(id, set(many_scopes().split_off(1), vec![acme.clone(), globex.clone()]));
    assert_ne!(id, set(forwards.clone(), vec![acme.clone()]));
    assert_ne!(id, set(forwards, vec![acme, (globex.0, ProjectId("a younger project".into()))]));
}

#[test]
fn a_stored_set_comes_back_as_it_was_kept() {
    let set = ScopeSet::new(many_scopes(), vec![project("acme")], at(300));
    assert_eq!(ScopeSet::from_json(&set.id, &set.to_json(), set.expires_at).unwrap(), set);
}

#[test]
fn a_stored_set_that_was_changed_is_refused() {
    let set = ScopeSet::new(many_scopes(), vec![project("acme")], at(300));
    let other = ScopeSet::new(many_scopes().split_off(1), vec![project("acme")], at(300));
    let text = set.to_json();
    for (id, changed) in [
        (&set.id, text.replace("service-7\"", "service-8\"")),
        (&set.id, text.replacen("\"pull\"", "\"delete\"", 1)),
        (&set.id, text.replace(&*project("acme").1.0, &project("b").1.0)),
        (&set.id, other.to_json()),
        (&set.id, String::new()),
        (&other.id, text.clone()),
    ] {
        assert_ne!((id, &changed), (&set.id, &text), "something was changed");
        assert!(matches!(ScopeSet::from_json(id, &changed, at(300)), Err(StoreError::Unreadable(_))));
    }
}

#[test]
fn a_text_with_a_right_id_that_is_no_set_is_refused() {
    for text in [
        "",
        "{}",
        r#"{"access":[]}"#,
        r#"{"access":[],"projects":{},"more":1}"#,
        r#"{"access":[],"projects":{"a":"1","a":"2"}}"#,
        r#"{"access":[{"type":"repository","name":"NO","actions":["pull"]}],"projects":{}}"#,
        r#"{"access":[{"type":"repository","name":"a/b","actions":["fly"]}],"projects":{}}"#,
        r#"{"access":[{"type":"repository","name":"a/b","actions":[]}],"projects":{}}"#,
        r#"{"access":[{"type":"registry","name":"catalog","actions":["pull"]}],"projects":{}}"#,
        r#"{"access":[{"type":"secret","name":"a/b","actions":["pull"]}],"projects":{}}"#,
    ] {
        assert!(ScopeSet::from_json(&claims::digest_of(text), text, at(300)).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_is_taken_for_a_token(text in "\\PC{0,200}") {
        prop_assert!(ring().verify_access(&text, NO_GRACE, at(1)).is_err());
        prop_assert!(ring().verify_refresh(&text, at(1)).is_err());
    }

    #[test]
    fn a_token_changed_in_any_one_character_is_refused(place: prop::sample::Index, other in "[A-Za-z0-9_.=-]") {
        let ring = ring();
        for token in [ring.sign_access(&access(), at(0)).unwrap(), ring.sign_refresh(&refresh(), at(0), &counting()).unwrap()] {
            let mut changed = token.clone();
            let place = place.index(token.len());
            changed.replace_range(place..=place, &other);
            if changed != token {
                prop_assert!(ring.verify_access(&changed, NO_GRACE, at(1)).is_err());
                prop_assert!(ring.verify_refresh(&changed, at(1)).is_err());
            }
        }
    }

    /// Security rule 8: compressing never covers a name that was not in the list.
    #[test]
    fn what_is_carried_covers_exactly_what_was_given(
        names in prop::collection::btree_set("(acme|globex)/[a-c]{1,2}(/[a-c]{1,2})?", 0..60),
        others in prop::collection::vec("(acme|globex)/[a-c]{1,2}(/[a-c]{1,2})?", 20),
    ) {
        let given: Vec<Scope> = names.iter().flat_map(|name| scopes(&format!("repository:{name}:pull"))).collect();
        let (carried, set) = carry(given.clone(), vec![project("acme"), project("globex")], at(300));
        let held = match (carried, set) {
            (Carried::Scopes { scopes, .. }, None) => scopes,
            (Carried::Stored(id), Some(set)) => {
                prop_assert_eq!(&id, &set.id);
                ScopeSet::from_json(&id, &set.to_json(), set.expires_at).unwrap().scopes
            }
            other => panic!("{other:?}"),
        };
        for name in names.iter().chain(&others) {
            for action in ["pull", "push", "delete"] {
                let required = scopes(&format!("repository:{name}:{action}"));
                prop_assert_eq!(crate::grant::covers(&held, &required), names.contains(name) && action == "pull");
            }
        }
    }
}

use super::*;
use crate::memory::{MemoryStore, at, counting, ready};
use serde_json::json;

fn master(fill: u8) -> MasterKey {
    MasterKey::new([fill; 32])
}

fn seal() -> SealKey {
    master(1).seal_key(Purpose::SigningKeys)
}

const BOTH: [Algorithm; 2] = [Algorithm::EdDsa, Algorithm::Es256];

#[test]
fn what_is_sealed_is_opened_under_the_same_key_purpose_and_context_only() {
    let sealed = seal().seal(b"context", b"secret", &counting());
    assert_eq!(seal().open(b"context", &sealed).as_deref(), Ok(b"secret".as_slice()));
    assert_eq!(seal().open(b"another", &sealed), Err(NotOurs));
    assert_eq!(master(2).seal_key(Purpose::SigningKeys).open(b"context", &sealed), Err(NotOurs));
    assert_eq!(master(1).seal_key(Purpose::UploadLocations).open(b"context", &sealed), Err(NotOurs));
}

#[test]
fn a_sealed_text_that_was_changed_or_cut_anywhere_is_not_ours() {
    let sealed = seal().seal(b"context", b"secret", &counting());
    for place in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        assert_eq!(seal().open(b"context", &changed), Err(NotOurs), "changed at {place}");
        assert_eq!(seal().open(b"context", &sealed[..place]), Err(NotOurs), "cut at {place}");
    }
}

#[test]
fn sealing_twice_gives_two_texts() {
    let random = counting();
    assert_ne!(seal().seal(b"", b"secret", &random), seal().seal(b"", b"secret", &random));
}

#[test]
fn every_purpose_has_a_mac_key_of_its_own() {
    let tag = |purpose| hmac::sign(&master(1).mac_key(purpose), b"text").as_ref().to_vec();
    let purposes = [
        Purpose::SigningKeys,
        Purpose::RefreshTokens,
        Purpose::UploadLocations,
        Purpose::Throwaways,
        Purpose::CompiledPolicies,
        Purpose::AuditChain,
        Purpose::AuditCheckpoints,
    ];
    let tags: std::collections::HashSet<_> = purposes.into_iter().map(tag).collect();
    assert_eq!(tags.len(), purposes.len());
}

#[test]
fn fingerprints_tell_master_keys_apart_and_are_no_part_of_them() {
    assert_eq!(master(1).fingerprint(), master(1).fingerprint());
    assert_ne!(master(1).fingerprint(), master(2).fingerprint());
    assert_ne!(*master(1).fingerprint(), *digits::base32([1; 16]));
}

#[test]
fn the_kid_is_the_thumbprint_of_rfc_8037s_example() {
    // RFC 8037, appendix A: the private key, its public key and its thumbprint.
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let random = move |bytes: &mut [u8]| bytes.copy_from_slice(&seed[..bytes.len()]);
    let key = generate(Algorithm::EdDsa, &seal(), at(0), at(0), &random).unwrap();
    assert_eq!(&*key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let jwk: Value = serde_json::from_str(&key.public_jwk).unwrap();
    assert_eq!(jwk["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
}

#[test]
fn the_public_key_of_es256_is_the_scalars_own() {
    // The scalar 1 gives the curve's base point (SEC 2, secp256r1).
    let random = |bytes: &mut [u8]| {
        bytes.fill(0);
        bytes[bytes.len() - 1] = 1;
    };
    let key = generate(Algorithm::Es256, &seal(), at(0), at(0), &random).unwrap();
    let jwk: Value = serde_json::from_str(&key.public_jwk).unwrap();
    assert_eq!(jwk["x"], "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY");
    assert_eq!(jwk["y"], "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU");
    assert_eq!(
        (&jwk["kty"], &jwk["crv"], &jwk["alg"], &jwk["use"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"), &json!("sig"))
    );
}

#[test]
fn the_public_jwk_holds_no_private_part() {
    for algorithm in BOTH {
        let key = generate(algorithm, &seal(), at(0), at(0), &counting()).unwrap();
        let jwk: Value = serde_json::from_str(&key.public_jwk).unwrap();
        assert!(jwk.get("d").is_none());
        assert_eq!(jwk["kid"], *key.kid);
    }
}

#[test]
fn a_broken_source_of_randomness_makes_no_es256_key() {
    let zeros = |bytes: &mut [u8]| bytes.fill(0);
    assert!(matches!(generate(Algorithm::Es256, &seal(), at(0), at(0), &zeros), Err(TenancyError::Internal(_))));
}

#[test]
fn a_stored_key_opens_with_its_own_master_key_alone() {
    for algorithm in BOTH {
        let key = generate(algorithm, &seal(), at(0), at(0), &counting()).unwrap();
        assert_eq!(key.open(&seal()).unwrap().kid, key.kid);
        let foreign = key.open(&master(2).seal_key(Purpose::SigningKeys)).map(|_| ());
        assert!(matches!(foreign, Err(TenancyError::Store(StoreError::Unreadable(why))) if why.contains("master.key")));
    }
}

#[test]
fn a_row_whose_parts_do_not_belong_together_is_refused() {
    let (one, other) = (
        generate(Algorithm::EdDsa, &seal(), at(0), at(0), &|bytes: &mut [u8]| bytes.fill(1)).unwrap(),
        generate(Algorithm::EdDsa, &seal(), at(0), at(0), &|bytes: &mut [u8]| bytes.fill(2)).unwrap(),
    );
    let swapped = StoredKey { sealed_private: other.sealed_private.clone(), ..one.clone() };
    assert!(swapped.open(&seal()).is_err());
    let renamed = StoredKey {
        sealed_private: seal().seal(b"renamed", &other.open(&seal()).unwrap().pkcs8, &counting()),
        kid: "renamed".into(),
        ..one.clone()
    };
    assert!(renamed.open(&seal()).is_err());
    let other_algorithm = StoredKey { algorithm: Algorithm::Es256, ..one };
    assert!(other_algorithm.open(&seal()).is_err());
}

#[test]
fn the_private_key_stands_in_the_row_only_sealed() {
    let seed = [0x5a; 32];
    let key = generate(Algorithm::EdDsa, &seal(), at(0), at(0), &|bytes: &mut [u8]| bytes.fill(0x5a)).unwrap();
    assert!(key.open(&seal()).unwrap().pkcs8.windows(32).any(|window| window == seed));
    assert!(!key.sealed_private.windows(32).any(|window| window == seed));
    assert!(!format!("{key:?}").contains("sealed_private"));
}

#[test]
fn the_first_key_signs_at_once_and_a_later_one_after_every_node_has_seen_it() {
    let store = MemoryStore::default();
    let random = counting();
    let hour = Duration::from_secs(3600);
    let first = ready(rotate(&store, Algorithm::EdDsa, &seal(), hour, at(0), &random)).unwrap();
    assert_eq!(first.signs_from, at(0));
    let second = ready(rotate(&store, Algorithm::Es256, &seal(), hour, at(100), &random)).unwrap();
    assert_eq!(second.signs_from, at(105));

    let keys = ready(store_keys(&store));
    assert_eq!(keys.iter().map(|key| &key.kid).collect::<Vec<_>>(), [&second.kid, &first.kid]);
    assert_eq!(keys[0].verifies_until, None);
    // Its last token is signed just before the second key takes over, and lives for the overlap and the leeway.
    assert_eq!(keys[1].verifies_until, Some(at(105 + 3600 + 60)));
}

#[test]
fn a_key_signs_at_once_where_no_other_verifies_any_more() {
    let ending = generate(Algorithm::EdDsa, &seal(), at(0), at(0), &counting()).unwrap();
    let ending = StoredKey { verifies_until: Some(at(50)), ..ending };
    for (now, signs_from) in [(49, 54), (50, 50)] {
        let store = MemoryStore::default();
        ready(crate::Store::add_key(&store, &ending, at(50), at(0))).unwrap();
        let key = ready(rotate(&store, Algorithm::Es256, &seal(), Duration::ZERO, at(now), &counting())).unwrap();
        assert_eq!(key.signs_from, at(signs_from));
    }
}

#[test]
fn an_overlap_beyond_time_is_refused() {
    let overlong = ready(rotate(&MemoryStore::default(), Algorithm::EdDsa, &seal(), Duration::MAX, at(0), &counting()));
    assert!(matches!(overlong, Err(TenancyError::Invalid(_))));
}

async fn store_keys(store: &MemoryStore) -> Vec<StoredKey> {
    crate::Store::keys(store).await.unwrap()
}

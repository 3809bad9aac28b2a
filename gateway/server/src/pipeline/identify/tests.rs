use super::*;
use portcullis_oci::scope;

/// A verified token with so many scopes.
fn verified(id: u64, scopes: usize) -> Arc<Verified> {
    let scope = scope::parse_all(["repository:acme/app:pull"].into_iter()).unwrap().remove(0);
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let access = Access {
        bearer: Bearer::Anonymous,
        carried: Carried::Scopes { scopes: Vec::new(), projects: Vec::new() },
        issued_at: now,
        expires_at: now,
        expired: false,
        id: id.to_string().into(),
    };
    Arc::new(Verified { generation: Generation(1), access, robot: None, scopes: vec![scope; scopes] })
}

/// Remembers so many tokens of so many scopes, and says how many tokens and how many scopes are remembered then.
fn remembered(tokens: u64, scopes: usize) -> (usize, usize) {
    let cache = TokenCache::new();
    for id in 0..tokens {
        cache.verified.insert(hash(&id.to_string()), verified(id, scopes));
    }
    (cache.verified.len(), cache.verified.iter().map(|(_, verified)| verified.scopes.len()).sum())
}

#[test]
fn tokens_are_remembered_up_to_a_number_of_scopes() {
    let most = usize::try_from(MAX_SCOPES).unwrap();
    let (tokens, scopes) = remembered(400, 1000);
    assert!((1..400).contains(&tokens) && scopes <= most, "{tokens} tokens, {scopes} scopes");
    // A token without any scope takes a place as well.
    let (tokens, _) = remembered(MAX_SCOPES.saturating_mul(2), 0);
    assert!((1..=most).contains(&tokens), "{tokens} tokens");
}

#[test]
fn a_token_is_remembered_by_the_whole_of_it() {
    let cache = TokenCache::new();
    cache.verified.insert(hash("header.claims.signature"), verified(1, 1));
    assert!(cache.verified.get(&hash("header.claims.signature")).is_some());
    for other in ["header.claims.signaturf", "header.claimz.signature", "header.claims.signature.", "header.claims."] {
        assert!(cache.verified.get(&hash(other)).is_none(), "{other}");
    }
}

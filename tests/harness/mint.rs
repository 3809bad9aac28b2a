//! Tokens signed with the deployment's own keys, at any time and of any contents: what the gateway itself would have issued
//! an hour ago, and what it never would.

use crate::gateway::Gateway;
use crate::http::{Credentials, Response, block_on};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_tenancy::Store as _;
use portcullis_tenancy::key::{MasterKey, Purpose};
use serde_json::Value;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// A deployment's signing keys, opened.
pub struct Mint {
    keys: HashMap<String, Ed25519KeyPair>,
}

/// A token's header and claims, unverified.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
}

impl Mint {
    /// The keys of a gateway that has served, as they are now. They have to be Ed25519, the default.
    #[track_caller]
    pub fn of(gateway: &Gateway) -> Mint {
        let key = std::fs::read(gateway.data_dir().join("master.key")).expect("it has served");
        let seal = MasterKey::new(key.try_into().expect("32 bytes")).seal_key(Purpose::SigningKeys);
        let stored = block_on(async {
            let store = portcullis_store::open(&gateway.store_url(), 2).await?;
            store.keys().await
        });
        let open = |key: portcullis_tenancy::key::StoredKey| {
            let pkcs8 = seal.open(key.kid.as_bytes(), &key.sealed_private).expect("sealed by this master key");
            (key.kid.to_string(), Ed25519KeyPair::from_pkcs8(&pkcs8).expect("an Ed25519 key"))
        };
        Mint { keys: stored.expect("the store can be read").into_iter().map(open).collect() }
    }

    /// The token with its header and claims changed, signed by the key that signed it before.
    #[track_caller]
    pub fn changed(&self, token: &Credentials, change: impl FnOnce(&mut Parts)) -> Credentials {
        let mut parts = parts(text(token));
        let kid = parts.header["kid"].as_str().expect("our tokens name their key").to_owned();
        change(&mut parts);
        let message = parts.encoded();
        let signature = self.keys.get(&kid).expect("a key of this deployment").sign(message.as_bytes());
        Credentials::Bearer(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The token as it would be, had it been issued so many seconds earlier (or later, where that is negative).
    #[track_caller]
    pub fn earlier(&self, token: &Credentials, seconds: i64) -> Credentials {
        self.changed(token, |parts| {
            for claim in ["exp", "nbf", "iat"] {
                let time = parts.claims[claim].as_i64().expect("seconds since 1970");
                parts.claims[claim] = (time - seconds).into();
            }
        })
    }
}

impl Parts {
    /// Header and claims as they are signed.
    pub fn encoded(&self) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(&self.header), part(&self.claims))
    }

    /// The `access` claim as scopes, `repository:acme/app:pull`.
    #[track_caller]
    pub fn access(&self) -> Vec<String> {
        let entries = self.claims["access"].as_array().unwrap_or_else(|| panic!("no access claim: {self:?}"));
        let scope = |entry: &Value| {
            let text = |value: &Value| value.as_str().map(str::to_owned).expect("a string");
            let actions: Vec<String> = entry["actions"].as_array().expect("a list").iter().map(text).collect();
            format!("{}:{}:{}", text(&entry["type"]), text(&entry["name"]), actions.join(","))
        };
        entries.iter().map(scope).collect()
    }
}

/// A token's header and claims, without a look at its signature.
#[track_caller]
pub fn parts(token: &str) -> Parts {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_else(|e| panic!("{token}: {e}"));
        serde_json::from_slice(&bytes)
    });
    let mut next = || parts.next().and_then(Result::ok).unwrap_or_else(|| panic!("no token: {token}"));
    Parts { header: next(), claims: next() }
}

/// The scopes that the token in the token endpoint's answer carries.
#[track_caller]
pub fn access(answer: &Response) -> Vec<String> {
    let token = answer.json()["token"].as_str().map(str::to_owned);
    parts(&token.unwrap_or_else(|| panic!("no token\n{answer}"))).access()
}

/// A token's own text.
#[track_caller]
pub fn text(token: &Credentials) -> &str {
    match token {
        Credentials::Bearer(text) => text,
        other => panic!("no token: {other:?}"),
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("in this age")
}

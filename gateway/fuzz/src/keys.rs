//! A deployment for the fuzzer: always the same keys, and always the same second.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_tenancy::Timestamp;
use portcullis_tenancy::key::{self, Algorithm, MasterKey, Purpose};
use portcullis_tenancy::token::KeyRing;
use std::sync::LazyLock;
use std::time::Duration;

/// Who issues.
pub const ISSUER: &str = "portcullis-fuzz";
/// For whom.
pub const SERVICE: &str = "portcullis";
/// When, in seconds since 1970.
pub const NOW: i64 = 1_800_000_000;
/// How long past its end a token is still read.
pub const GRACE: Duration = Duration::from_secs(3600);

/// The deployment.
pub struct Keys {
    /// What signs and checks.
    pub ring: KeyRing,
    /// The name of the key that signs.
    pub kid: String,
    pair: Ed25519KeyPair,
}

/// The deployment.
pub static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let master = MasterKey::new([7; 32]);
    let seal = master.seal_key(Purpose::SigningKeys);
    let start = Timestamp::from_second(NOW - 1000).expect("a second of this century");
    let stored = key::generate(Algorithm::EdDsa, &seal, start, start, &|bytes: &mut [u8]| bytes.fill(1))
        .expect("every seed is a key");
    let pkcs8 = seal.open(stored.kid.as_bytes(), &stored.sealed_private).expect("sealed a moment ago");
    let kid = stored.kid.to_string();
    let ring = KeyRing::open(ISSUER.into(), SERVICE.into(), &[stored], &master).expect("our own key");
    Keys { ring, kid, pair: Ed25519KeyPair::from_pkcs8(&pkcs8).expect("our own key") }
});

impl Keys {
    /// Any header over any claims, signed as only the deployment can.
    pub fn sign(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The second.
pub fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a second of this century")
}

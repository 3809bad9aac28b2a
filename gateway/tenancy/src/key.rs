//! Keys: the master key's derived secrets, and signing keys sealed with it.
//!
//! `master.key` holds 32 random bytes. HKDF-SHA-256 derives from it one key a purpose; signing keys are rows of the store,
//! sealed with AES-256-GCM, so that two nodes on one store sign alike and a backup alone mints nothing.

use crate::token::LEEWAY;
use crate::{Random, StoreError, TenancyError, Timestamp, digits};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long after its making a key begins to sign where others sign already: every node has seen it by then.
pub const SIGNING_DELAY: Duration = Duration::from_secs(5);

/// The deployment's master key.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// What a derived key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Sealing signing keys.
    SigningKeys,
    /// Signing refresh tokens.
    RefreshTokens,
    /// Sealing upload locations.
    UploadLocations,
    /// Marking throw-away manifests.
    Throwaways,
    /// Authenticating compiled policies.
    CompiledPolicies,
    /// Vouching for audit records.
    AuditChain,
    /// The seed that signs audit checkpoints.
    AuditCheckpoints,
}

/// An AEAD key of one purpose.
pub struct SealKey(LessSafeKey);

/// A sealed text was not sealed by this key for this context, or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed text is not ours")]
pub struct NotOurs;

impl MasterKey {
    /// From the file's 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Something short that differs between master keys and gives nothing away: compared between nodes.
    pub fn fingerprint(&self) -> String {
        let mut bytes = [0; 32];
        self.derive([b"fingerprint", b""], hmac::HMAC_SHA256, |okm| okm.fill(&mut bytes))
            .expect("the lengths are equal");
        let (short, _) = bytes.split_first_chunk::<16>().expect("32 bytes hold 16");
        digits::base32(*short).into()
    }

    /// The AEAD key of a purpose.
    pub fn seal_key(&self, purpose: Purpose) -> SealKey {
        self.derive([b"seal", purpose.label()], &AES_256_GCM, |okm| SealKey(LessSafeKey::new(UnboundKey::from(okm))))
    }

    /// The HMAC-SHA-256 key of a purpose.
    pub fn mac_key(&self, purpose: Purpose) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.mac_key_bytes(purpose).as_slice())
    }

    /// The bytes that [`MasterKey::mac_key`] is made of, for a library that makes its own.
    pub fn mac_key_bytes(&self, purpose: Purpose) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.derive([b"mac", purpose.label()], hmac::HMAC_SHA256, |okm| okm.fill(bytes.as_mut_slice()))
            .expect("the lengths are equal");
        bytes
    }

    fn derive<L: hkdf::KeyType, T>(&self, info: [&[u8]; 2], kind: L, make: impl FnOnce(hkdf::Okm<'_, L>) -> T) -> T {
        let [what, purpose] = info;
        let info: [&[u8]; 3] = [what, b" ", purpose];
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis master key");
        let prk = salt.extract(self.0.as_slice());
        make(prk.expand(&info, kind).expect("every kind of key here is far shorter than HKDF's limit"))
    }
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::SigningKeys => b"signing keys",
            Self::RefreshTokens => b"refresh tokens",
            Self::UploadLocations => b"upload locations",
            Self::Throwaways => b"throwaways",
            Self::CompiledPolicies => b"compiled policies",
            Self::AuditChain => b"audit chain",
            Self::AuditCheckpoints => b"audit checkpoints",
        }
    }
}

impl SealKey {
    /// Seals bytes under a context (authenticated, not kept): nonce, ciphertext, tag.
    pub fn seal(&self, context: &[u8], plain: &[u8], random: Random<'_>) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce);
        let mut ciphertext = plain.to_vec();
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut ciphertext)
            .expect("AES-GCM seals everything shorter than 64 GiB");
        [nonce.as_slice(), &ciphertext, tag.as_ref()].concat()
    }

    /// Opens what [`SealKey::seal`] made under the same context.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotOurs> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOurs)?;
        let mut text = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| NotOurs)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// The algorithm of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA P-256 with SHA-256.
    Es256,
}

/// A signing key as the store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// RFC 7638 thumbprint of the public key.
    pub kid: Box<str>,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// The private key, PKCS#8, sealed by [`Purpose::SigningKeys`] under the `kid`.
    pub sealed_private: Vec<u8>,
    /// The public key as a JWK.
    pub public_jwk: String,
    /// From when on it signs: late enough that every node has seen it.
    pub signs_from: Timestamp,
    /// Until when it verifies; none while it is the newest.
    pub verifies_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A signing key, opened: for the ring alone.
pub(crate) struct OpenedKey {
    pub(crate) kid: Box<str>,
    pub(crate) public_jwk: Value,
    /// The public key as signatures are verified with it: 32 bytes, or an uncompressed point.
    pub(crate) public: Vec<u8>,
    pub(crate) pkcs8: Zeroizing<Vec<u8>>,
}

impl OpenedKey {
    /// Reads PKCS#8; the public key, and with it the `kid`, are the private key's own.
    fn from_pkcs8(algorithm: Algorithm, pkcs8: Zeroizing<Vec<u8>>) -> Option<Self> {
        let public = match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(&pkcs8).ok()?.public_key().as_ref().to_vec(),
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).ok()?.public_key().as_ref().to_vec()
            }
        };
        let (members, alg) = match algorithm {
            Algorithm::EdDsa => {
                let x = base64url(&public);
                (vec![("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", x)], "EdDSA")
            }
            Algorithm::Es256 => {
                let (x, y) = public.strip_prefix(&[4])?.split_at_checked(32)?;
                let (x, y) = (base64url(x), base64url(y));
                (vec![("crv", "P-256".to_owned()), ("kty", "EC".to_owned()), ("x", x), ("y", y)], "ES256")
            }
        };
        let object = |members: Vec<(&str, String)>| -> Value { members.into_iter().collect() };
        // RFC 7638 hashes the required members alone, in lexicographic order and without spaces: as they are written above.
        let thumbprint = digest(&SHA256, object(members.clone()).to_string().as_bytes());
        let kid: Box<str> = base64url(thumbprint.as_ref()).into();
        let public_jwk = object(
            [members, vec![("kid", kid.to_string()), ("alg", alg.to_owned()), ("use", "sig".to_owned())]].concat(),
        );
        Some(Self { kid, public_jwk, public, pkcs8 })
    }
}

impl StoredKey {
    /// Opens the private key, and refuses a row whose parts do not belong together.
    pub(crate) fn open(&self, seal: &SealKey) -> Result<OpenedKey, TenancyError> {
        let unreadable = |why| StoreError::Unreadable(format!("the signing key `{}` {why}", self.kid));
        let pkcs8 = seal.open(self.kid.as_bytes(), &self.sealed_private).map(Zeroizing::new).map_err(|NotOurs| {
            unreadable("was not sealed with this master key: put the deployment's own `master.key` in its place")
        })?;
        let opened = OpenedKey::from_pkcs8(self.algorithm, pkcs8).filter(|opened| opened.kid == self.kid);
        Ok(opened.ok_or_else(|| unreadable("is not what its row says: make another with `portcullis key rotate`"))?)
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .field("signs_from", &self.signs_from)
            .field("verifies_until", &self.verifies_until)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// Makes a signing key.
pub fn generate(
    algorithm: Algorithm,
    seal: &SealKey,
    signs_from: Timestamp,
    now: Timestamp,
    random: Random<'_>,
) -> Result<StoredKey, TenancyError> {
    let opened =
        private_key(algorithm, random).and_then(|pkcs8| OpenedKey::from_pkcs8(algorithm, pkcs8)).ok_or_else(|| {
            TenancyError::Internal("no signing key can be made: the source of randomness is broken".into())
        })?;
    Ok(StoredKey {
        sealed_private: seal.seal(opened.kid.as_bytes(), &opened.pkcs8, random),
        kid: opened.kid,
        algorithm,
        public_jwk: opened.public_jwk.to_string(),
        signs_from,
        verifies_until: None,
        created_at: now,
    })
}

/// Adds a key and lets the current ones go on verifying for `overlap` (a token's life and its grace) after they have signed
/// their last token. The first key of a deployment signs at once, a later one from `now + 5 s` on (nodes poll every 500 ms).
pub async fn rotate(
    store: &dyn crate::Store,
    algorithm: Algorithm,
    seal: &SealKey,
    overlap: Duration,
    now: Timestamp,
    random: Random<'_>,
) -> Result<StoredKey, TenancyError> {
    let after = |time: Timestamp, wait: Duration| {
        time.checked_add(wait).map_err(|_| TenancyError::Invalid("the overlap is too long".into()))
    };
    let is_first = store.keys().await?.iter().all(|key| key.verifies_until.is_some_and(|end| end <= now));
    let signs_from = if is_first { now } else { after(now, SIGNING_DELAY)? };
    let older_verify_until = after(after(signs_from, overlap)?, LEEWAY)?;
    let key = generate(algorithm, seal, signs_from, now, random)?;
    store.add_key(&key, older_verify_until, now).await?;
    Ok(key)
}

/// A private key as PKCS#8, made of 32 random bytes.
fn private_key(algorithm: Algorithm, random: Random<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let mut seed = Zeroizing::new([0; 32]);
    let document = match algorithm {
        Algorithm::EdDsa => {
            random(seed.as_mut_slice());
            Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).ok()?.to_pkcs8().ok()?
        }
        Algorithm::Es256 => {
            // One draw of four billion is zero or not below the curve's order.
            let pair = (0..4).find_map(|_| {
                random(seed.as_mut_slice());
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &sec1_private_key(&seed)).ok()
            })?;
            pair.to_pkcs8v1().ok()?
        }
    };
    Some(Zeroizing::new(document.as_ref().to_vec()))
}

/// RFC 5915's `ECPrivateKey` of a P-256 scalar, without the public key.
fn sec1_private_key(scalar: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    const VERSION_AND_SCALAR: &[u8] = &[0x30, 49, 0x02, 1, 1, 0x04, 32];
    const CURVE: &[u8] = &[0xa0, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    Zeroizing::new([VERSION_AND_SCALAR, scalar, CURVE].concat())
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;

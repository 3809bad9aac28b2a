//! The key ring: the one place that signs tokens and that says which are ours.

use super::claims::{self, AccessClaims, Audience, Header, Object, Projects, RefreshClaims};
use super::{Access, Bearer, Carried, LEEWAY, MAX_TOKEN_BYTES, Refresh, TokenError};
use crate::key::{self, MasterKey, OpenedKey, Purpose, StoredKey};
use crate::{Random, RobotId, TenancyError, Timestamp, random_id};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

const ACCESS: &str = "at+jwt";
const REFRESH: &str = "portcullis-refresh+jwt";
const REFRESH_KID: &str = "refresh";

/// The keys that sign and verify now.
///
/// Access tokens are signed by the rotating keys, so that an upstream can check them too. Refresh tokens are read by
/// nobody but us and live as long as their robot's secret, across every rotation of keys: an HMAC under the master key.
pub struct KeyRing {
    issuer: String,
    service: String,
    /// By the time from which they sign, oldest first.
    access_keys: Vec<AccessKey>,
    refresh_key: Key,
}

struct AccessKey {
    key: Key,
    public_jwk: Value,
    signs_from: Timestamp,
}

/// A key, ready for use.
struct Key {
    /// What its tokens say of it: `kid`, `alg`, and the one `typ` that it signs.
    header: jsonwebtoken::Header,
    alg: &'static str,
    signing: EncodingKey,
    verifying: DecodingKey,
    verifies_until: Option<Timestamp>,
}

impl KeyRing {
    /// Opens the stored keys. `issuer` is random per deployment; `service` is the access tokens' audience.
    pub fn open(issuer: String, service: String, keys: &[StoredKey], master: &MasterKey) -> Result<Self, TenancyError> {
        let seal = master.seal_key(Purpose::SigningKeys);
        let mut access_keys = keys
            .iter()
            .map(|stored| Ok(AccessKey::new(stored, stored.open(&seal)?)))
            .collect::<Result<Vec<_>, TenancyError>>()?;
        access_keys.sort_by(|a, b| (a.signs_from, &a.key.header.kid).cmp(&(b.signs_from, &b.key.header.kid)));
        Ok(Self { issuer, service, access_keys, refresh_key: Key::refresh(master) })
    }

    /// The public keys that verify now, as a JWK Set.
    pub fn jwks(&self, now: Timestamp) -> Value {
        let keys: Vec<&Value> = self
            .access_keys
            .iter()
            .filter(|access| access.key.verifies_at(now))
            .map(|access| &access.public_jwk)
            .collect();
        json!({ "keys": keys })
    }

    /// Signs an access token. Claims: `iss sub aud exp nbf iat jti`, `access` (Distribution's form) or `scope_set`,
    /// `projects` (name → id), `robot`, `secret`.
    pub fn sign_access(&self, access: &Access, now: Timestamp) -> Result<String, TenancyError> {
        let in_force = |candidate: &&AccessKey| candidate.signs_from <= now && candidate.key.verifies_at(now);
        let AccessKey { key, .. } = self.access_keys.iter().rev().find(in_force).ok_or_else(|| {
            TenancyError::Internal(
                "no signing key is in force: make one with `portcullis key rotate`, and check that the clocks of all nodes agree"
                    .into(),
            )
        })?;
        let (sub, robot, secret) = match &access.bearer {
            Bearer::Anonymous => (String::new(), None, None),
            Bearer::Robot { robot, secret, username } => {
                (username.clone(), Some(robot.0.clone()), Some(secret.clone()))
            }
        };
        let (entries, projects, scope_set) = match &access.carried {
            Carried::Scopes { scopes, projects } => {
                (Some(claims::entries(scopes)), Some(Projects(projects.clone())), None)
            }
            Carried::Stored(id) => (None, None, Some(id.clone())),
        };
        key.sign(&AccessClaims {
            iss: self.issuer.clone(),
            sub,
            aud: Audience::One(self.service.clone()),
            exp: access.expires_at.as_second(),
            nbf: access.issued_at.as_second(),
            iat: access.issued_at.as_second(),
            jti: access.id.clone(),
            access: entries,
            projects,
            scope_set,
            robot,
            secret,
        })
    }

    /// Signs a refresh token: its own `typ` and `aud`, no `exp` (it dies with its secret).
    pub fn sign_refresh(&self, refresh: &Refresh, now: Timestamp, random: Random<'_>) -> Result<String, TenancyError> {
        self.refresh_key.sign(&RefreshClaims {
            iss: self.issuer.clone(),
            aud: Audience::One(self.issuer.clone()),
            iat: now.as_second(),
            jti: random_id(random),
            robot: refresh.robot.0.clone(),
            secret: refresh.secret.clone(),
        })
    }

    /// Checks an access token. Within `grace` past its end it is returned with `expired` set.
    pub fn verify_access(&self, token: &str, grace: Duration, now: Timestamp) -> Result<Access, TokenError> {
        let parts = Parts::split(token)?;
        let key = self.trusted_key(&parts.header, ACCESS, now)?;
        let claims: AccessClaims = parts.claims()?;
        let expired = is_past(claims.exp, LEEWAY, now);
        if expired && is_past(claims.exp, LEEWAY.saturating_add(grace), now) {
            return Err(TokenError::Expired);
        }
        not_from_the_future(claims.nbf, now)?;
        not_from_the_future(claims.iat, now)?;
        key.check_signature(&parts)?;
        if claims.iss != self.issuer || !claims.aud.contains(&self.service) {
            return Err(TokenError::Foreign);
        }
        access_of(claims, expired).ok_or(TokenError::Malformed)
    }

    /// Checks a refresh token.
    pub fn verify_refresh(&self, token: &str, now: Timestamp) -> Result<Refresh, TokenError> {
        let parts = Parts::split(token)?;
        let key = self.trusted_key(&parts.header, REFRESH, now)?;
        let claims: RefreshClaims = parts.claims()?;
        not_from_the_future(claims.iat, now)?;
        key.check_signature(&parts)?;
        if claims.iss != self.issuer || !claims.aud.contains(&self.issuer) {
            return Err(TokenError::Foreign);
        }
        Ok(Refresh { robot: RobotId(claims.robot), secret: claims.secret })
    }

    /// The key that the header names, if it still verifies, the algorithm is its own, and both are for this `typ`.
    fn trusted_key(&self, header: &Header, typ: &str, now: Timestamp) -> Result<&Key, TokenError> {
        let key = self
            .access_keys
            .iter()
            .map(|access| &access.key)
            .chain([&self.refresh_key])
            .find(|key| key.header.kid == header.kid && key.verifies_at(now))
            .ok_or(TokenError::UnknownKey)?;
        if header.alg != key.alg {
            return Err(TokenError::Algorithm);
        }
        if header.typ.as_deref() != Some(typ) || key.header.typ != header.typ {
            return Err(TokenError::Kind);
        }
        Ok(key)
    }
}

/// Names the keys, and shows none.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.access_keys.iter().map(|access| &access.key.header.kid).collect();
        f.debug_struct("KeyRing")
            .field("issuer", &self.issuer)
            .field("service", &self.service)
            .field("kids", &kids)
            .finish_non_exhaustive()
    }
}

impl AccessKey {
    fn new(stored: &StoredKey, opened: OpenedKey) -> Self {
        let (algorithm, alg, signing, verifying) = match stored.algorithm {
            key::Algorithm::EdDsa => (
                Algorithm::EdDSA,
                "EdDSA",
                EncodingKey::from_ed_der(&opened.pkcs8),
                DecodingKey::from_ed_der(&opened.public),
            ),
            key::Algorithm::Es256 => (
                Algorithm::ES256,
                "ES256",
                EncodingKey::from_ec_der(&opened.pkcs8),
                DecodingKey::from_ec_der(&opened.public),
            ),
        };
        let key = Key {
            header: header(algorithm, ACCESS, &opened.kid),
            alg,
            signing,
            verifying,
            verifies_until: stored.verifies_until,
        };
        Self { key, public_jwk: opened.public_jwk, signs_from: stored.signs_from }
    }
}

impl Key {
    fn refresh(master: &MasterKey) -> Self {
        let bytes = master.mac_key_bytes(Purpose::RefreshTokens);
        Self {
            header: header(Algorithm::HS256, REFRESH, REFRESH_KID),
            alg: "HS256",
            signing: EncodingKey::from_secret(bytes.as_slice()),
            verifying: DecodingKey::from_secret(bytes.as_slice()),
            verifies_until: None,
        }
    }

    fn verifies_at(&self, now: Timestamp) -> bool {
        self.verifies_until.is_none_or(|end| now < end)
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, TenancyError> {
        jsonwebtoken::encode(&self.header, claims, &self.signing)
            .map_err(|error| TenancyError::Internal(format!("a token cannot be signed: {error}")))
    }

    fn check_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let (signature, message) = (parts.signature, parts.message.as_bytes());
        match jsonwebtoken::crypto::verify(signature, message, &self.verifying, self.header.alg) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(TokenError::Signature),
        }
    }
}

/// A token in its parts, of which nothing is trusted yet.
struct Parts<'a> {
    header: Header,
    claims: Vec<u8>,
    /// What the signature is over.
    message: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        // This alphabet has no `.`, and takes neither padding nor stray last bits: a token has one spelling.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        if decode(signature)?.is_empty() {
            return Err(TokenError::Malformed);
        }
        let Object(header): Object<Header> = read(&decode(header)?)?;
        if header.crit {
            return Err(TokenError::Malformed);
        }
        Ok(Self { header, claims: decode(claims)?, message, signature })
    }

    fn claims<T: DeserializeOwned>(&self) -> Result<T, TokenError> {
        let Object(claims) = read(&self.claims)?;
        Ok(claims)
    }
}

/// JSON in UTF-8 as a whole (RFC 7519, section 3), what nobody asks for in it included.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TokenError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TokenError::Malformed)?;
    serde_json::from_str(text).map_err(|_| TokenError::Malformed)
}

fn header(algorithm: Algorithm, typ: &str, kid: &str) -> jsonwebtoken::Header {
    let mut header = jsonwebtoken::Header::new(algorithm);
    header.typ = Some(typ.to_owned());
    header.kid = Some(kid.to_owned());
    header
}

/// Whether `now` is at or past that second and some more time.
fn is_past(second: i64, more: Duration, now: Timestamp) -> bool {
    now.as_second() >= second.saturating_add(seconds(more))
}

fn not_from_the_future(second: i64, now: Timestamp) -> Result<(), TokenError> {
    if second > now.as_second().saturating_add(seconds(LEEWAY)) { Err(TokenError::NotYet) } else { Ok(()) }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// What the claims say; `None` where they contradict each other.
fn access_of(claims: AccessClaims, expired: bool) -> Option<Access> {
    let bearer = match (claims.robot, claims.secret) {
        (Some(robot), Some(secret)) => Bearer::Robot { robot: RobotId(robot), secret, username: claims.sub },
        (None, None) if claims.sub.is_empty() => Bearer::Anonymous,
        _ => return None,
    };
    let carried = match (claims.access, claims.projects, claims.scope_set) {
        (Some(entries), Some(projects), None) => {
            Carried::Scopes { scopes: claims::scopes(&entries)?, projects: projects.0 }
        }
        (None, None, Some(id)) => Carried::Stored(id),
        _ => return None,
    };
    Some(Access {
        bearer,
        carried,
        issued_at: Timestamp::from_second(claims.iat).ok()?,
        expires_at: Timestamp::from_second(claims.exp).ok()?,
        expired,
        id: claims.jti,
    })
}

//! `WWW-Authenticate` and `Authorization`: challenges written and read, credentials read (RFC 9110, RFC 6750, RFC 7617).

use crate::Scope;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// Why a caller is challenged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeError {
    /// The token is not valid (any more).
    InvalidToken,
    /// The token is valid and does not cover the scopes.
    InsufficientScope,
}

/// Writes `Bearer realm="…",service="…",scope="…",error="…"`.
///
/// `realm` and `service` come from the configuration and hold neither quotes nor control characters.
pub fn bearer_challenge(realm: &str, service: &str, scopes: &[Scope], error: Option<ChallengeError>) -> HeaderValue {
    let mut text = String::from("Bearer realm=");
    push_quoted(&mut text, realm);
    text.push_str(",service=");
    push_quoted(&mut text, service);
    if !scopes.is_empty() {
        let scopes: Vec<String> = scopes.iter().map(Scope::to_string).collect();
        text.push_str(",scope=");
        push_quoted(&mut text, &scopes.join(" "));
    }
    match error {
        Some(ChallengeError::InvalidToken) => text.push_str(",error=\"invalid_token\""),
        Some(ChallengeError::InsufficientScope) => text.push_str(",error=\"insufficient_scope\""),
        None => {}
    }
    HeaderValue::try_from(text).expect("a quoted string holds printable ASCII only")
}

/// Writes a quoted-string. What a header cannot hold is left out.
fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    for shown in value.chars().filter(|c| matches!(c, ' '..='~')) {
        if matches!(shown, '"' | '\\') {
            text.push('\\');
        }
        text.push(shown);
    }
    text.push('"');
}

/// What an upstream's `WWW-Authenticate` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamChallenge {
    /// `Basic`.
    Basic,
    /// `Bearer` with its parameters.
    Bearer {
        /// Where to get a token.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// With which scope.
        scope: Option<String>,
    },
}

/// Longest challenge that is read, in bytes.
const MAX_CHALLENGE_BYTES: usize = 8192;

/// Reads an upstream's challenge; `None` where it is neither Basic nor Bearer or malformed.
///
/// Where the header holds several challenges (RFC 9110, section 11.6.1), the first that is Basic or Bearer counts.
pub fn parse_challenge(value: &str) -> Option<UpstreamChallenge> {
    if value.len() > MAX_CHALLENGE_BYTES {
        return None;
    }
    let mut cursor = Cursor { rest: value };
    cursor.skip_commas();
    loop {
        let scheme = cursor.token()?;
        let parameters = cursor.parameters()?;
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(UpstreamChallenge::Basic);
        }
        if scheme.eq_ignore_ascii_case("bearer") {
            return parameters.into_bearer();
        }
    }
}

/// The parameters of a challenge that are of use; each at most once.
#[derive(Default)]
struct Parameters {
    realm: Option<String>,
    service: Option<String>,
    scope: Option<String>,
}

impl Parameters {
    /// Takes one parameter; `None` where it was there already.
    fn set(&mut self, name: &str, value: String) -> Option<()> {
        let slot = match name.to_ascii_lowercase().as_str() {
            "realm" => &mut self.realm,
            "service" => &mut self.service,
            "scope" => &mut self.scope,
            _ => return Some(()),
        };
        if slot.is_some() {
            return None;
        }
        *slot = Some(value);
        Some(())
    }

    fn into_bearer(self) -> Option<UpstreamChallenge> {
        let Self { realm, service, scope } = self;
        let realm = realm.filter(|realm| !realm.is_empty())?;
        Some(UpstreamChallenge::Bearer { realm, service, scope })
    }
}

/// Reads a header's value from left to right. `None` is malformed.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn skip_commas(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    fn take(&mut self, text: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(|byte| !wanted(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// RFC 9110, section 5.6.2.
    fn token(&mut self) -> Option<&'a str> {
        let token = self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        (!token.is_empty()).then_some(token)
    }

    /// RFC 9110, section 5.6.4.
    fn quoted_string(&mut self) -> Option<String> {
        self.take('"')?;
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(chars.next()?),
                plain => text.push(plain),
            }
        }
        self.rest = chars.as_str();
        (!text.contains(char::is_control)).then_some(text)
    }

    /// The parameters of a challenge, to its end: the next scheme, or the end of the header.
    fn parameters(&mut self) -> Option<Parameters> {
        let mut parameters = Parameters::default();
        let mut separated = self.rest.starts_with([' ', '\t', ',']);
        loop {
            self.skip_commas();
            if self.rest.is_empty() {
                return Some(parameters);
            }
            if !separated {
                return None;
            }
            let before = *self;
            let name = self.token()?;
            self.skip_spaces();
            if self.take('=').is_none() {
                *self = before;
                return Some(parameters);
            }
            self.skip_spaces();
            let value = if self.rest.starts_with('"') { self.quoted_string()? } else { self.token()?.to_owned() };
            parameters.set(name, value)?;
            self.skip_spaces();
            separated = self.rest.starts_with(',');
        }
    }
}

/// What a client sent in `Authorization`.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// RFC 7617: user and password; the password may hold colons.
    Basic {
        /// Before the first colon.
        username: String,
        /// After the first colon.
        password: String,
    },
    /// RFC 6750.
    Bearer(&'a str),
}

/// An `Authorization` header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// Neither Basic nor Bearer.
    #[error("Authorization must be Basic or Bearer")]
    UnknownScheme,
    /// Not base64, not UTF-8, no colon, control characters.
    #[error("Basic credentials are base64 of UTF-8 `user:password`")]
    MalformedBasic,
    /// Nothing behind the scheme, or more than one token's characters.
    #[error("Bearer is followed by one token")]
    MalformedBearer,
}

/// RFC 9110, section 11.2.
const fn is_token68(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// Reads an `Authorization` header's value. Schemes are case-insensitive.
pub fn parse_authorization(value: &HeaderValue) -> Result<Authorization<'_>, AuthorizationError> {
    let value = value.to_str().map_err(|_| AuthorizationError::UnknownScheme)?;
    let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
    let credentials = credentials.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("basic") {
        basic(credentials).ok_or(AuthorizationError::MalformedBasic)
    } else if scheme.eq_ignore_ascii_case("bearer") {
        let token = credentials.trim_end_matches('=');
        // Without a way out in between many bytes are looked at in one step.
        let valid = !token.is_empty() && token.bytes().fold(true, |valid, byte| valid & is_token68(byte));
        if valid { Ok(Authorization::Bearer(credentials)) } else { Err(AuthorizationError::MalformedBearer) }
    } else {
        Err(AuthorizationError::UnknownScheme)
    }
}

fn basic(credentials: &str) -> Option<Authorization<'static>> {
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    if text.contains(char::is_control) {
        return None;
    }
    let (username, password) = text.split_once(':')?;
    Some(Authorization::Basic { username: username.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests;

//! Paths, taken apart from their end, and what stands in them.

use super::SessionToken;
use crate::error::Excerpt;
use crate::{Digest, ErrorCode, ProtocolError, Reference, RepositoryName, Tag};
use http::StatusCode;

/// Most bytes of a session's token.
const MAX_SESSION_BYTES: usize = 4096;

/// A path, taken apart from its end: no two endpoints end alike, so that a name may hold `manifests`, `blobs` or `uploads`
/// as a component and there is still one reading.
pub enum Endpoint<'a> {
    Ping,
    Catalog,
    /// name
    Tags(&'a str),
    /// name, digest
    Referrers(&'a str, &'a str),
    /// name, reference
    Manifest(&'a str, &'a str),
    /// name, digest
    Blob(&'a str, &'a str),
    /// name
    Uploads(&'a str),
    /// name, session
    Upload(&'a str, &'a str),
}

impl<'a> Endpoint<'a> {
    /// Finds the endpoint that the path ends as. What its parts hold is not looked at.
    pub fn of(path: &'a str) -> Result<Self, ProtocolError> {
        Self::find(path).ok_or_else(|| no_endpoint(path))
    }

    fn find(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        match rest {
            "" => return Some(Self::Ping),
            "_catalog" => return Some(Self::Catalog),
            _ => {}
        }
        let (before, last) = rest.rsplit_once('/')?;
        let (name, kind) = before.rsplit_once('/')?;
        match (kind, last) {
            ("tags", "list") => Some(Self::Tags(name)),
            ("uploads", "") => Some(Self::Uploads(name.strip_suffix("/blobs")?)),
            (_, "") | ("blobs", "uploads") => None,
            ("manifests", reference) => Some(Self::Manifest(name, reference)),
            ("blobs", digest) => Some(Self::Blob(name, digest)),
            ("referrers", digest) => Some(Self::Referrers(name, digest)),
            ("uploads", session) => Some(Self::Upload(name.strip_suffix("/blobs")?, session)),
            _ => None,
        }
    }

    /// The methods that it takes.
    pub fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Ping => &["GET", "HEAD"],
            Self::Catalog | Self::Tags(_) | Self::Referrers(..) => &["GET"],
            Self::Manifest(..) => &["GET", "HEAD", "PUT", "DELETE"],
            Self::Blob(..) => &["GET", "HEAD", "DELETE"],
            Self::Uploads(_) => &["POST"],
            Self::Upload(..) => &["GET", "PATCH", "PUT", "DELETE"],
        }
    }
}

pub fn repository(text: &str) -> Result<RepositoryName, ProtocolError> {
    RepositoryName::parse(text).map_err(|error| {
        ProtocolError::new(ErrorCode::NameInvalid, format!("{} is no repository here: {error}", Excerpt(text)))
    })
}

pub fn digest(text: &str) -> Result<Digest, ProtocolError> {
    Digest::parse(text).map_err(|error| {
        ProtocolError::new(ErrorCode::DigestInvalid, format!("{} is no digest: {error}", Excerpt(text)))
    })
}

/// What stands behind `/manifests/`. A tag has no colon.
///
/// A digest that cannot be computed here is refused: upstreams that do not know its algorithm take it for a tag.
pub fn reference(text: &str) -> Result<Reference, ProtocolError> {
    if !text.contains(':') {
        return tag(text).map(Reference::Tag);
    }
    let digest = digest(text)?;
    if digest.is_computable() {
        Ok(Reference::Digest(digest))
    } else {
        let message =
            format!("manifests are known by sha256, sha384 or sha512, not by {}", Excerpt(digest.algorithm()));
        Err(ProtocolError::new(ErrorCode::DigestInvalid, message))
    }
}

/// The same where a manifest is read: there is none under what is no tag.
pub fn reference_to_read(text: &str) -> Result<Reference, ProtocolError> {
    reference(text).map_err(|error| match error.code {
        ErrorCode::TagInvalid => ProtocolError::new(ErrorCode::ManifestUnknown, error.message),
        _ => error,
    })
}

pub fn tag(text: &str) -> Result<Tag, ProtocolError> {
    Tag::parse(text)
        .map_err(|error| ProtocolError::new(ErrorCode::TagInvalid, format!("{} is no tag: {error}", Excerpt(text))))
}

pub fn session(text: &str) -> Result<SessionToken, ProtocolError> {
    let valid = text.len() <= MAX_SESSION_BYTES
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if valid {
        Ok(SessionToken(text.into()))
    } else {
        let message = "this upload was not started here; start one with POST and go on at the location that it answers";
        Err(ProtocolError::new(ErrorCode::BlobUploadUnknown, message))
    }
}

pub fn unsupported(status: StatusCode, message: impl Into<String>) -> ProtocolError {
    ProtocolError::new(ErrorCode::Unsupported, message).with_status(status)
}

fn no_endpoint(path: &str) -> ProtocolError {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\'));
    if plain && !path.contains("//") && !path.split('/').any(|segment| matches!(segment, "." | "..")) {
        unsupported(StatusCode::NOT_FOUND, format!("{} is no endpoint of the OCI distribution API", Excerpt(path)))
    } else {
        let message =
            format!("{} is no plain path: send it without percent-encoding, empty and dot segments", Excerpt(path));
        unsupported(StatusCode::BAD_REQUEST, message)
    }
}

//! The registry's error codes and the body that carries them (OCI Distribution Specification 1.1, "Error Codes").

use http::StatusCode;
use serde::Serialize;
use std::fmt;

/// The codes of the specification, and Docker's two beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the specification's
pub enum ErrorCode {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    ManifestUnverified,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unavailable,
    Unknown,
}

impl ErrorCode {
    const ALL: [Self; 20] = [
        Self::BlobUnknown,
        Self::BlobUploadInvalid,
        Self::BlobUploadUnknown,
        Self::DigestInvalid,
        Self::ManifestBlobUnknown,
        Self::ManifestInvalid,
        Self::ManifestUnknown,
        Self::ManifestUnverified,
        Self::NameInvalid,
        Self::NameUnknown,
        Self::PaginationNumberInvalid,
        Self::RangeInvalid,
        Self::SizeInvalid,
        Self::TagInvalid,
        Self::Unauthorized,
        Self::Denied,
        Self::Unsupported,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::Unknown,
    ];

    /// The code and the status that the specification pairs with it.
    const fn facts(self) -> (&'static str, StatusCode) {
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", StatusCode::BAD_REQUEST),
            Self::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", StatusCode::NOT_FOUND),
            Self::DigestInvalid => ("DIGEST_INVALID", StatusCode::BAD_REQUEST),
            Self::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", StatusCode::BAD_REQUEST),
            Self::ManifestInvalid => ("MANIFEST_INVALID", StatusCode::BAD_REQUEST),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND),
            Self::ManifestUnverified => ("MANIFEST_UNVERIFIED", StatusCode::BAD_REQUEST),
            Self::NameInvalid => ("NAME_INVALID", StatusCode::BAD_REQUEST),
            Self::NameUnknown => ("NAME_UNKNOWN", StatusCode::NOT_FOUND),
            Self::PaginationNumberInvalid => ("PAGINATION_NUMBER_INVALID", StatusCode::BAD_REQUEST),
            Self::RangeInvalid => ("RANGE_INVALID", StatusCode::RANGE_NOT_SATISFIABLE),
            Self::SizeInvalid => ("SIZE_INVALID", StatusCode::BAD_REQUEST),
            Self::TagInvalid => ("TAG_INVALID", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED),
            Self::Denied => ("DENIED", StatusCode::FORBIDDEN),
            Self::Unsupported => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED),
            Self::TooManyRequests => ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable => ("UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unknown => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// `BLOB_UNKNOWN`
    pub const fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// Reads a code that an upstream sent.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// The status that the specification pairs with it.
    pub const fn default_status(self) -> StatusCode {
        self.facts().1
    }
}

/// One refusal in the registry's form. The message says what happened, why, and what to do next.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ProtocolError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// For machines.
    pub detail: Option<serde_json::Value>,
}

impl ProtocolError {
    /// An error with its code's default status and no detail.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status: code.default_status(), code, message: message.into(), detail: None }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// `{"errors":[{"code","message","detail"}]}`
    pub fn body(&self) -> Vec<u8> {
        let entry = Entry { code: self.code.as_str(), message: &self.message, detail: self.detail.as_ref() };
        serde_json::to_vec(&Body { errors: [entry] }).expect("strings and JSON values can be written as JSON")
    }
}

#[derive(Serialize)]
struct Body<'a> {
    errors: [Entry<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a serde_json::Value>,
}

/// Untrusted text as a message or a log line may show it: quoted, at most 64 characters, control and bidirectional
/// characters escaped.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a>(pub &'a str);

/// Most characters of untrusted text that are shown.
const EXCERPT_CHARS: usize = 64;

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(EXCERPT_CHARS) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}…", self.0.split_at(end).0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back_from_its_text() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert!(code.default_status().is_client_error() || code.default_status().is_server_error());
        }
        assert_eq!(ErrorCode::parse("blob_unknown"), None);
    }

    #[test]
    fn the_body_has_the_form_of_the_specification() {
        let error = ProtocolError::new(ErrorCode::Denied, "say \"no\"");
        assert_eq!(error.body(), br#"{"errors":[{"code":"DENIED","message":"say \"no\""}]}"#);
        let error = error.with_detail(serde_json::json!({"used": 3})).with_status(StatusCode::BAD_REQUEST);
        assert_eq!(error.body(), br#"{"errors":[{"code":"DENIED","message":"say \"no\"","detail":{"used":3}}]}"#);
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn an_excerpt_is_bounded_and_holds_nothing_that_moves_a_terminal_or_turns_text_around() {
        let hostile =
            "\u{1b}[31m\n\0\u{7f}\u{85}\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2028}\u{2066}\u{2069}\u{feff}";
        let shown = Excerpt(hostile).to_string();
        assert!(shown.chars().all(|c| matches!(c, ' '..='~')), "{shown}");
        assert_eq!(Excerpt("a").to_string(), "\"a\"");
        assert_eq!(Excerpt(&"é".repeat(64)).to_string().chars().count(), 66);
        assert_eq!(Excerpt(&"é".repeat(65)).to_string().chars().count(), 67);
        assert!(Excerpt(&"\0".repeat(1 << 20)).to_string().len() < 1024);
    }
}

//! What of an upstream's answer gets to the client: listed headers, and errors told anew.

use super::Errand;
use crate::pipeline::respond::{Refusal, unknown_manifest};
use crate::upstream::{Answer, UpstreamError};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use portcullis_oci::{Digest, ErrorCode, Operation, ProtocolError};
use serde::Deserialize;

/// Whether a header of the upstream's answer is passed on as it is.
fn is_passed(name: &HeaderName) -> bool {
    if *name == header::CONTENT_LENGTH || *name == header::CONTENT_TYPE || *name == header::ETAG {
        return true;
    }
    matches!(
        name.as_str(),
        "docker-content-digest"
            | "accept-ranges"
            | "content-range"
            | "range"
            | "last-modified"
            | "cache-control"
            | "docker-upload-uuid"
            | "oci-subject"
            | "oci-filters-applied"
            | "oci-tag"
            | "oci-chunk-min-length"
            | "oci-chunk-max-length"
    )
}

/// An answer's status and listed headers, with a body.
pub fn head<B>(errand: &Errand, status: StatusCode, headers: &HeaderMap, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let passed = response.headers_mut();
    passed.reserve(headers.len());
    for (name, value) in headers {
        if is_passed(name) {
            passed.append(name.clone(), value.clone());
        }
    }
    for warning in warnings(errand, headers) {
        passed.append(header::WARNING, warning);
    }
    response
}

/// The upstream's warnings, told anew: `299 - "text"` (OCI Distribution Specification 1.1, "Warnings"), bounded, in plain
/// characters, and left out where one speaks of the upstream's own names.
pub fn warnings(errand: &Errand, headers: &HeaderMap) -> Vec<HeaderValue> {
    const MOST: usize = 8;
    const LONGEST: usize = 400;
    let origin = errand.visit.worker.app.upstream.origin();
    let texts = headers.get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
    texts
        .filter_map(|value| value.strip_prefix("299 - \"")?.strip_suffix('"'))
        .filter(|text| !text.contains(&errand.upstream_name) && !text.contains(&origin.host))
        .filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'))
        .filter_map(|text| HeaderValue::try_from(format!("299 - \"{}\"", text.get(..LONGEST).unwrap_or(text))).ok())
        .take(MOST)
        .collect()
}

#[derive(Deserialize)]
struct UpstreamErrors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// An upstream's refusal, told anew: its code where it is one of the specification's, a message of our own, and of the
/// detail only digests, because the rest may name what lies upstream.
pub async fn refusal(errand: &Errand, answer: Answer) -> Refusal {
    let status = answer.head.status;
    let retry_after = answer.head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let errors = match answer.whole().await {
        Ok((_, body)) => {
            serde_json::from_slice::<UpstreamErrors>(&body).map(|errors| errors.errors).unwrap_or_default()
        }
        Err(_) => Vec::new(),
    };
    if status.is_server_error() {
        tracing::warn!(
            upstream.status = status.as_u16(),
            operation = errand.granted.operation().name(),
            "the upstream failed"
        );
        return Refusal::UpstreamStatus { status, retry_after };
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Refusal::UpstreamStatus { status, retry_after };
    }
    if !is_about_request(status) {
        // Told on, a status of success would tell the client that what was refused here has been done.
        let what = errand.granted.operation().name();
        return UpstreamError::Odd(format!("status {} to {what}", status.as_u16())).into();
    }
    let told = errors.iter().find_map(|error| ErrorCode::parse(&error.code)).filter(|code| is_about_content(*code));
    let code = told.unwrap_or_else(|| default_code(errand.granted.operation(), status));
    let digests: Vec<_> = errors.iter().flat_map(|error| digests(&error.detail)).take(16).collect();
    let mut error = ProtocolError::new(code, message(errand, code)).with_status(status);
    if !digests.is_empty() {
        error = error.with_detail(serde_json::json!(digests));
    }
    error.into()
}

/// Statuses that a client can do something about. Any other is no answer of a registry to what was asked.
const fn is_about_request(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 409 | 410 | 412 | 413 | 415 | 416 | 422)
}

/// Codes that speak of content and not of the upstream's own rights and limits.
const fn is_about_content(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::Unauthorized
            | ErrorCode::Denied
            | ErrorCode::TooManyRequests
            | ErrorCode::Unavailable
            | ErrorCode::Unknown
    )
}

fn digests(detail: &serde_json::Value) -> Vec<serde_json::Value> {
    let entries = match detail {
        serde_json::Value::Array(entries) => entries.as_slice(),
        one => std::slice::from_ref(one),
    };
    entries
        .iter()
        .filter_map(|entry| entry.get("digest").or_else(|| entry.get("Digest")).unwrap_or(entry).as_str())
        .filter_map(|text| Digest::parse(text).ok())
        .map(|digest| serde_json::json!({"digest": digest.as_str()}))
        .collect()
}

fn default_code(operation: &Operation, status: StatusCode) -> ErrorCode {
    match (status, operation) {
        (StatusCode::METHOD_NOT_ALLOWED, _) => ErrorCode::Unsupported,
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => ErrorCode::RangeInvalid,
        (
            StatusCode::NOT_FOUND,
            Operation::BlobPull { .. } | Operation::BlobHead { .. } | Operation::BlobDelete { .. },
        ) => ErrorCode::BlobUnknown,
        (
            StatusCode::NOT_FOUND,
            Operation::ManifestPull { .. }
            | Operation::ManifestHead { .. }
            | Operation::ManifestDelete { .. }
            | Operation::TagDelete { .. },
        ) => ErrorCode::ManifestUnknown,
        (
            StatusCode::NOT_FOUND,
            Operation::UploadChunk { .. }
            | Operation::UploadFinish { .. }
            | Operation::UploadStatus { .. }
            | Operation::UploadCancel { .. },
        ) => ErrorCode::BlobUploadUnknown,
        (StatusCode::NOT_FOUND, _) => ErrorCode::NameUnknown,
        (_, Operation::ManifestPush { .. }) => ErrorCode::ManifestInvalid,
        (_, Operation::UploadStart { .. } | Operation::UploadChunk { .. } | Operation::UploadFinish { .. }) => {
            ErrorCode::BlobUploadInvalid
        }
        _ => ErrorCode::Unsupported,
    }
}

fn message(errand: &Errand, code: ErrorCode) -> String {
    let repository = &errand.repository;
    match code {
        ErrorCode::NameUnknown => {
            format!("the repository {repository} does not exist; it comes into being with its first push")
        }
        ErrorCode::ManifestUnknown => match errand.granted.operation() {
            Operation::ManifestPull { reference, .. } | Operation::ManifestHead { reference, .. } => {
                unknown_manifest(repository, reference).message
            }
            _ => format!("{repository} has no such manifest"),
        },
        ErrorCode::BlobUnknown => format!("{repository} has no such blob"),
        ErrorCode::BlobUploadUnknown => "there is no such upload (any more); start it again with POST".to_owned(),
        ErrorCode::ManifestBlobUnknown => {
            format!("the manifest names what {repository} does not have; push it there first")
        }
        ErrorCode::DigestInvalid => "the bytes do not have the digest that was named".to_owned(),
        ErrorCode::RangeInvalid => {
            "the range does not fit: an upload goes on where its last chunk ended, see its status".to_owned()
        }
        ErrorCode::SizeInvalid => "the length that was announced is not the length that came".to_owned(),
        code => format!("the registry refused it as {}", code.as_str()),
    }
}

/// A plain error in the registry's form.
pub fn plain(code: ErrorCode, message: impl Into<String>) -> Refusal {
    ProtocolError::new(code, message).into()
}

//! What a request's line and headers must be before anything else looks at it: one host of ours, one length, one endpoint.

use super::Visit;
use super::respond::Refusal;
use http::{HeaderMap, StatusCode, Version, header};
use portcullis_oci::{ErrorCode, Operation, ProtocolError, route};

/// What a request is for.
pub enum Endpoint {
    /// An operation of the registry.
    Registry(Operation),
    /// `GET|POST /token`
    Token,
    /// `GET /.well-known/jwks.json`
    Jwks,
}

impl Endpoint {
    /// Its name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Registry(operation) => operation.name(),
            Self::Token => "token",
            Self::Jwks => "jwks",
        }
    }
}

/// Checks a request's head and finds what it is for.
pub fn receive(visit: &Visit) -> Result<Endpoint, Refusal> {
    let head = &visit.head;
    check_size(&head.headers, head.uri.path().len(), visit.settings.config.limits.header_bytes)?;
    check_framing(&head.headers)?;
    host(visit).and_then(|host| visit.settings.hosts.realm(host)).ok_or_else(misdirected)?;
    if head.uri.scheme().is_some() && head.version < Version::HTTP_2 {
        return Err(bad("the request target must be a path, as in `GET /v2/`; this gateway is no forward proxy"));
    }
    match head.uri.path() {
        "/token" => Ok(Endpoint::Token),
        "/.well-known/jwks.json" => Ok(Endpoint::Jwks),
        path => {
            let operation = route::route(&head.method, path, head.uri.query())?;
            check_body_type(&operation, &head.headers)?;
            Ok(Endpoint::Registry(operation))
        }
    }
}

/// The host that the client used: the one `Host` header, or HTTP/2's `:authority`, which must not differ.
pub fn host(visit: &Visit) -> Option<&str> {
    let mut hosts = visit.head.headers.get_all(header::HOST).iter();
    let header = hosts.next().map(|host| host.to_str().ok());
    if hosts.next().is_some() {
        return None;
    }
    let authority = visit.head.uri.authority().map(http::uri::Authority::as_str);
    match (header, authority) {
        (Some(None), _) => None,
        (Some(Some(host)), None) => Some(host),
        (None, authority) => authority,
        (Some(Some(host)), Some(authority)) => host.eq_ignore_ascii_case(authority).then_some(host),
    }
}

fn check_size(headers: &HeaderMap, path: usize, limit: usize) -> Result<(), Refusal> {
    let size = headers.iter().fold(path, |size, (name, value)| {
        size.saturating_add(name.as_str().len()).saturating_add(value.len()).saturating_add(4)
    });
    if size <= limit {
        return Ok(());
    }
    let message = format!(
        "the request's head has {size} bytes, at most {limit} are taken; ask for fewer scopes or send fewer headers"
    );
    Err(ProtocolError::new(ErrorCode::Unsupported, message)
        .with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        .into())
}

/// A body has one length. What two parsers could measure differently is refused (RFC 9112, section 6).
fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let encodings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
    if lengths.saturating_add(encodings) > 1 {
        return Err(Refusal::Framing("a request has one Content-Length or one Transfer-Encoding, not several of them"));
    }
    if let Some(encoding) = headers.get(header::TRANSFER_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        return Err(Refusal::Framing("the only Transfer-Encoding taken is `chunked`"));
    }
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(bad("a request has one Authorization header"));
    }
    Ok(())
}

/// Distribution reads `mount`, `from` and `digest` from a form body before it looks at the query.
fn check_body_type(operation: &Operation, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_upload = matches!(
        operation,
        Operation::UploadStart { .. }
            | Operation::UploadChunk { .. }
            | Operation::UploadFinish { .. }
            | Operation::UploadCancel { .. }
    );
    if !is_upload {
        return Ok(());
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let media_type = types.next().map(|value| value.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    let is_form = media_type.starts_with(b"application/x-www-form-urlencoded") || media_type.starts_with(b"multipart/");
    if is_form || types.next().is_some() {
        return Err(bad(
            "an upload's body is the blob itself: send it as `Content-Type: application/octet-stream`, never as a form",
        ));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(bad("an upload's body is the blob itself: send it without Content-Encoding"));
    }
    Ok(())
}

fn bad(message: &str) -> Refusal {
    ProtocolError::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST).into()
}

fn misdirected() -> Refusal {
    let message =
        "this host name is not one of this gateway's; its operator lists them in server.public_url and server.hosts";
    ProtocolError::new(ErrorCode::Unsupported, message).with_status(StatusCode::MISDIRECTED_REQUEST).into()
}

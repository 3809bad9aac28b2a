//! The only place where an error becomes a response: in the registry's form, in words that say what to do next, and with
//! the request's id. What is the client's fault is explained; what is ours or the upstream's is logged and named only.

use super::Visit;
use super::receive::host;
use super::settle::Meter;
use crate::body::Body;
use crate::crowd::Shed;
use crate::limits::{self, Limited, PullsLeft};
use crate::tag_lock::LockError;
use crate::upstream::UpstreamError;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_oci::challenge::{ChallengeError, bearer_challenge};
use portcullis_oci::{ErrorCode, ProtocolError, Reference, RepositoryName, Scope};
use portcullis_policy::Owner;
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::{ProjectName, StoreError, TenancyError};
use std::time::Duration;
use tokio::time::timeout;

/// Why a request is not carried out.
#[derive(Debug)]
pub enum Refusal {
    /// The client's fault, told as it is.
    Protocol(ProtocolError),
    /// A token is needed, or another one.
    Challenge {
        /// What the token must cover.
        scopes: Vec<Scope>,
        /// What is wrong with the one that was sent.
        error: Option<ChallengeError>,
        /// For people.
        message: String,
        /// What it is in the audit trail; none where it only asks for credentials, or for newer ones.
        denial: Option<Kind>,
    },
    /// Wrong user name or password at the token endpoint.
    Login(String),
    /// The request could be measured in two ways: its connection ends with it.
    Framing(&'static str),
    /// A blob has no bytes in the range that was asked for; how many it has, where that is known.
    Range {
        /// All its bytes.
        length: Option<u64>,
    },
    /// A policy says no.
    Policy {
        /// Which, and what it says.
        refusal: Box<portcullis_policy::Refusal>,
        /// Whose request it is.
        project: ProjectName,
    },
    /// There is no room for what is pushed.
    Quota(String),
    /// Too often, or too much.
    Limited(Box<Limited>),
    /// The upstream's fault.
    Upstream(UpstreamError),
    /// The upstream answered with an error of its own.
    UpstreamStatus {
        /// Its status.
        status: StatusCode,
        /// Its `Retry-After`.
        retry_after: Option<u32>,
    },
    /// Not now.
    Unavailable(String),
    /// Too many are under way.
    Shed(Shed),
    /// The store's fault.
    Store(StoreError),
    /// Our fault.
    Internal(String),
}

impl Refusal {
    /// Not now, and why.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable(why.into())
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::ClientBody(fault) => {
                let message = format!("the body did not arrive whole: {fault}; send it again");
                let status = if fault.is_late() { StatusCode::REQUEST_TIMEOUT } else { StatusCode::BAD_REQUEST };
                ProtocolError::new(ErrorCode::SizeInvalid, message).with_status(status).into()
            }
            error => Self::Upstream(error),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TenancyError> for Refusal {
    fn from(error: TenancyError) -> Self {
        match error {
            TenancyError::Store(error) => Self::Store(error),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Store(error) => Self::Store(error),
            LockError::Busy => Self::Unavailable(format!("{error}; try again in a moment")),
        }
    }
}

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tells the client no. What it is still sending is read and thrown away for a while, so that it sees the answer instead
/// of a broken connection.
pub fn refuse(visit: &Visit, refusal: Refusal, meter: &mut Meter) -> Response<Body> {
    if let Some(body) = visit.body.as_ref().and_then(|body| body.take_back()) {
        discard(visit, body);
    }
    meter.refused(visit, &refusal);
    let mut headers = HeaderMap::new();
    let error = explain(visit, refusal, &mut headers);
    let id = meter.request_id().to_string();
    let error = with_request_id(error, &id);
    let mut response = Response::new(Body::full(error.body()));
    *response.status_mut() = error.status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn explain(visit: &Visit, refusal: Refusal, headers: &mut HeaderMap) -> ProtocolError {
    let retry_later =
        |headers: &mut HeaderMap, seconds: u32| headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    match refusal {
        Refusal::Protocol(error) => {
            if let Some(allow) = allowed_methods(&error) {
                headers.insert(header::ALLOW, allow);
            }
            error
        }
        Refusal::Challenge { scopes, error, message, .. } => {
            let realm = host(visit).and_then(|host| visit.settings.hosts.realm(host)).unwrap_or_default();
            let challenge = bearer_challenge(realm, &visit.settings.config.tokens.service, &scopes, error);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
            ProtocolError::new(ErrorCode::Unauthorized, message)
        }
        Refusal::Login(message) => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"portcullis\""));
            ProtocolError::new(ErrorCode::Unauthorized, message)
        }
        Refusal::Framing(message) => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            ProtocolError::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST)
        }
        Refusal::Range { length } => {
            if let Some(range) = length.and_then(|length| HeaderValue::try_from(format!("bytes */{length}")).ok()) {
                headers.insert(header::CONTENT_RANGE, range);
            }
            ProtocolError::new(ErrorCode::RangeInvalid, "the blob has no bytes in this range; see Content-Range")
        }
        Refusal::Policy { refusal, project } => policy_denial(&refusal, &project),
        Refusal::Quota(message) => ProtocolError::new(ErrorCode::Denied, message),
        Refusal::Limited(limited) => limited.tell(headers),
        Refusal::Upstream(error) => {
            tracing::warn!(%error, "the upstream failed");
            retry_later(headers, 5);
            let status = match error {
                UpstreamError::Busy => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_GATEWAY,
            };
            let message =
                "the registry behind this gateway cannot be reached or does not answer as it should; try again later";
            ProtocolError::new(ErrorCode::Unavailable, message).with_status(status)
        }
        Refusal::UpstreamStatus { status, retry_after } => upstream_status(status, retry_after, headers),
        Refusal::Unavailable(why) => {
            retry_later(headers, 5);
            ProtocolError::new(ErrorCode::Unavailable, why).with_status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Refusal::Shed(Shed::Node) => {
            retry_later(headers, 2);
            let message = "the gateway has as many requests under way as it can bear; try again in a moment";
            ProtocolError::new(ErrorCode::Unavailable, message).with_status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Refusal::Shed(Shed::Address) => {
            limits::tell_address_is_busy(visit.settings.config.limits.requests_under_way_per_address, headers);
            let message =
                "your address has as many requests under way here as one address may have; let some end first";
            ProtocolError::new(ErrorCode::TooManyRequests, message)
        }
        Refusal::Store(StoreError::Missing) => {
            let message = "the project or the robot was deleted while this was under way; nothing was recorded of it";
            ProtocolError::new(ErrorCode::NameUnknown, message)
        }
        Refusal::Store(error) => {
            tracing::error!(%error, "the store failed");
            retry_later(headers, 5);
            let message =
                "the gateway cannot reach its store, and what it cannot check it does not allow; try again later";
            ProtocolError::new(ErrorCode::Unavailable, message).with_status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Refusal::Internal(error) => {
            tracing::error!(error, "the gateway failed");
            ProtocolError::new(
                ErrorCode::Unknown,
                "the gateway failed; its operator finds the reason in the log under this request id",
            )
            .with_status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Always 403 `DENIED`, at which clients stop and print the message; the policy's own words are the detail's.
fn policy_denial(refusal: &portcullis_policy::Refusal, project: &ProjectName) -> ProtocolError {
    let (of, owner) = match &refusal.owner {
        Owner::Platform => ("the platform".to_owned(), "platform"),
        Owner::Project(_) => (project.to_string(), project.as_str()),
    };
    let mut detail = serde_json::json!({"policy": refusal.policy, "owner": owner});
    if let (Some(detail), Some(code)) = (detail.as_object_mut(), &refusal.code) {
        detail.insert("code".to_owned(), code.as_str().into());
    }
    let own = refusal.detail_json.as_deref().and_then(|json| serde_json::from_str(json).ok());
    if let (Some(detail), Some(own)) = (detail.as_object_mut(), own) {
        detail.insert("detail".to_owned(), own);
    }
    let message = format!("policy {} of {of}: {}", refusal.policy, refusal.message);
    ProtocolError::new(ErrorCode::Denied, message).with_detail(detail)
}

/// The methods that a 405 lists in its detail (RFC 9110, section 15.5.6).
fn allowed_methods(error: &ProtocolError) -> Option<HeaderValue> {
    if error.status != StatusCode::METHOD_NOT_ALLOWED {
        return None;
    }
    let methods: Vec<&str> =
        error.detail.as_ref()?.get("allow")?.as_array()?.iter().filter_map(|method| method.as_str()).collect();
    HeaderValue::try_from(methods.join(", ")).ok()
}

fn upstream_status(status: StatusCode, retry_after: Option<u32>, headers: &mut HeaderMap) -> ProtocolError {
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.unwrap_or(5).min(3600)));
    match status {
        StatusCode::TOO_MANY_REQUESTS => ProtocolError::new(
            ErrorCode::TooManyRequests,
            "the registry behind this gateway is asked too often; try again later",
        ),
        StatusCode::SERVICE_UNAVAILABLE => ProtocolError::new(
            ErrorCode::Unavailable,
            "the registry behind this gateway is not available; try again later",
        )
        .with_status(StatusCode::SERVICE_UNAVAILABLE),
        _ => ProtocolError::new(ErrorCode::Unavailable, "the registry behind this gateway failed; try again later")
            .with_status(StatusCode::BAD_GATEWAY),
    }
}

/// The request's id goes into the detail, so that a user can quote it.
fn with_request_id(mut error: ProtocolError, id: &str) -> ProtocolError {
    error.detail = match error.detail.take() {
        None => Some(serde_json::json!({"request_id": id})),
        Some(serde_json::Value::Object(mut detail)) => {
            detail.insert("request_id".to_owned(), id.into());
            Some(detail.into())
        }
        other => other,
    };
    error
}

/// The same answer with warnings for the client (OCI Distribution Specification 1.1, "Warnings"): at most 4096 bytes of them,
/// in plain characters.
pub fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    const MOST_BYTES: usize = 4096;
    let mut bytes = 0_usize;
    for text in warnings {
        let plain = |c: char| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '?' };
        let value = format!("299 - \"{}\"", text.chars().map(plain).collect::<String>());
        bytes = bytes.saturating_add(value.len());
        if bytes > MOST_BYTES {
            break;
        }
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// The same answer with what it leaves of a limit on pulls, in Docker Hub's form.
pub fn with_pulls_left(mut response: Response<Body>, left: Option<PullsLeft>) -> Response<Body> {
    if let Some(left) = left {
        left.show(response.headers_mut());
    }
    response
}

/// The same answer to a HEAD request: its length is told, and no byte of it sent. HTTP/2 would send what is there.
pub fn to_head(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.own_length() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

/// Reads on for a while what the client is still sending. Who waits for `100 Continue` is not asked to send anything, and
/// on HTTP/2 the stream is simply reset after the answer.
fn discard(visit: &Visit, mut body: Incoming) {
    use http_body::Body as _;
    let waits = visit.head.headers.contains_key(header::EXPECT);
    if body.is_end_stream() || waits || visit.head.version == Version::HTTP_2 {
        return;
    }
    let limits = &visit.settings.config.limits;
    let (most, longest): (u64, Duration) = (limits.discard_bytes, limits.discard_timeout);
    tokio::spawn(async move {
        let reading = async {
            let mut read = 0_u64;
            while let Some(Ok(frame)) = body.frame().await {
                read = read.saturating_add(frame.data_ref().map_or(0, bytes::Bytes::len) as u64);
                if read > most {
                    break;
                }
            }
        };
        let _ = timeout(longest, reading).await;
    });
}

/// What a pull of a missing manifest is told.
pub fn unknown_manifest(repository: &RepositoryName, reference: &Reference) -> ProtocolError {
    ProtocolError::new(ErrorCode::ManifestUnknown, format!("{repository} has no manifest {reference}"))
}

/// `{}`: the answer to a ping.
pub fn empty_object() -> Response<Body> {
    json(b"{}".as_slice())
}

/// A list, and where it goes on.
pub fn json_list(body: Vec<u8>, link: Option<HeaderValue>) -> Response<Body> {
    let mut response = json(body);
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// JSON.
pub fn json(body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

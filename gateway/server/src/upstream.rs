//! The client side towards the registry behind: pooled HTTP/1.1 connections, deadlines, login, bodies both ways.
//!
//! It never reads a client's header and never lets a connection be used again on which a body was left unread or unsent.

mod connect;
mod login;
mod pages;
mod patience;
mod pool;
mod redirect;
mod relay;
mod request_body;

pub use connect::Connector;
pub use login::Login;
pub use pages::NextPage;
pub use pool::Pool;
pub use redirect::Resolved;
pub use relay::Relay;
pub use request_body::{BodyFault, ClientBody, Inbound, RequestBody};

use crate::config::{self, PublicUrl};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pool::Lease;
use portcullis_oci::Digest;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Most bytes of an answer that is read whole (errors, lists, a manifest to be looked at).
pub const MAX_WHOLE_BODY: usize = 8 * 1024 * 1024;

/// What went wrong towards the upstream. None of it is the client's fault, and none of it is told to the client in detail.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It cannot be reached.
    #[error("cannot connect to the upstream: {0}")]
    Connect(String),
    /// All connections are in use.
    #[error("no upstream connection became free in time")]
    Busy,
    /// A deadline passed; which one.
    #[error("the upstream let the deadline for {0} pass")]
    Deadline(&'static str),
    /// The connection ended in the middle, or its bytes are no HTTP.
    #[error("the upstream's connection failed: {0}")]
    Broken(String),
    /// It answered what no registry should.
    #[error("the upstream's answer makes no sense: {0}")]
    Odd(String),
    /// It does not take our credentials.
    #[error("the upstream refuses the gateway's own credentials")]
    Login,
    /// The client's body ended early or stalled, so that nothing could be sent on.
    #[error("the client's body failed: {0}")]
    ClientBody(BodyFault),
}

impl UpstreamError {
    /// A body that broke off.
    pub fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

/// One request to the upstream: a path that was rebuilt from parsed parts, and what goes with it.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers of our own choice; host and authorization are added here.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: RequestBody,
    /// The scope that the upstream's own token must cover, where its login is by bearer token.
    pub scope: String,
}

impl Call {
    /// A call without body and headers.
    pub fn new(method: Method, path: impl Into<String>, scope: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: http::HeaderMap::new(),
            body: RequestBody::Empty,
            scope: scope.into(),
        }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }

    /// The same call once more, where its body can be sent again.
    pub fn copy(&self) -> Option<Self> {
        Some(Self {
            method: self.method.clone(),
            path: self.path.clone(),
            headers: self.headers.clone(),
            body: self.body.copy()?,
            scope: self.scope.clone(),
        })
    }
}

/// The registry behind, shared by all threads; connections are kept in a [`Pool`] of each thread's own.
pub struct Upstream {
    connector: Arc<Connector>,
    login: Login,
    timeouts: Timeouts,
    redirects: config::Redirects,
    redirect_hosts: Vec<String>,
    /// Whether a 403 is the answer to what was asked, and not a login that has failed.
    tells_refusals: bool,
}

/// The deadlines of one call.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the last byte of the request to the first of the answer.
    pub first_byte: Duration,
    /// The longest silence inside a body.
    pub idle: Duration,
    /// How long an answer may lie unread by the client.
    pub unread: Duration,
    /// At what pace a client has to send and to read over longer times, in bytes a second; 0 is any.
    pub slowest: u64,
}

/// An answer whose body has not been read.
pub struct Answer {
    /// Status and headers.
    pub head: http::response::Parts,
    /// The body; reading it to its end gives the connection back.
    pub body: Relay,
}

impl Answer {
    /// The length that its head tells; none where it tells none.
    pub fn content_length(&self) -> Option<u64> {
        self.head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Reads the body whole, at most [`MAX_WHOLE_BODY`] bytes.
    pub async fn whole(self) -> Result<(http::response::Parts, Bytes), UpstreamError> {
        self.whole_up_to(MAX_WHOLE_BODY).await
    }

    /// Reads the body whole, at most `most` bytes.
    pub async fn whole_up_to(self, most: usize) -> Result<(http::response::Parts, Bytes), UpstreamError> {
        let limited = http_body_util::Limited::new(self.body, most);
        let bytes = limited.collect().await.map_err(UpstreamError::broken)?.to_bytes();
        Ok((self.head, bytes))
    }
}

impl Upstream {
    /// The upstream of a configuration.
    pub fn new(config: &config::Upstream) -> anyhow::Result<Self> {
        Self::build(config, Login::new(config), false)
    }

    /// A registry that tells its refusals, such as this gateway itself, for whoever is its client.
    pub fn as_client(config: &config::Upstream, login: Login) -> anyhow::Result<Self> {
        Self::build(config, login, true)
    }

    fn build(config: &config::Upstream, login: Login, tells_refusals: bool) -> anyhow::Result<Self> {
        let connector = Arc::new(Connector::new(config)?);
        let timeouts = Timeouts {
            first_byte: config.first_byte_timeout,
            idle: config.idle_timeout,
            unread: config.unread_timeout,
            slowest: 0,
        };
        Ok(Self {
            login,
            connector,
            timeouts,
            redirects: config.redirects,
            redirect_hosts: config.redirect_hosts.clone(),
            tells_refusals,
        })
    }

    /// The same for clients that have to send, and to read, so many bytes a second.
    #[must_use]
    pub fn for_clients_at(mut self, slowest: u64) -> Self {
        self.timeouts.slowest = slowest;
        self
    }

    /// The upstream's origin.
    pub fn origin(&self) -> &PublicUrl {
        self.connector.origin()
    }

    /// Closes this thread's connections that have not been used for a while.
    pub fn close_unused(&self, pool: &Pool) {
        pool.close_unused(&self.connector);
    }

    /// The deadlines.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Makes a call. Where the upstream refuses our login, one new login is tried if the body can be sent again.
    pub async fn call(&self, pool: &Arc<Pool>, mut call: Call) -> Result<Answer, UpstreamError> {
        let again = if self.login.is_renewable() { call.copy() } else { None };
        if let Some(value) = self.login.authorization(self, pool, &call.scope).await? {
            call.headers.insert(header::AUTHORIZATION, value);
        }
        let scope = std::mem::take(&mut call.scope);
        let answer = self.send(pool, call.method, call.path, call.headers, call.body).await?;
        if !self.refuses_login(answer.head.status) {
            return checked(answer);
        }
        // Read to its end, so that its connection can carry the new login.
        let _ = answer.whole().await;
        let renewed = self.login.renew(self, pool, &scope).await?;
        let (Some(value), Some(mut again)) = (renewed, again) else {
            return Err(UpstreamError::Login);
        };
        again.headers.insert(header::AUTHORIZATION, value);
        let answer = self.send(pool, again.method, again.path, again.headers, again.body).await?;
        if self.refuses_login(answer.head.status) { Err(UpstreamError::Login) } else { checked(answer) }
    }

    /// What the upstream answers to a blob's HEAD in the repository of this name, and the size that it states.
    pub async fn blob_head(
        &self,
        pool: &Arc<Pool>,
        name: &str,
        digest: &Digest,
    ) -> Result<(StatusCode, Option<u64>), UpstreamError> {
        let call = Call::new(Method::HEAD, format!("/v2/{name}/blobs/{digest}"), format!("repository:{name}:pull"));
        let answer = self.call(pool, call).await?;
        let answer = self.follow(answer, &Method::HEAD).await?;
        Ok((answer.head.status, answer.content_length()))
    }

    fn refuses_login(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || (status == StatusCode::FORBIDDEN && !self.tells_refusals)
    }

    /// Whether an upload can be started here without any credentials.
    pub async fn takes_anonymous_writes(&self, pool: &Arc<Pool>, name: &str) -> Result<bool, UpstreamError> {
        let path = format!("/v2/{name}/blobs/uploads/");
        let (head, _) =
            self.send(pool, Method::POST, path, http::HeaderMap::new(), RequestBody::Empty).await?.whole().await?;
        Ok(head.status == StatusCode::ACCEPTED)
    }

    /// Sends one request as it is, on a pooled connection or a new one.
    async fn send(
        &self,
        pool: &Arc<Pool>,
        method: Method,
        path: String,
        headers: http::HeaderMap,
        body: RequestBody,
    ) -> Result<Answer, UpstreamError> {
        let is_head = method == Method::HEAD;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.try_into().map_err(|_| UpstreamError::Odd("its location is no path".to_owned()))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::HOST, self.connector.authority().clone());
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("portcullis"));
        let inbound = request.body().inbound();

        loop {
            let (mut lease, reused) = pool.lease(&self.connector).await?;
            let once_more = if reused { repeatable(&request) } else { None };
            let sending = lease.sender.try_send_request(request);
            let waited = match &inbound {
                None => timeout(self.timeouts.first_byte, sending)
                    .await
                    .map_err(|_| UpstreamError::Deadline("the first byte"))?,
                Some(inbound) => tokio::select! {
                    sent = sending => sent,
                    what = inbound.overdue(self.timeouts.first_byte, self.timeouts.idle) => return Err(UpstreamError::Deadline(what)),
                },
            };
            match waited {
                Ok(response) => return Ok(self.answer(response, lease, inbound, is_head)),
                // A kept connection may have been closed in the meantime: what was not sent, and what may be sent twice,
                // is sent on another.
                Err(mut error) => match error.take_message().filter(|_| reused).or(once_more) {
                    Some(again) => request = again,
                    _ => {
                        return Err(match inbound.as_ref().and_then(|inbound| inbound.failure()) {
                            Some(failure) => UpstreamError::ClientBody(failure),
                            None => UpstreamError::Broken(error.into_error().to_string()),
                        });
                    }
                },
            }
        }
    }

    fn answer(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        inbound: Option<Arc<Inbound>>,
        is_head: bool,
    ) -> Answer {
        let (head, body) = response.into_parts();
        let body = Relay::new(body, lease, inbound, self.timeouts, is_head);
        Answer { head, body }
    }
}

/// A read once more: it may be sent twice (RFC 9110, section 9.2.2).
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let mut again = Request::new(request.body().copy()?);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// 101 and other informational answers are no answer to what was asked.
fn checked(answer: Answer) -> Result<Answer, UpstreamError> {
    if answer.head.status.is_informational() {
        return Err(UpstreamError::Odd(format!("status {}", answer.head.status.as_u16())));
    }
    Ok(answer)
}

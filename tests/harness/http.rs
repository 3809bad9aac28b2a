//! An HTTP client for tests: one connection a request, trust in one CA, no redirects, HTTP/1.1 or HTTP/2, every request within a time limit.

mod pieces;
mod response;
mod wire;

pub use pieces::{Pieces, Streamed, pieces};
pub use response::Response;
pub(crate) use wire::Wire;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// What a request's body may be: see [`Request::stream`] for other than bytes.
pub type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// An origin to talk to.
#[derive(Clone)]
pub struct Http {
    https: bool,
    host: String,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// A user name and a secret, straight to the registry.
    Basic(String, String),
    /// A token.
    Bearer(String),
}

/// A request that is being put together; [`Request::send`] sends it.
#[must_use]
pub struct Request {
    http: Http,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Body,
    http2: bool,
    limit: Duration,
}

impl Http {
    /// The origin of `url`, trusting the CA in `ca` alone; `ca` is not read for `http:`.
    #[track_caller]
    pub fn new(url: &str, ca: Option<&Path>) -> Http {
        let uri: http::Uri = url.parse().unwrap_or_else(|e| panic!("{url}: {e}"));
        let https = uri.scheme_str() == Some("https");
        Http {
            https,
            host: uri.host().unwrap_or_else(|| panic!("{url} has no host")).to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            tls: https.then(|| wire::trust(ca.expect("https needs a CA to trust"))),
        }
    }

    /// `host:port`, as in an image's reference and in the `Host` header.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }

    /// A request for `target`: a path with its query, or a URL of this very origin.
    #[track_caller]
    pub fn request(&self, method: Method, target: &str) -> Request {
        let path = if target.starts_with('/') {
            target
        } else {
            target.strip_prefix(&self.origin()).unwrap_or_else(|| panic!("{target} does not lead to {}", self.origin()))
        };
        Request {
            http: self.clone(),
            method,
            target: path.to_owned(),
            headers: HeaderMap::new(),
            body: bytes_body(Bytes::new()),
            http2: false,
            limit: Duration::from_secs(60),
        }
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, target: &str) -> Request {
        self.request(Method::GET, target)
    }

    /// HEAD.
    #[track_caller]
    pub fn head(&self, target: &str) -> Request {
        self.request(Method::HEAD, target)
    }

    /// POST.
    #[track_caller]
    pub fn post(&self, target: &str) -> Request {
        self.request(Method::POST, target)
    }

    /// PUT.
    #[track_caller]
    pub fn put(&self, target: &str) -> Request {
        self.request(Method::PUT, target)
    }

    /// PATCH.
    #[track_caller]
    pub fn patch(&self, target: &str) -> Request {
        self.request(Method::PATCH, target)
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, target: &str) -> Request {
        self.request(Method::DELETE, target)
    }

    pub(crate) fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref()
    }

    pub(crate) fn server_name(&self) -> ServerName<'static> {
        let bare = self.host.trim_matches(['[', ']']);
        ServerName::try_from(bare.to_owned()).unwrap_or_else(|e| panic!("{}: {e}", self.host))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let bare = self.host.trim_matches(['[', ']']);
        let mut found =
            (bare, self.port).to_socket_addrs().unwrap_or_else(|e| panic!("{}: {e}", self.host)).collect::<Vec<_>>();
        found.sort_by_key(SocketAddr::is_ipv6);
        *found.first().unwrap_or_else(|| panic!("{} has no address", self.host))
    }
}

impl Credentials {
    /// The value of an `Authorization` header; none where nobody asks.
    pub fn header(&self) -> Option<String> {
        match self {
            Credentials::None => None,
            Credentials::Basic(user, secret) => Some(format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))),
            Credentials::Bearer(token) => Some(format!("Bearer {token}")),
        }
    }
}

impl Request {
    /// One more header; a name may come several times.
    #[track_caller]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap_or_else(|e| panic!("{name}: {e}"));
        self.headers.append(name, value);
        self
    }

    /// With credentials.
    pub fn with(self, who: &Credentials) -> Request {
        match who.header() {
            None => self,
            Some(value) => self.header("authorization", value),
        }
    }

    /// With a body whose length is told.
    pub fn body(mut self, body: impl Into<Bytes>) -> Request {
        self.body = bytes_body(body.into());
        self
    }

    /// With a body of any kind; chunked where it does not know its length.
    pub fn stream<B>(mut self, body: B) -> Request
    where
        B: hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + Sync + 'static,
    {
        self.body = body.boxed();
        self
    }

    /// With a form as its body.
    pub fn form(self, pairs: &[(&str, &str)]) -> Request {
        let encoded: Vec<String> = pairs.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        self.header("content-type", "application/x-www-form-urlencoded").body(encoded.join("&"))
    }

    /// Over HTTP/2, by ALPN where there is TLS.
    pub fn http2(mut self) -> Request {
        self.http2 = true;
        self
    }

    /// How long head and body may take; a minute where this is not called.
    pub fn limit(mut self, limit: Duration) -> Request {
        self.limit = limit;
        self
    }

    /// Sends it and waits for the whole answer. Fails the test where there is none; [`Request::attempt`] does not.
    #[track_caller]
    pub fn send(self) -> Response {
        let asked = format!("{} {}", self.method, self.target);
        self.attempt().unwrap_or_else(|e| panic!("{asked}: {e}"))
    }

    /// Sends it and waits for the whole answer, or says why there is none: refused, cut off, or too late.
    pub fn attempt(self) -> Result<Response, String> {
        block_on(self.answer())
    }

    /// The same, for tests that have many requests under way at once.
    pub async fn answer(self) -> Result<Response, String> {
        let (limit, asked) = (self.limit, format!("{} {}", self.method, self.target));
        let whole = async {
            let streaming = self.open().await?;
            let (head, body) = streaming.into_parts();
            let body = body.collect().await.map_err(explain)?.to_bytes();
            Ok(Response { asked, status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(limit, whole).await.map_err(|_| format!("no answer within {limit:?}"))?
    }

    /// Sends it and hands over the answer as soon as its head is there. The time limit covers the head alone.
    pub async fn open(self) -> Result<http::Response<hyper::body::Incoming>, String> {
        let limit = self.limit;
        tokio::time::timeout(limit, self.exchange()).await.map_err(|_| format!("no head within {limit:?}"))?
    }

    /// A connection for this request, and the request without its body.
    pub(crate) async fn into_wire(mut self) -> Result<(Box<dyn Wire>, http::Request<()>), String> {
        let wire = wire::connect(&self.http, self.http2).await?;
        Ok((wire, self.head()?.map(drop)))
    }

    async fn exchange(mut self) -> Result<http::Response<hyper::body::Incoming>, String> {
        let io = TokioIo::new(wire::connect(&self.http, self.http2).await?);
        let request = self.head()?;
        if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(explain)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(explain)
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(explain)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(explain)
        }
    }

    /// What is sent; its body is taken out of this.
    fn head(&mut self) -> Result<http::Request<Body>, String> {
        let authority = self.http.authority();
        let uri = if self.http2 { format!("{}{}", self.http.origin(), self.target) } else { self.target.clone() };
        if !self.http2 && !self.headers.contains_key("host") {
            self.headers.insert("host", HeaderValue::try_from(authority).map_err(explain)?);
        }
        let body = std::mem::replace(&mut self.body, bytes_body(Bytes::new()));
        let mut request = http::Request::builder().method(self.method.clone()).uri(uri).body(body).map_err(explain)?;
        *request.headers_mut() = std::mem::take(&mut self.headers);
        Ok(request)
    }
}

/// Runs a future on the harness's runtime and waits for it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Percent-encodes everything that is not unreserved.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built")
});

fn bytes_body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn explain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

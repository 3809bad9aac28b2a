//! The gateway's own login at the upstream: none, Basic, or the upstream's token endpoint.
//!
//! A password goes to the upstream itself or to a listed realm host, never to where an answer points.

use super::{Call, Pool, RequestBody, Upstream, UpstreamError};
use crate::config::{PublicUrl, Upstream as UpstreamConfig, UpstreamAuth};
use crate::trace::{Kind, Span};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dashmap::DashMap;
use form_urlencoded::Serializer;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use portcullis_oci::challenge::{UpstreamChallenge, parse_challenge};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Most tokens kept; beyond that all are forgotten and fetched anew.
const MAX_TOKENS: usize = 10_000;
/// Most bytes of a token endpoint's answer.
const MAX_ANSWER: usize = 64 * 1024;

/// How the gateway shows the upstream who it is.
pub enum Login {
    /// Not at all.
    None,
    /// By the same header on every request.
    Basic(HeaderValue),
    /// By tokens, one for each scope.
    Bearer(Box<Tokens>),
}

/// The upstream's tokens, and where to get more.
pub struct Tokens {
    credentials: Credentials,
    realm_hosts: Vec<String>,
    /// Learned from the upstream's first challenge.
    endpoint: Mutex<Option<Endpoint>>,
    tokens: DashMap<String, (HeaderValue, Instant)>,
}

/// What the token endpoint is shown.
enum Credentials {
    /// A user's name and password, as a header.
    Basic(HeaderValue),
    /// A refresh token.
    Refresh(Zeroizing<String>),
}

#[derive(Clone)]
struct Endpoint {
    origin: PublicUrl,
    path: String,
    service: Option<String>,
}

impl Endpoint {
    /// The form that asks with a refresh token (OAuth 2.0, RFC 6749, section 6).
    fn refresh_form(&self, token: &str, scopes: &str) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
        form.append_pair("client_id", "portcullis").append_pair("scope", scopes);
        if let Some(service) = &self.service {
            form.append_pair("service", service);
        }
        form.finish()
    }

    /// The path, asking for these scopes.
    fn request_target(&self, scopes: &str) -> String {
        let mut query = Serializer::new(String::new());
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        for scope in scopes.split(' ').filter(|scope| !scope.is_empty()) {
            query.append_pair("scope", scope);
        }
        let separator = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{separator}{}", self.path, query.finish())
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Login {
    /// As configured.
    pub fn new(config: &UpstreamConfig) -> Self {
        match &config.auth {
            UpstreamAuth::None => Self::None,
            UpstreamAuth::Basic { username, password } => Self::Basic(basic(username, password)),
            UpstreamAuth::Bearer { username, password, realm_hosts } => {
                Self::bearer(Credentials::Basic(basic(username, password)), realm_hosts.clone())
            }
        }
    }

    /// By a refresh token, as a client's login keeps it; only the upstream's own host is shown it.
    pub fn refresh(token: String) -> Self {
        Self::bearer(Credentials::Refresh(Zeroizing::new(token)), Vec::new())
    }

    /// By a password for tokens; only the upstream's own host is shown it.
    pub fn password(username: &str, password: &str) -> Self {
        Self::bearer(Credentials::Basic(basic(username, password)), Vec::new())
    }

    fn bearer(credentials: Credentials, realm_hosts: Vec<String>) -> Self {
        Self::Bearer(Box::new(Tokens { credentials, realm_hosts, endpoint: Mutex::default(), tokens: DashMap::new() }))
    }

    /// Whether there is anything else to try after the upstream has refused it.
    pub const fn is_renewable(&self) -> bool {
        matches!(self, Self::Bearer(_))
    }

    /// What to send as `Authorization` for a call that needs `scope`.
    pub async fn authorization(
        &self,
        upstream: &Upstream,
        pool: &Arc<Pool>,
        scope: &str,
    ) -> Result<Option<HeaderValue>, UpstreamError> {
        match self {
            Self::None => Ok(None),
            Self::Basic(value) => Ok(Some(value.clone())),
            Self::Bearer(tokens) => match tokens.kept(scope) {
                Some(value) => Ok(Some(value)),
                None => Box::pin(tokens.fetch(upstream, pool, scope)).await.map(Some),
            },
        }
    }

    /// A new login after the upstream refused the last; none where there is nothing else to try.
    pub async fn renew(
        &self,
        upstream: &Upstream,
        pool: &Arc<Pool>,
        scope: &str,
    ) -> Result<Option<HeaderValue>, UpstreamError> {
        match self {
            Self::None | Self::Basic(_) => Ok(None),
            Self::Bearer(tokens) => {
                tokens.tokens.remove(scope);
                *tokens.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Box::pin(tokens.fetch(upstream, pool, scope)).await.map(Some)
            }
        }
    }
}

impl Tokens {
    fn kept(&self, scope: &str) -> Option<HeaderValue> {
        self.tokens.get(scope).filter(|entry| entry.1 > Instant::now()).map(|entry| entry.0.clone())
    }

    async fn fetch(&self, upstream: &Upstream, pool: &Arc<Pool>, scope: &str) -> Result<HeaderValue, UpstreamError> {
        let mut span = Span::begin("upstream login", Kind::Client);
        let fetched = self.fetch_one(upstream, pool, scope).await;
        if let Err(error) = &fetched {
            span.failed(error);
        }
        upstream.metrics.login(&fetched);
        fetched
    }

    async fn fetch_one(
        &self,
        upstream: &Upstream,
        pool: &Arc<Pool>,
        scope: &str,
    ) -> Result<HeaderValue, UpstreamError> {
        let endpoint = self.endpoint(upstream, pool).await?;
        let answer = self.ask(upstream, &endpoint, scope).await?;
        let token = answer
            .token
            .or(answer.access_token)
            .ok_or_else(|| UpstreamError::Odd("its token endpoint gave no token".into()))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| UpstreamError::Odd("its token is no header value".into()))?;
        value.set_sensitive(true);
        // A fifth of its life is left for clocks and for long requests.
        let life = Duration::from_secs(answer.expires_in.unwrap_or(60).clamp(1, 86_400));
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.clear();
        }
        let now = Instant::now();
        let until = now.checked_add(life.mul_f32(0.8)).unwrap_or(now);
        self.tokens.insert(scope.to_owned(), (value.clone(), until));
        Ok(value)
    }

    /// Where tokens are: what the upstream's challenge at `/v2/` says, if its host is listed.
    async fn endpoint(&self, upstream: &Upstream, pool: &Arc<Pool>) -> Result<Endpoint, UpstreamError> {
        let known = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(endpoint) = known {
            return Ok(endpoint);
        }
        let call = Call::new(Method::GET, "/v2/", "");
        let answer = upstream.send(pool, call.method, call.path, call.headers, call.body).await?;
        let (head, _) = answer.whole().await?;
        let challenge =
            head.headers.get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).and_then(parse_challenge);
        let Some(UpstreamChallenge::Bearer { realm, service, .. }) = challenge else {
            return Err(UpstreamError::Odd("upstream.auth is bearer, but it does not ask for a bearer token".into()));
        };
        let endpoint = self.trusted(upstream, &realm, service)?;
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(endpoint.clone());
        Ok(endpoint)
    }

    fn trusted(&self, upstream: &Upstream, realm: &str, service: Option<String>) -> Result<Endpoint, UpstreamError> {
        let uri: http::Uri = realm.parse().map_err(|_| UpstreamError::Odd("its realm is no URL".into()))?;
        let origin = PublicUrl::of_uri(&uri).ok_or_else(|| UpstreamError::Odd("its realm is no http URL".into()))?;
        let listed = self.realm_hosts.iter().any(|host| origin.is_host(host)) || origin == *upstream.origin();
        // A password never goes over plain HTTP where the upstream itself is reached by TLS.
        if !listed || (upstream.origin().https && !origin.https) {
            return Err(UpstreamError::Odd(format!(
                "its realm {} is not in upstream.auth.realm_hosts",
                origin.authority()
            )));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Endpoint { origin, path, service })
    }

    async fn ask(&self, upstream: &Upstream, endpoint: &Endpoint, scope: &str) -> Result<TokenAnswer, UpstreamError> {
        let request = match &self.credentials {
            Credentials::Basic(credentials) => Request::get(endpoint.request_target(scope))
                .header(header::AUTHORIZATION, credentials.clone())
                .body(RequestBody::Empty),
            Credentials::Refresh(token) => Request::post(&endpoint.path)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(RequestBody::Full(endpoint.refresh_form(token, scope).into())),
        };
        let mut request = request.map_err(|error| UpstreamError::Odd(error.to_string()))?;
        let host = HeaderValue::try_from(endpoint.origin.authority());
        request.headers_mut().insert(header::HOST, host.map_err(|error| UpstreamError::Odd(error.to_string()))?);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("portcullis"));
        let mut sender = upstream.connector.connect_to(&endpoint.origin).await?;
        let exchange = async {
            let response =
                sender.send_request(request).await.map_err(|error| UpstreamError::Broken(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(|error| UpstreamError::Broken(error.to_string()))?.to_bytes()))
        };
        let (status, body) = timeout(upstream.timeouts.first_byte, exchange)
            .await
            .map_err(|_| UpstreamError::Deadline("its token endpoint"))??;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|_| UpstreamError::Odd("its token endpoint's answer is no token".into())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(UpstreamError::Login),
            status => Err(UpstreamError::Odd(format!("its token endpoint answered {}", status.as_u16()))),
        }
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

//! Redirects of blob downloads to the upstream's storage: followed here, or passed on; listed hosts only.

use super::pool::Lease;
use super::{Answer, RequestBody, Upstream, UpstreamError};
use crate::config::{PublicUrl, Redirects};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::time::timeout;

/// Most redirects in a row.
const MAX_HOPS: usize = 3;

/// What became of an answer that may be a redirect.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and every blob passes through it")]
pub enum Resolved {
    /// The content, or an error.
    Answer(Answer),
    /// Where the client is to go.
    Elsewhere(HeaderValue),
}

impl Upstream {
    /// Resolves redirects as configured. `headers` go along (a range, say); the upstream's authorization never does.
    pub async fn resolve(
        &self,
        answer: Answer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Resolved, UpstreamError> {
        self.redirected(answer, method, headers, self.redirects == Redirects::Pass).await
    }

    /// Follows redirects for an answer that the gateway itself wants.
    pub async fn follow(&self, answer: Answer, method: &Method) -> Result<Answer, UpstreamError> {
        match self.redirected(answer, method, &HeaderMap::new(), false).await? {
            Resolved::Answer(answer) => Ok(answer),
            Resolved::Elsewhere(_) => Err(UpstreamError::Odd("it redirects where nobody can follow".into())),
        }
    }

    async fn redirected(
        &self,
        mut answer: Answer,
        method: &Method,
        headers: &HeaderMap,
        pass: bool,
    ) -> Result<Resolved, UpstreamError> {
        let mut base = self.origin().clone();
        for _ in 0..MAX_HOPS {
            if !matches!(answer.head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Resolved::Answer(answer));
            }
            let location = answer.head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let uri: Uri = location
                .and_then(|location| location.parse().ok())
                .ok_or_else(|| UpstreamError::Odd("it redirects without a usable Location".into()))?;
            let origin = PublicUrl::of_uri(&uri).unwrap_or_else(|| base.clone());
            if !self.redirect_hosts.iter().any(|host| origin.is_host(host)) {
                let host = origin.authority();
                return Err(UpstreamError::Odd(format!(
                    "it redirects to {host}, which is not in upstream.redirect_hosts"
                )));
            }
            if pass {
                let location =
                    HeaderValue::try_from(uri.to_string()).map_err(|_| UpstreamError::Odd("odd Location".into()))?;
                return Ok(Resolved::Elsewhere(location));
            }
            answer = self.fetch(&origin, &uri, method, headers).await?;
            base = origin;
        }
        Err(UpstreamError::Odd("it redirects too often".into()))
    }

    async fn fetch(
        &self,
        origin: &PublicUrl,
        uri: &Uri,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Answer, UpstreamError> {
        let mut sender = self.connector.connect_to(origin).await?;
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
        *request.headers_mut() = headers.clone();
        request.headers_mut().remove(header::AUTHORIZATION);
        let authority =
            HeaderValue::try_from(origin.authority()).map_err(|_| UpstreamError::Odd("odd Location".into()))?;
        request.headers_mut().insert(header::HOST, authority);
        let response = timeout(self.timeouts.first_byte, sender.send_request(request))
            .await
            .map_err(|_| UpstreamError::Deadline("the first byte of a redirect's target"))?
            .map_err(|error| UpstreamError::Broken(error.to_string()))?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(UpstreamError::Odd("its storage refuses its own redirect".into()))
            }
            _ => Ok(self.answer(response, Lease::once(sender), None, *method == Method::HEAD)),
        }
    }
}

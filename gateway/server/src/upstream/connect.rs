//! Connections: TCP, TLS with the system's roots or a private CA, HTTP/1.1 on top.

use super::pool::Places;
use super::{RequestBody, UpstreamError};
use crate::config::{PublicUrl, Upstream as UpstreamConfig};
use anyhow::Context;
use http::HeaderValue;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How many bytes are read at once; hyper reads up to twice as many where its buffer has grown so far, and 400 KiB where it is not
/// told. What was read is one frame, which its relay hashes and writes before anybody else on the thread has a turn, and it gets no
/// second one in the same turn: hyper keeps one at a time for whoever reads a body. So this is a thread's time for each of its
/// downloads. It is also the longest head of an answer.
const READ_AT_ONCE: usize = 64 * 1024;

/// Makes connections to one origin, as many at a time as the configuration allows.
pub struct Connector {
    origin: PublicUrl,
    authority: HeaderValue,
    tls: TlsConnector,
    connect_timeout: Duration,
    pool_idle: Duration,
    places: Arc<Places>,
}

impl Connector {
    /// For the configured upstream.
    pub fn new(config: &UpstreamConfig) -> anyhow::Result<Self> {
        let to = Self::to(&config.url, config.ca_file.as_deref(), config.connect_timeout).context("upstream")?;
        Ok(Self { pool_idle: config.pool_idle, places: Arc::new(Places::new(config.max_connections)), ..to })
    }

    /// To some other origin, for connections that nobody keeps in a pool.
    pub fn to(origin: &PublicUrl, ca_file: Option<&Path>, connect_timeout: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            authority: HeaderValue::from_str(&origin.authority()).context("no host")?,
            origin: origin.clone(),
            tls: TlsConnector::from(Arc::new(client_tls(ca_file)?)),
            connect_timeout,
            pool_idle: Duration::ZERO,
            places: Arc::new(Places::new(1)),
        })
    }

    /// The origin.
    pub fn origin(&self) -> &PublicUrl {
        &self.origin
    }

    /// `host[:port]`
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// How long an unused connection is kept.
    pub fn pool_idle(&self) -> Duration {
        self.pool_idle
    }

    /// How long to wait for a connection.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// The places for connections to the upstream.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// A new connection to the upstream, for whoever has a place.
    pub async fn connect(&self) -> Result<SendRequest<RequestBody>, UpstreamError> {
        self.connect_to(&self.origin).await
    }

    /// A new connection to some other origin (a listed storage or token host).
    pub async fn connect_to(&self, origin: &PublicUrl) -> Result<SendRequest<RequestBody>, UpstreamError> {
        // Large and rare: in a box it does not widen every request.
        let opening = Box::pin(self.open(origin));
        timeout(self.connect_timeout, opening).await.map_err(|_| UpstreamError::Deadline("connecting"))?
    }

    async fn open(&self, origin: &PublicUrl) -> Result<SendRequest<RequestBody>, UpstreamError> {
        let host = origin.host.trim_start_matches('[').trim_end_matches(']');
        let stream =
            TcpStream::connect((host, origin.port)).await.map_err(|error| UpstreamError::Connect(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        if !origin.https {
            return handshake(stream).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| UpstreamError::Connect(error.to_string()))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| UpstreamError::Connect(error.to_string()))?;
        handshake(stream).await
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<RequestBody>, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opening = http1::Builder::new().max_buf_size(READ_AT_ONCE).handshake(TokioIo::new(stream));
    let (sender, connection) = opening.await.map_err(|error| UpstreamError::Connect(error.to_string()))?;
    // The connection's own errors also reach whoever waits for its answer.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn client_tls(ca_file: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in
                CertificateDer::pem_file_iter(file).with_context(|| format!("ca_file: {}", file.display()))?
            {
                roots.add(certificate?).context("ca_file: not a usable certificate")?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_long_answer_comes_in_pieces_that_leave_others_a_turn() {
        const LENGTH: usize = 4 * 1024 * 1024;
        let (ours, mut theirs) = tokio::io::duplex(LENGTH);
        let mut sender = handshake(ours).await.unwrap();
        let answering = tokio::spawn(async move {
            let mut request = [0; 1024];
            assert!(theirs.read(&mut request).await.unwrap() > 0);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            theirs.write_all(&[head.as_bytes(), &vec![7; LENGTH]].concat()).await.unwrap();
        });
        let mut answer = sender.send_request(Request::new(RequestBody::Empty)).await.unwrap();
        let (mut length, mut longest) = (0, 0);
        while let Some(frame) = answer.body_mut().frame().await {
            let piece = frame.unwrap().into_data().unwrap().len();
            length += piece;
            longest = longest.max(piece);
        }
        answering.await.unwrap();
        assert_eq!(length, LENGTH);
        assert!((READ_AT_ONCE / 2..=READ_AT_ONCE * 2).contains(&longest), "{longest}");
    }
}

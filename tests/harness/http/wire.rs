//! Connections: TCP, and TLS that trusts one CA.

use super::{Http, explain};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// A connection to a peer, with or without TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Connects, and agrees on a protocol where there is TLS.
pub(super) async fn connect(http: &Http, http2: bool) -> Result<Box<dyn Wire>, String> {
    let stream = match http.source() {
        None => TcpStream::connect(http.address()).await.map_err(explain)?,
        Some(source) => {
            let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(explain)?;
            socket.bind((source, 0).into()).map_err(explain)?;
            socket.connect(http.address()).await.map_err(explain)?
        }
    };
    stream.set_nodelay(true).map_err(explain)?;
    let Some(config) = http.tls() else {
        return Ok(Box::new(stream));
    };
    let mut config = rustls::ClientConfig::clone(config);
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(http.server_name(), stream).await.map_err(explain)?;
    if http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err("HTTP/2 is not offered".to_owned());
    }
    Ok(Box::new(stream))
}

#[track_caller]
pub(super) fn trust(ca: &Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).unwrap_or_else(|e| panic!("{}: {e}", ca.display()));
    for certificate in certificates {
        let certificate = certificate.unwrap_or_else(|e| panic!("{}: {e}", ca.display()));
        roots.add(certificate).unwrap_or_else(|e| panic!("{}: {e}", ca.display()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

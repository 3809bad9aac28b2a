//! `[server]`: what clients see.

use super::balancer::{self, Balancer};
use super::hint::{describe, shown};
use super::origin::parse_host;
use super::reader::Section;
use super::{DAY, PublicUrl};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `[server]`: what clients see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `public_url`: scheme, host and port that clients use.
    pub public_url: PublicUrl,
    /// `hosts`: further host names and addresses that clients may use, without scheme and port. `public_url`'s host is always allowed.
    pub hosts: Vec<String>,
    /// `listen`: one address or several.
    pub listen: Vec<SocketAddr>,
    /// `tls`
    pub tls: Tls,
    /// Who stands before us.
    pub balancer: Balancer,
    /// `worker_threads`: data-path threads; 0 is one a core.
    pub worker_threads: usize,
    /// `drain_timeout_s`: how long requests under way may go on after SIGTERM.
    pub drain_timeout: Duration,
}

/// `server.tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// `"self-signed"` (default where public_url is https): a CA and a certificate of our own in `data_dir/tls/`.
    SelfSigned,
    /// `"off"` (default where public_url is http): TLS ends before us, or nowhere.
    Off,
    /// `{ cert_file, key_file }`: PEM.
    Files {
        /// The chain.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
    },
}

pub(super) fn read(mut section: Section<'_>) -> Option<Server> {
    let public_url = section.required(
        "public_url",
        "https://registry.example.com",
        "and clients must be told where to log in",
        |text| PublicUrl::parse(text).and_then(reachable),
    );
    let hosts = section.list("hosts", "registry.internal", parse_host);
    let listen = read_listen(&mut section);
    let tls = read_tls(&mut section, public_url.as_ref());
    let balancer = balancer::read(&mut section);
    let worker_threads = section.number("worker_threads", 0, 0..=1024, "0 is one for each core");
    let drain_timeout = section.seconds("drain_timeout_s", 60, 0..=DAY, "whoever stops the gateway waits for it");
    section.finish();
    Some(Server {
        public_url: public_url?,
        hosts,
        listen,
        tls: tls?,
        balancer: balancer?,
        worker_threads: worker_threads?,
        drain_timeout,
    })
}

fn reachable(url: PublicUrl) -> Result<PublicUrl, String> {
    if url.address().is_some_and(|address| address.is_unspecified()) {
        return Err(format!(
            "{} is an address to listen on, not one that a client can go to; write the name that clients use",
            url.host
        ));
    }
    Ok(url)
}

fn read_listen(section: &mut Section<'_>) -> Vec<SocketAddr> {
    if !section.has("listen") {
        section.error(
            "listen",
            "is missing, and the gateway must be told where to take connections; write listen = \"0.0.0.0:8443\"",
        );
    }
    let listen = section.list("listen", "0.0.0.0:8443", parse_listen);
    if section.has("listen") && section.is_empty_list("listen") {
        section.error("listen", "is empty, and the gateway would take no connection; write listen = \"0.0.0.0:8443\"");
    }
    for (index, address) in listen.iter().enumerate() {
        if address.port() != 0 && listen.iter().take(index).any(|earlier| earlier == address) {
            section.error("listen", format!("{address} is listed twice, and can be taken once only; leave one out"));
        }
    }
    listen
}

pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "\"{}\" is no address with a port; write it like 0.0.0.0:8443, [::]:8443 or 127.0.0.1:8443",
            shown(text)
        )
    })
}

fn read_tls(section: &mut Section<'_>, public_url: Option<&PublicUrl>) -> Option<Tls> {
    let https = public_url.is_none_or(|url| url.https);
    let Some(item) = section.take("tls") else {
        return Some(if https { Tls::SelfSigned } else { Tls::Off });
    };
    let tls = match item.as_str() {
        Some("off") => return Some(Tls::Off),
        Some("self-signed") => Tls::SelfSigned,
        None if item.is_table_like() => read_files(section.section("tls"))?,
        _ => {
            section.error(
                "tls",
                format!(
                    "must be \"self-signed\", \"off\" or {{ cert_file = \"PATH\", key_file = \"PATH\" }}, not {}",
                    describe(item)
                ),
            );
            return None;
        }
    };
    if !https {
        section.error(
            "tls",
            "contradicts server.public_url, which sends clients to http: they would speak plain HTTP to a TLS port; write tls = \"off\" or an https:// public_url",
        );
    }
    Some(tls)
}

fn read_files(mut section: Section<'_>) -> Option<Tls> {
    let why = "and a certificate is of no use without its key";
    let cert_file = section.required_path("cert_file", "tls/fullchain.pem", why);
    let key_file = section.required_path("key_file", "tls/key.pem", why);
    if let (Some(cert_file), Some(key_file)) = (&cert_file, &key_file) {
        check_pair(&section, cert_file, key_file);
    }
    section.finish();
    Some(Tls::Files { cert_file: cert_file?, key_file: key_file? })
}

fn check_pair(section: &Section<'_>, cert_file: &Path, key_file: &Path) {
    let certificates = section.contents("cert_file", cert_file, "the certificate chain");
    let key = section.contents("key_file", key_file, "the certificate's key");
    let chain = certificates.and_then(|pem| {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
        if chain.is_empty() {
            section.error(
                "cert_file",
                format!(
                    "{} holds no certificate; name a PEM file with the server's certificate first",
                    cert_file.display()
                ),
            );
        }
        (!chain.is_empty()).then_some(chain)
    });
    let key = key.and_then(|pem| {
        let key = PrivateKeyDer::from_pem_slice(&pem).ok();
        if key.is_none() {
            section.error(
                "key_file",
                format!(
                    "{} holds no private key; name a PEM file with the certificate's key, not encrypted",
                    key_file.display()
                ),
            );
        }
        key
    });
    if let (Some(chain), Some(key)) = (chain, key)
        && let Err(error) = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())
    {
        section.error(
            "key_file",
            format!(
                "{} does not fit {} ({error}); name the key that this certificate was made for",
                key_file.display(),
                cert_file.display()
            ),
        );
    }
}

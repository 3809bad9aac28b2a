//! TLS towards clients: the certificate, made here or given, and its exchange while connections go on.

use crate::config::{Config, Tls};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a certificate made here is good for, and how long before its end another is made.
const SELF_SIGNED_DAYS: u32 = 397;
const RENEW_BEFORE_DAYS: u32 = 30;

/// The certificate that handshakes are made with now.
pub struct Certificate(ArcSwap<CertifiedKey>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Reads, or makes, the certificate that the configuration asks for; none where TLS is off.
    pub fn load(config: &Config) -> anyhow::Result<Option<Arc<Self>>> {
        Ok(read(config)?.map(|key| Arc::new(Self(ArcSwap::from_pointee(key)))))
    }

    /// Reads it again; connections that stand keep the old one.
    pub fn reload(&self, config: &Config) -> anyhow::Result<()> {
        if let Some(key) = read(config)? {
            self.0.store(Arc::new(key));
        }
        Ok(())
    }

    /// When it ends, in seconds after 1970; none where that cannot be read.
    pub fn ends(&self) -> Option<i64> {
        let key = self.0.load();
        let (_, certificate) = X509Certificate::from_der(key.cert.first()?).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }

    /// The server side of handshakes: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub fn server_config(self: &Arc<Self>) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

/// Where the certificate of a configuration lies, and the CA's for clients. Clients may be pointed at the directory as it is:
/// they take `.crt` for roots, and `.key` for what wants a `.cert` beside it, so no key is called that.
pub fn self_signed_dir(config: &Config) -> PathBuf {
    config.data_dir.join("tls")
}

fn read(config: &Config) -> anyhow::Result<Option<CertifiedKey>> {
    let (cert_file, key_file) = match &config.server.tls {
        Tls::Off => return Ok(None),
        Tls::Files { cert_file, key_file } => (cert_file.clone(), key_file.clone()),
        Tls::SelfSigned => {
            let dir = self_signed_dir(config);
            make_self_signed(&dir, &names(config), SystemTime::now())?;
            (dir.join("server.crt"), dir.join("server-key.pem"))
        }
    };
    let chain = CertificateDer::pem_file_iter(&cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("server.tls: cannot read certificates from {}", cert_file.display()))?;
    if chain.is_empty() {
        bail!("server.tls: {} holds no certificate", cert_file.display());
    }
    let key = PrivateKeyDer::from_pem_file(&key_file)
        .with_context(|| format!("server.tls: cannot read a private key from {}", key_file.display()))?;
    let key = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())
        .context("server.tls: certificate and key do not fit together")?;
    Ok(Some(key))
}

/// Every name that clients may use, as a certificate wants them: no brackets around IPv6 addresses.
fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = std::iter::once(&config.server.public_url.host)
        .chain(&config.server.hosts)
        .map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Makes a CA once, and a server certificate whenever there is none for exactly these names, or the one there ends soon.
fn make_self_signed(dir: &Path, names: &[String], now: SystemTime) -> anyhow::Result<()> {
    if is_current(dir, names, now) {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let (ca_crt, ca_key) = (dir.join("ca.crt"), dir.join("ca-key.pem"));
    if !(ca_crt.exists() && ca_key.exists()) {
        let ca = authority(KeyPair::generate()?)?;
        write(&ca_key, &ca.key().serialize_pem(), 0o600)?;
        write(&ca_crt, &ca.pem(), 0o644)?;
    }
    // The same key and the same name make the same issuer, whatever the certificate's serial number.
    let ca = authority(KeyPair::from_pem(&fs::read_to_string(&ca_key)?)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec()).context("server.hosts: not a host name")?;
    let start = now.checked_sub(Duration::from_secs(3600)).unwrap_or(now);
    params.not_before = start.into();
    params.not_after = after(start, days(SELF_SIGNED_DAYS)).into();
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("portcullis", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &ca)?;
    write(&dir.join("server-key.pem"), &key.serialize_pem(), 0o600)?;
    write(&dir.join("server.crt"), &certificate.pem(), 0o644)
}

fn authority(key: KeyPair) -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "Portcullis self-signed CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, key)?)
}

fn is_current(dir: &Path, names: &[String], now: SystemTime) -> bool {
    let Ok(pem) = fs::read(dir.join("server.crt")) else { return false };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&pem) else { return false };
    let Ok(certificate) = pem.parse_x509() else { return false };
    let seconds = certificate.validity().not_after.timestamp().try_into().unwrap_or(0);
    let ends = after(SystemTime::UNIX_EPOCH, Duration::from_secs(seconds));
    let mut held: Vec<String> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| extension.value.general_names.iter().filter_map(general_name).collect())
        .unwrap_or_default();
    held.sort();
    held == names
        && ends > after(now, days(RENEW_BEFORE_DAYS))
        && dir.join("server-key.pem").exists()
        && dir.join("ca.crt").exists()
}

fn general_name(name: &x509_parser::extensions::GeneralName<'_>) -> Option<String> {
    use x509_parser::extensions::GeneralName;
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    }
}

fn after(time: SystemTime, span: Duration) -> SystemTime {
    time.checked_add(span).unwrap_or(time)
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days).saturating_mul(86_400))
}

/// Writes a whole file or none: a reader never sees half a key.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(dir: &Path) -> (String, String) {
        (fs::read_to_string(dir.join("ca.crt")).unwrap(), fs::read_to_string(dir.join("server.crt")).unwrap())
    }

    #[test]
    fn a_certificate_is_made_once_and_again_for_other_names_by_the_same_ca() {
        let dir = tempfile::tempdir().unwrap();
        let tls = dir.path().join("tls");
        let names = ["127.0.0.1".to_owned(), "::1".to_owned(), "localhost".to_owned()];
        let mut sorted = names.to_vec();
        sorted.sort();
        make_self_signed(&tls, &sorted, SystemTime::now()).unwrap();
        let first = read_all(&tls);
        make_self_signed(&tls, &sorted, SystemTime::now()).unwrap();
        assert_eq!(read_all(&tls), first);
        make_self_signed(&tls, &["localhost".to_owned()], SystemTime::now()).unwrap();
        let other = read_all(&tls);
        assert_eq!(other.0, first.0);
        assert_ne!(other.1, first.1);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned()];
        make_self_signed(dir.path(), &names, SystemTime::now()).unwrap();
        let first = read_all(dir.path());
        make_self_signed(dir.path(), &names, SystemTime::now() + days(SELF_SIGNED_DAYS)).unwrap();
        assert_ne!(read_all(dir.path()).1, first.1);
    }

    #[test]
    fn private_keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        make_self_signed(dir.path(), &["localhost".to_owned()], SystemTime::now()).unwrap();
        for key in ["ca-key.pem", "server-key.pem"] {
            assert_eq!(fs::metadata(dir.path().join(key)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

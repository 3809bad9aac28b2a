//! The certificate that clients are shown: whether it is good now, for how long, and for which of the hosts.

use super::Finding;
use crate::config::{Config, Tls};
use crate::tls;
use portcullis_tenancy::Timestamp;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

const ABOUT: &str = "certificate";
const DAY: i64 = 86_400;
/// Certificates from files should be renewed before.
const RENEW_DAYS: i64 = 14;

pub(super) fn examine(config: &Config, now: Timestamp) -> Vec<Finding> {
    match &config.server.tls {
        Tls::Off => Vec::new(),
        Tls::SelfSigned => {
            let dir = tls::self_signed_dir(config);
            let certificate = dir.join("server.crt");
            if !certificate.exists() {
                return vec![Finding::warning(
                    ABOUT,
                    "there is none yet",
                    "`portcullis serve` makes it, and its CA for clients in ca.crt beside it",
                )];
            }
            let advice = "start `portcullis serve`, which makes it anew";
            let mut findings = examine_chain(config, &certificate, advice, now);
            findings.push(Finding::ok(ABOUT, format!("clients must trust {}", dir.join("ca.crt").display())));
            findings
        }
        Tls::Files { cert_file, key_file } => {
            let mut findings = examine_chain(config, cert_file, "renew it, and send the gateway SIGHUP", now);
            if fs::metadata(key_file).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
                let key = key_file.display();
                findings.push(Finding::warning(
                    ABOUT,
                    format!("everybody on this machine may read its key {key}"),
                    format!("run `chmod o= {key}`"),
                ));
            }
            findings
        }
    }
}

fn examine_chain(config: &Config, path: &Path, advice: &str, now: Timestamp) -> Vec<Finding> {
    let first = CertificateDer::from_pem_file(path);
    let Ok(der) = first else {
        return vec![Finding::error(ABOUT, format!("{} cannot be read", path.display()), advice)];
    };
    let hosts = std::iter::once(&config.server.public_url.host).chain(&config.server.hosts).map(String::as_str);
    examine_certificate(&der, hosts, advice, now)
}

pub(super) fn examine_certificate<'h>(
    der: &CertificateDer<'_>,
    hosts: impl Iterator<Item = &'h str>,
    advice: &str,
    now: Timestamp,
) -> Vec<Finding> {
    let (Ok((_, certificate)), Ok(parsed)) = (X509Certificate::from_der(der), ParsedCertificate::try_from(der)) else {
        return vec![Finding::error(ABOUT, "it cannot be read", advice)];
    };
    let mut findings = Vec::new();
    let (begin, end) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let shown = |second: i64| {
        Timestamp::from_second(second).map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
    };
    let left = end.saturating_sub(now.as_second()).checked_div(DAY).unwrap_or(0);
    if now.as_second() < begin {
        findings.push(Finding::error(
            ABOUT,
            format!("it begins on {}", shown(begin)),
            "compare this machine's clock, or use another certificate",
        ));
    } else if end <= now.as_second() {
        findings.push(Finding::error(ABOUT, format!("it ended on {}", shown(end)), advice));
    } else if left < RENEW_DAYS {
        findings.push(Finding::warning(ABOUT, format!("it ends on {}, in {left} days", shown(end)), advice));
    } else {
        findings.push(Finding::ok(ABOUT, format!("it is good until {}", shown(end))));
    }
    let uncovered: Vec<&str> = hosts.filter(|host| !covers(&parsed, host)).collect();
    if !uncovered.is_empty() {
        findings.push(Finding::error(
            ABOUT,
            format!("it does not cover {}", uncovered.join(", ")),
            "use one that does, or take them out of server.hosts",
        ));
    }
    findings
}

fn covers(certificate: &ParsedCertificate<'_>, host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare).is_ok_and(|name| verify_server_name(certificate, &name).is_ok())
}

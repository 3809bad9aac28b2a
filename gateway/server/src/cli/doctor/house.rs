//! What is the gateway's own: how clients and store are reached, `data_dir`, the master key, the store, signing keys.

use super::{Finding, judge_clock, trail};
use crate::app::random;
use crate::cli::output::with_sources;
use crate::cli::show;
use crate::config::{Config, Tls, UpstreamAuth};
use crate::limits::probe;
use crate::master_key;
use portcullis_store::SqlStore;
use portcullis_tenancy::key::{MasterKey, StoredKey};
use portcullis_tenancy::token::KeyRing;
use portcullis_tenancy::{Store, StoreError, Timestamp, random_id};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Where secrets travel in clear.
pub(super) fn examine_transport(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let public_url = &config.server.public_url;
    if !public_url.https && !public_url.is_loopback() {
        findings.push(Finding::warning(
            "server.public_url",
            format!("clients send secrets and tokens to {public_url} in clear"),
            "use https:// and server.tls, or let a load balancer speak TLS",
        ));
    } else if public_url.https && config.server.tls == Tls::Off {
        let local = config.server.listen.iter().all(|listen| listen.ip().is_loopback());
        let found = format!("TLS for {public_url} is to end before the gateway");
        findings.push(if local {
            Finding::ok("server.tls", found)
        } else {
            Finding::warning("server.tls", found, "see that nobody but the load balancer reaches server.listen")
        });
    }
    let upstream = &config.upstream;
    if upstream.auth != UpstreamAuth::None && !upstream.url.https && !upstream.url.is_loopback() {
        findings.push(Finding::warning(
            "upstream.auth",
            format!("the upstream's password goes to {} in clear", upstream.url),
            "use https://, with upstream.ca_file where the CA is your own",
        ));
    }
    if config.store.is_unverified() {
        findings.push(Finding::warning(
            "store.url",
            "whoever stands between here and PostgreSQL can answer in its place",
            "add sslmode=verify-full to store.url, and sslrootcert=PATH where the CA is your own",
        ));
    }
    findings
}

/// Where limits are counted.
pub(super) async fn examine_limits(config: &Config) -> Vec<Finding> {
    const ABOUT: &str = "limits.shared";
    let Some(shared) = &config.limits.shared else {
        return if config.store.is_postgres() {
            let found =
                "each gateway on this store counts its limits by itself: several let through several times as much";
            vec![Finding::warning(ABOUT, found, "set limits.shared to a Redis or Valkey, or run one gateway")]
        } else {
            Vec::new()
        };
    };
    let place = &shared.place;
    let mut findings = Vec::new();
    if shared.is_unverified() {
        findings.push(Finding::warning(
            ABOUT,
            format!("whoever stands between here and {place} can read, and lift, the limits: there is no TLS to it"),
            "write rediss:// in limits.shared, and limits.shared_ca_file where the CA is your own",
        ));
    }
    findings.push(match probe(shared).await {
        Ok(()) => Finding::ok(ABOUT, format!("{place} answers, and runs scripts")),
        Err(error) => Finding::error(
            ABOUT,
            format!("{place}: {error}"),
            "until it answers each gateway counts alone: start it, and see limits.shared_password_file",
        ),
    });
    findings
}

/// `data_dir`, master key, store, signing keys.
pub(super) async fn examine(config: &Config, now: Timestamp) -> Vec<Finding> {
    if !config.data_dir.exists() && !config.store.is_postgres() {
        let found = format!("{} is not there", config.data_dir.display());
        return vec![Finding::warning("data_dir", found, "nothing was started yet: `portcullis serve` makes it")];
    }
    let mut findings = examine_data_dir(config);
    let master = match master_key::load(&config.data_dir) {
        Ok(master) => master,
        Err(error) => {
            findings.push(Finding::error("master key", error.to_string(), "no gateway starts until this is mended"));
            None
        }
    };
    if let Some(master) = &master {
        findings.push(Finding::ok(
            "master key",
            format!("fingerprint {}: the same on all nodes of a deployment", master.fingerprint()),
        ));
    }
    match portcullis_store::open(&config.store.url, config.store.max_connections).await {
        Ok(store) => {
            findings.extend(examine_store(config, &store, master.as_ref(), now).await);
            if let Some(master) = &master {
                findings.extend(trail::examine(config, &store, master, now).await);
            }
        }
        Err(error) => {
            findings.push(Finding::error(
                "store",
                with_sources(&error),
                "without its store a gateway denies everything: see store.url",
            ));
        }
    }
    findings
}

fn examine_data_dir(config: &Config) -> Vec<Finding> {
    let path = config.data_dir.display();
    match fs::metadata(&config.data_dir) {
        Ok(metadata) if metadata.mode() & 0o022 != 0 => {
            vec![Finding::error("data_dir", format!("others may write {path}"), format!("run `chmod 700 {path}`"))]
        }
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            vec![Finding::warning(
                "data_dir",
                format!("others may look into {path}"),
                format!("run `chmod 700 {path}`"),
            )]
        }
        Ok(_) => vec![Finding::ok("data_dir", format!("{path} is private"))],
        Err(error) => {
            vec![Finding::error("data_dir", format!("{path}: {error}"), "name a directory that this user may write")]
        }
    }
}

async fn examine_store(config: &Config, store: &SqlStore, master: Option<&MasterKey>, now: Timestamp) -> Vec<Finding> {
    let read = async {
        store.try_write().await?;
        let (version, generation, keys) = (store.version().await?, store.generation().await?, store.keys().await?);
        // Where there are no keys yet it need not be made either.
        let deployment = if keys.is_empty() { String::new() } else { store.deployment(&random_id(&random)).await? };
        Ok::<_, StoreError>((version, generation, deployment, keys, store.clock().await?))
    };
    match read.await {
        Ok((version, generation, deployment, keys, clock)) => {
            let mut findings = vec![Finding::ok(
                "store",
                format!(
                    "{version} can be read and written, and its schema is up to date; the rules' generation is {}",
                    generation.0
                ),
            )];
            // `now` was taken before all of this, so it is taken anew.
            findings.extend(clock.map(|clock| judge_clock("PostgreSQL's", clock, Timestamp::now())));
            findings.extend(examine_keys(config, deployment, &keys, master, now));
            findings
        }
        Err(error) => vec![Finding::error(
            "store",
            with_sources(&error),
            "without its store a gateway denies everything: see store.url",
        )],
    }
}

pub(super) fn examine_keys(
    config: &Config,
    deployment: String,
    keys: &[StoredKey],
    master: Option<&MasterKey>,
    now: Timestamp,
) -> Vec<Finding> {
    let Some(newest) = keys.iter().max_by_key(|key| key.signs_from) else {
        return vec![Finding::warning("keys", "there is none to sign with yet", "`portcullis serve` makes the first")];
    };
    let Some(master) = master else {
        let missing = master_key::MasterKeyError::Missing { path: master_key::path(&config.data_dir) };
        return vec![Finding::error("keys", missing.to_string(), "no gateway starts until then")];
    };
    if let Err(error) = KeyRing::open(deployment, config.tokens.service.clone(), keys, master) {
        return vec![Finding::error(
            "keys",
            with_sources(&error),
            "compare the master key's fingerprint with another node's",
        )];
    }
    let algorithm = show::algorithm(newest.algorithm);
    let mut findings = Vec::new();
    if newest.algorithm != config.tokens.algorithm {
        let wanted = show::algorithm(config.tokens.algorithm);
        findings.push(Finding::warning(
            "keys",
            format!("tokens are signed with {algorithm}, and tokens.algorithm is {wanted}"),
            "run `portcullis key rotate`",
        ));
    }
    let soon = now.checked_add(Duration::from_secs(60)).unwrap_or(now);
    if !keys.iter().any(|key| key.signs_from <= soon) {
        findings.push(Finding::error(
            "keys",
            format!("the first signs from {} on", show::second(newest.signs_from)),
            "compare the clocks of all nodes",
        ));
    }
    if newest.created_at.checked_add(YEAR).is_ok_and(|end| end <= now) {
        findings.push(Finding::warning(
            "keys",
            format!("the newest is from {}", show::minute(newest.created_at)),
            "run `portcullis key rotate` once a year",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "keys",
            format!(
                "{} open with this master key; the newest is {algorithm}, from {}",
                keys.len(),
                show::minute(newest.created_at)
            ),
        ));
    }
    findings
}

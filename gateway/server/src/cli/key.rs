//! `key rotate`: a new signing key, while those before it go on verifying for as long as anything they signed may be used.

use super::output::{Answer, Failure};
use super::session::Session;
use super::show;
use crate::app::random;
use crate::master_key;
use clap::Subcommand;
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::key::{self, Purpose};
use portcullis_tenancy::token::KeyRing;
use portcullis_tenancy::{Store, random_id};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Sign with a new key; tokens signed before stay good until they end
    Rotate,
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    let Command::Rotate = command;
    let Session { config, store, now, .. } = session;
    let keys = store.keys().await?;
    let master = master_key::open(&config.data_dir, &keys).map_err(|error| Failure::Refused(error.to_string()))?;
    // A key sealed with a foreign master key would stop every gateway: the ones that are there must open first.
    let issuer = store.deployment(&random_id(&random)).await?;
    KeyRing::open(issuer, config.tokens.service.clone(), &keys, &master)?;

    let overlap = config.tokens.life.saturating_add(config.tokens.upload_grace);
    let seal = master.seal_key(Purpose::SigningKeys);
    let note = Session::note(Kind::KeyRotate).reference(show::algorithm(config.tokens.algorithm));
    let store = session.audited(note).await?;
    let key = key::rotate(&*store, config.tokens.algorithm, &seal, overlap, *now, &random).await?;
    let algorithm = show::algorithm(key.algorithm);
    Ok(Answer::new(
        format!("Signing with {} ({algorithm}) from {} on.\n", key.kid, show::second(key.signs_from)),
        json!({ "kid": key.kid, "algorithm": algorithm, "signs_from": key.signs_from.to_string() }),
    ))
}

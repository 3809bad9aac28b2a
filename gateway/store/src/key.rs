//! What there is once for a deployment: the rules' generation, the random id, the signing keys.

use crate::row;
use crate::sql::{SqlStore, bounded};
use portcullis_tenancy::key::{Algorithm, StoredKey};
use portcullis_tenancy::store::{Generation, Result};
use portcullis_tenancy::{StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

pub(crate) async fn generation(store: &SqlStore) -> Result<Generation> {
    let value = store.optional(query("SELECT value FROM rule_generation"), |row| row::number(row, "value")).await?;
    value.map(Generation).ok_or_else(|| StoreError::Unreadable("rule_generation: its row is gone".into()))
}

pub(crate) async fn deployment(store: &SqlStore, candidate: &str) -> Result<String> {
    let kept = || store.optional(query("SELECT id FROM deployment"), |row| row::text(row, "id"));
    if let Some(id) = kept().await? {
        return Ok(id);
    }
    store
        .execute(query("INSERT INTO deployment (one, id) VALUES (1, $1) ON CONFLICT DO NOTHING").bind(candidate))
        .await?;
    kept().await?.ok_or_else(|| StoreError::Unreadable("deployment: its row is gone".into()))
}

pub(crate) async fn all(store: &SqlStore) -> Result<Vec<StoredKey>> {
    let newest_first = bounded!(
        "SELECT kid, algorithm, sealed_private, public_jwk, signs_from, verifies_until, created_at FROM signing_key \
         ORDER BY created_at DESC, signs_from DESC, kid"
    );
    store.all(query(newest_first), read).await
}

pub(crate) async fn add(
    store: &SqlStore,
    key: &StoredKey,
    older_verify_until: Timestamp,
    now: Timestamp,
) -> Result<()> {
    let mut change = store.change().await?;
    change
        .execute(
            query("UPDATE signing_key SET verifies_until = $1 WHERE verifies_until IS NULL")
                .bind(older_verify_until.as_millisecond()),
        )
        .await?;
    change.execute(query("DELETE FROM signing_key WHERE verifies_until < $1").bind(now.as_millisecond())).await?;
    let insert = query(
        "INSERT INTO signing_key (kid, algorithm, sealed_private, public_jwk, signs_from, verifies_until, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(&*key.kid)
    .bind(algorithm_name(key.algorithm))
    .bind(key.sealed_private.as_slice())
    .bind(key.public_jwk.as_str())
    .bind(key.signs_from.as_millisecond())
    .bind(key.verifies_until.map(Timestamp::as_millisecond))
    .bind(key.created_at.as_millisecond());
    if change.execute(insert).await? == 0 {
        return Err(StoreError::Taken("signing key"));
    }
    change.commit().await
}

fn read(row: &AnyRow) -> Result<StoredKey> {
    Ok(StoredKey {
        kid: row::boxed(row, "kid")?,
        algorithm: algorithm(&row::text(row, "algorithm")?)?,
        sealed_private: row::bytes(row, "sealed_private")?,
        public_jwk: row::text(row, "public_jwk")?,
        signs_from: row::time(row, "signs_from")?,
        verifies_until: row::optional_time(row, "verifies_until")?,
        created_at: row::time(row, "created_at")?,
    })
}

fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDsa => "EdDSA",
        Algorithm::Es256 => "ES256",
    }
}

fn algorithm(name: &str) -> Result<Algorithm> {
    match name {
        "EdDSA" => Ok(Algorithm::EdDsa),
        "ES256" => Ok(Algorithm::Es256),
        other => Err(row::unknown("algorithm", other)),
    }
}

//! The record and the upstream: what was there before the gateway is put on record, and where both differ is found and mended.

mod background;
mod drift;
mod import;
mod under_way;

use portcullis_oci::{Digest, RepositoryName, Tag, manifest};
use portcullis_store::SqlStore;
use portcullis_tenancy::ledger::PushedManifest;
use portcullis_tenancy::quota::Account;
use portcullis_tenancy::{ProjectId, Store as _, StoreError, Timestamp};
use portcullis_tests::command::Output;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::block_on;
use portcullis_tests::image::{Blob, Manifest};

/// Asks or changes the record.
#[track_caller]
fn stored<T>(gateway: &Gateway, ask: impl AsyncFnOnce(&SqlStore) -> Result<T, StoreError>) -> T {
    let answer = block_on(async { ask(&portcullis_store::open(&gateway.store_url(), 2).await?).await });
    answer.expect("the store answers")
}

async fn id(store: &SqlStore, project: &str) -> Result<ProjectId, StoreError> {
    Ok(store.project(project).await?.expect("it was made").id)
}

fn account(gateway: &Gateway, project: &str) -> Account {
    stored(gateway, async |store| store.account(&id(store, project).await?).await)
}

/// One project's part of an answer.
#[track_caller]
fn of(output: &Output, project: &str) -> serde_json::Value {
    let json = output.json();
    let found = json["projects"].as_array().and_then(|all| all.iter().find(|one| one["project"] == project));
    found.unwrap_or_else(|| panic!("nothing of {project}\n{output}")).clone()
}

fn size(blob: &Blob) -> u64 {
    blob.bytes.len() as u64
}

/// Kind and subject of each finding, in order.
#[track_caller]
fn findings(output: &Output, project: &str) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let findings = of(output, project)["findings"].clone();
    let mut found: Vec<_> =
        findings.as_array().into_iter().flatten().map(|one| (text(&one["kind"]), text(&one["name"]))).collect();
    found.sort();
    found
}

/// A manifest as the gateway puts it on record.
fn pushed(project: &ProjectId, repository: &str, image: &Manifest, tags: &[&str]) -> PushedManifest {
    PushedManifest {
        project: project.clone(),
        repository: repository_name(repository),
        manifest: manifest::parse(Some(&image.blob.media_type), &image.blob.bytes).expect("it is a manifest"),
        tags: tags.iter().map(|tag| Tag::parse(tag).expect("a tag")).collect(),
        pushed_at: Timestamp::now(),
        pushed_by: "acme+owner".into(),
    }
}

fn repository_name(name: &str) -> RepositoryName {
    RepositoryName::parse(name).expect("a name")
}

fn digest(text: &str) -> Digest {
    Digest::parse(text).expect("a digest")
}

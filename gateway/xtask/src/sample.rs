//! A small image to push, made on the spot: nothing has to be fetched to try the gateway.

use crate::processes::{ask, call};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Writes a directory to build from, and in `layout` the same image as an OCI layout, unless they are there.
pub fn write(directory: &Path) -> Result<()> {
    let layout = directory.join("layout");
    if layout.join("index.json").exists() {
        return Ok(());
    }
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    std::fs::write(directory.join("hello.txt"), "Hello from behind the portcullis.\n")?;
    std::fs::write(directory.join("Dockerfile"), "FROM scratch\nCOPY hello.txt /\nCMD [\"/hello.txt\"]\n")?;
    std::fs::write(directory.join(".dockerignore"), "layout\n")?;

    let archive = blobs.join("layer");
    call(Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(&archive).arg("hello.txt"))?;
    let layer = put(&blobs, "application/vnd.oci.image.layer.v1.tar", &std::fs::read(&archive)?)?;
    std::fs::remove_file(archive)?;
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello.txt"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.get("digest")]},
    });
    let config = put(&blobs, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let mut entry = put(&blobs, kind, manifest.to_string().as_bytes())?;
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("annotations".to_owned(), json!({"org.opencontainers.image.ref.name": "latest"}));
    }
    std::fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    // The index comes last: where it is, all is there.
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(layout.join("index.json"), index.to_string())?;
    Ok(())
}

/// Stores a blob under its digest and returns its descriptor.
fn put(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let unnamed = blobs.join("unnamed");
    std::fs::write(&unnamed, bytes)?;
    let told = ask(Command::new("sha256sum").arg(&unnamed))?;
    let hash = told.split_whitespace().next().context("sha256sum said nothing")?;
    std::fs::rename(&unnamed, blobs.join(hash))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": bytes.len()}))
}

//! What is served: a manifest of a usual size and a large blob, under their own digests.

use crate::processes::ask;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository that all of it is in.
pub const REPOSITORY: &str = "bench/app";
/// The manifest's media type.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The manifest's size.
pub const MANIFEST_BYTES: usize = 1177;
/// The size of the blob that is pulled.
pub const PULLED_BYTES: u64 = 1 << 30;
/// The size of the blob that is pushed.
pub const PUSHED_BYTES: u64 = 2 << 30;

/// Bytes in a file, and what they are called.
pub struct Content {
    /// The file.
    pub file: PathBuf,
    /// `sha256:…`
    pub digest: String,
}

impl Content {
    fn of(file: PathBuf) -> Result<Self> {
        let told = ask(Command::new("sha256sum").arg(&file))?;
        let hash = told.split_whitespace().next().context("sha256sum said nothing")?;
        Ok(Self { digest: format!("sha256:{hash}"), file })
    }

    /// A blob of zeros. Neither TLS nor SHA-256 is faster on them, and nothing compresses.
    pub fn zeros(file: PathBuf, bytes: u64) -> Result<Self> {
        File::create(&file)?.set_len(bytes)?;
        Self::of(file)
    }

    /// A small blob.
    pub fn text(file: PathBuf, text: &str) -> Result<Self> {
        std::fs::write(&file, text)?;
        Self::of(file)
    }

    /// An image manifest of [`MANIFEST_BYTES`] that names this blob alone.
    pub fn manifest(file: PathBuf, config: &Self) -> Result<Self> {
        let with_note = |note: &str| {
            let size = std::fs::metadata(&config.file)?.len();
            let kind = "application/vnd.oci.image.config.v1+json";
            let config = json!({"mediaType": kind, "digest": config.digest, "size": size});
            let annotations = json!({"note": note});
            let layers = json!([]);
            anyhow::Ok(
                json!({
                    "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
                    "annotations": annotations,
                })
                .to_string(),
            )
        };
        let missing = MANIFEST_BYTES.saturating_sub(with_note("")?.len());
        Self::text(file, &with_note(&"x".repeat(missing))?)
    }
}

/// Where a manifest is pulled from.
pub fn manifest_path(manifest: &Content) -> String {
    format!("/v2/{REPOSITORY}/manifests/{}", manifest.digest)
}

/// Where a blob is pulled from.
pub fn blob_path(blob: &Content) -> String {
    format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)
}

/// A directory that is empty in the beginning and gone in the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    pub fn new(directory: PathBuf) -> Result<Self> {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self(directory))
    }

    /// A file or directory in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new directory in it.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.path(name);
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

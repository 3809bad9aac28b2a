//! Images, indexes and artifacts made on the spot: real tar layers with random contents, so that every client takes them.

use aws_lc_rs::{digest, rand};
use serde_json::{Value, json};
use std::path::Path;

/// The media type of an image's manifest.
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Bytes with the name that their hash gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What a descriptor says that they are.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// `sha256:…`
    pub digest: String,
}

/// A manifest of any kind, with the blobs and manifests that it names.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The manifest itself.
    pub blob: Blob,
    /// The configuration and the layers.
    pub blobs: Vec<Blob>,
    /// What an index lists.
    pub manifests: Vec<Manifest>,
}

impl Blob {
    /// These bytes.
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Blob {
        let bytes = bytes.into();
        Blob { media_type: media_type.to_owned(), digest: sha256(&bytes), bytes }
    }

    /// Random bytes of no particular kind.
    pub fn random(size: usize) -> Blob {
        Blob::new("application/octet-stream", random(size))
    }

    /// A layer: a tar archive with one file of random contents.
    pub fn layer(size: usize) -> Blob {
        let contents = random(size);
        let name = format!("file-{}", sha256(&contents).get(7..19).unwrap_or_default());
        Blob::new(LAYER, tar(&name, &contents))
    }

    /// `{mediaType, digest, size}`
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

impl Manifest {
    /// An image for Linux on amd64 with so many layers of so many random bytes.
    pub fn image(layers: usize, size: usize) -> Manifest {
        Manifest::image_for("amd64", (0..layers).map(|_| Blob::layer(size)).collect())
    }

    /// An image for Linux on `architecture` of these layers, which are tar archives.
    pub fn image_for(architecture: &str, layers: Vec<Blob>) -> Manifest {
        let diff_ids: Vec<_> = layers.iter().map(|l| &l.digest).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Blob::new(CONFIG, config.to_string());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let blobs = std::iter::once(config).chain(layers).collect();
        Manifest { blob: Blob::new(IMAGE, manifest.to_string()), blobs, manifests: Vec::new() }
    }

    /// An index of images, each with its architecture.
    pub fn index(images: Vec<(&str, Manifest)>) -> Manifest {
        let entry = |(architecture, image): &(&str, Manifest)| {
            let mut descriptor = image.blob.descriptor();
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
            descriptor
        };
        let entries: Vec<_> = images.iter().map(entry).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        Manifest {
            blob: Blob::new(INDEX, manifest.to_string()),
            blobs: Vec::new(),
            manifests: images.into_iter().map(|(_, image)| image).collect(),
        }
    }

    /// An artifact with a payload, about `subject` where there is one.
    pub fn artifact(artifact_type: &str, payload: Blob, subject: Option<&Manifest>) -> Manifest {
        let config = Blob::new(EMPTY, "{}");
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "artifactType": artifact_type,
            "config": config.descriptor(), "layers": [payload.descriptor()],
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject.blob.descriptor();
        }
        let blobs = vec![config, payload];
        Manifest { blob: Blob::new(IMAGE, manifest.to_string()), blobs, manifests: Vec::new() }
    }

    /// The same with its JSON changed.
    #[must_use]
    pub fn changed(mut self, change: impl FnOnce(&mut Value)) -> Manifest {
        let mut value = serde_json::from_slice(&self.blob.bytes).expect("our own JSON");
        change(&mut value);
        self.blob = Blob::new(&self.blob.media_type, value.to_string());
        self
    }

    /// The same blobs under a manifest of these very bytes, however odd.
    #[must_use]
    pub fn with_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Manifest {
        self.blob = Blob::new(&self.blob.media_type, bytes);
        self
    }

    /// `sha256:…`
    pub fn digest(&self) -> &str {
        &self.blob.digest
    }

    /// Writes it as an OCI layout, where clients can copy it from as `oci:DIRECTORY:TAG`.
    #[track_caller]
    pub fn write_layout(&self, directory: &Path, tag: &str) {
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("the test's own directory");
        self.write_blobs(&blobs);
        let mut entry = self.blob.descriptor();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        let files = [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))];
        for (name, value) in files {
            std::fs::write(directory.join(name), value.to_string()).expect("the test's own directory");
        }
    }

    fn write_blobs(&self, directory: &Path) {
        for blob in self.blobs.iter().chain([&self.blob]) {
            let name = blob.digest.trim_start_matches("sha256:");
            std::fs::write(directory.join(name), &blob.bytes).expect("the test's own directory");
        }
        for manifest in &self.manifests {
            manifest.write_blobs(directory);
        }
    }
}

/// `sha256:…` of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// So many random bytes.
pub fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// An archive with one file, in the oldest format that everybody reads.
fn tar(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", contents.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

//! What the ledger says a project holds, and what the registry's own storage says.

use crate::gateway::Gateway;
use crate::registry::Registry;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What `quota show` says, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// What the project holds.
    pub used: u64,
    /// What is under way.
    pub reserved: u64,
}

impl Gateway {
    /// A project's account.
    #[track_caller]
    pub fn account(&self, project: &str) -> Account {
        let shown = self.quota(project);
        let bytes = |name: &str| shown[name].as_u64().unwrap_or_else(|| panic!("no {name} in {shown}"));
        Account { used: bytes("used_bytes"), reserved: bytes("reserved_bytes") }
    }

    /// All that `quota show` says.
    #[track_caller]
    pub fn quota(&self, project: &str) -> Value {
        self.cli(&["quota", "show", project, "--json"]).json()
    }

    /// Sets what a project may hold, in bytes.
    #[track_caller]
    pub fn set_quota(&self, project: &str, bytes: u64) {
        self.cli(&["quota", "set", project, &bytes.to_string()]);
    }
}

impl Registry {
    /// The bytes of the distinct blobs and manifests that lie under a prefix, read from the registry's own files.
    pub fn holds(&self, prefix: &str) -> u64 {
        let (mut blobs, mut manifests) = (BTreeMap::new(), BTreeMap::new());
        self.walk(&self.repositories().join(prefix), &mut blobs, &mut manifests);
        blobs.values().chain(manifests.values()).sum()
    }

    fn walk(&self, directory: &Path, blobs: &mut BTreeMap<String, u64>, manifests: &mut BTreeMap<String, u64>) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().is_dir()) {
            match entry.file_name().to_str() {
                Some("_layers") => self.linked(&entry.path(), blobs),
                Some("_manifests") => self.linked(&entry.path().join("revisions"), manifests),
                Some("_uploads") => {}
                _ => self.walk(&entry.path(), blobs, manifests),
            }
        }
    }

    /// `<here>/<algorithm>/<hex>/link`
    fn linked(&self, directory: &Path, found: &mut BTreeMap<String, u64>) {
        for link in glob(directory, 3).into_iter().filter(|path| path.ends_with("link")) {
            let Ok(digest) = std::fs::read_to_string(&link) else { continue };
            let Some((algorithm, hex)) = digest.trim().split_once(':') else { continue };
            let blobs = self.repositories().join("../blobs");
            let data = blobs.join(algorithm).join(hex.get(..2).unwrap_or(hex)).join(hex).join("data");
            if let Ok(data) = std::fs::metadata(data) {
                found.insert(digest.trim().to_owned(), data.len());
            }
        }
    }
}

/// All files so many levels below.
fn glob(directory: &Path, depth: usize) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    if depth <= 1 {
        return entries.filter(|path| path.is_file()).collect();
    }
    entries.filter(|path| path.is_dir()).flat_map(|path| glob(&path, depth.saturating_sub(1))).collect()
}

//! Policies to attach, as files: those that come with Portcullis, hostile ones, and ones that a test writes itself.

#[path = "../../policies-wasm/hostile/guest.rs"]
pub mod text;

use crate::image::sha256;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A hostile guest's file. All of them give themselves the name `hostile`.
#[track_caller]
pub fn hostile(name: &str) -> PathBuf {
    made(name, &text::text(name))
}

/// The file of a guest that a body makes (`policies-wasm/hostile/README.md` says how a body is written).
#[track_caller]
pub fn made(name: &str, body: &str) -> PathBuf {
    let bytes = text::made(body);
    let exe = std::env::current_exe().expect("the test knows itself");
    let folder = exe.ancestors().nth(2).expect("target/debug/deps/test").join("guests");
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let file = folder.join(format!("{name}-{}.wasm", name_of(&bytes)));
    write_whole(&file, &bytes);
    file
}

/// The component of a policy that comes with Portcullis.
#[track_caller]
pub fn shipped(name: &str) -> PathBuf {
    let file = text::folder().join(format!("target/components/{name}.wasm"));
    assert!(file.is_file(), "missing: the policy {name}, {} (`make policies` builds it)", file.display());
    file
}

/// A short name for bytes: other bytes have another one.
pub(crate) fn name_of(bytes: &[u8]) -> String {
    sha256(bytes).get(7..23).expect("a digest is longer").to_owned()
}

/// Writes a file that several tests may be writing, each the same: nobody ever reads half of it.
#[track_caller]
pub(crate) fn write_whole(file: &Path, bytes: &[u8]) {
    let folder = file.parent().expect("a file is in a directory");
    let write = || {
        let mut half = tempfile::NamedTempFile::new_in(folder)?;
        half.write_all(bytes)?;
        half.persist(file).map(drop).map_err(std::io::Error::from)
    };
    write().unwrap_or_else(|e: std::io::Error| panic!("{}: {e}", file.display()));
}

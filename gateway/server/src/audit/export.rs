//! Files beside the store: the last checkpoint of this node, and the export. Whoever can write the store cannot write these.

use portcullis_tenancy::audit::Checkpoint;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where this node keeps its last checkpoint.
pub fn checkpoint_path(data_dir: &Path) -> PathBuf {
    data_dir.join("audit.checkpoint")
}

fn position_path(data_dir: &Path) -> PathBuf {
    data_dir.join("audit.exported")
}

/// This node's last checkpoint; none where there is none, or none that can be read.
pub fn read_checkpoint(data_dir: &Path) -> Option<Checkpoint> {
    let text = fs::read_to_string(checkpoint_path(data_dir)).ok()?;
    Checkpoint::parse(text.trim_end()).ok()
}

pub(super) fn write_checkpoint(data_dir: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    replace(&checkpoint_path(data_dir), &format!("{}\n", checkpoint.to_json()))
}

/// Up to which record of this node's chain is exported.
pub(super) fn read_position(data_dir: &Path) -> u64 {
    let text = fs::read_to_string(position_path(data_dir)).unwrap_or_default();
    text.trim_end().parse().unwrap_or_default()
}

/// Appends lines, and notes how far the export has got. The file is opened anew each time, so that it may be moved away at any.
pub(super) fn append(file: &Path, lines: &str, data_dir: &Path, position: Option<u64>) -> io::Result<()> {
    let mut open = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    open.write_all(lines.as_bytes())?;
    open.sync_data()?;
    match position {
        Some(position) => replace(&position_path(data_dir), &format!("{position}\n")),
        None => Ok(()),
    }
}

/// A file is there whole, or as it was before.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&beside, path)
}

//! Files beside the store: the last checkpoint of this node, and the export. Whoever can write the store cannot write these.

use portcullis_tenancy::audit::{Checkpoint, Line};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How much of an export's end is looked at: more than a lot of records takes up.
const TAIL: u64 = 4 * 1024 * 1024;

/// Where this node keeps its last checkpoint.
pub fn checkpoint_path(data_dir: &Path) -> PathBuf {
    data_dir.join("audit.checkpoint")
}

/// Where it keeps how far its export has got.
pub fn position_path(data_dir: &Path) -> PathBuf {
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

/// Up to which record of this node's chain is exported: as it was noted, or further, where a crash came in between.
pub(super) fn read_position(data_dir: &Path, export: Option<&Path>, node: &str) -> u64 {
    let text = fs::read_to_string(position_path(data_dir)).unwrap_or_default();
    let noted = text.split_once(' ').filter(|(of, _)| *of == node);
    let noted = noted.and_then(|(_, position)| position.trim_end().parse().ok()).unwrap_or_default();
    let written = export.and_then(|file| last_written(file, node).ok().flatten());
    written.map_or(noted, |written| written.max(noted))
}

/// The last record of this node in an export. A line that a crash cut off is taken away.
fn last_written(file: &Path, node: &str) -> io::Result<Option<u64>> {
    let mut open = OpenOptions::new().read(true).write(true).open(file)?;
    let length = open.metadata()?.len();
    let begin = length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    open.seek(SeekFrom::Start(begin))?;
    Read::by_ref(&mut open).take(TAIL).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place.saturating_add(1));
    open.set_len(begin.saturating_add(u64::try_from(whole).unwrap_or_default()))?;
    let text = String::from_utf8_lossy(tail.get(..whole).unwrap_or_default());
    Ok(text.lines().rev().find_map(|line| match Line::parse(line) {
        Ok(Line::Entry(entry)) if *entry.record.node == *node => entry.sequence,
        _ => None,
    }))
}

/// Appends lines, or none of them. The file is opened anew each time, so that it may be moved away at any.
pub(super) fn append(file: &Path, lines: &str) -> io::Result<()> {
    let mut open = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    all_or_nothing(&mut open, |open| {
        open.write_all(lines.as_bytes())?;
        open.sync_data()
    })
}

fn all_or_nothing(open: &mut File, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let before = open.metadata()?.len();
    let written = write(open);
    if written.is_err() {
        // They are appended again, whole. Where that cannot be either, why it failed first is what is told.
        let _ = open.set_len(before);
    }
    written
}

/// Notes how far a node's export has got.
pub(super) fn note_position(data_dir: &Path, node: &str, position: u64) -> io::Result<()> {
    replace(&position_path(data_dir), &format!("{node} {position}\n"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_tenancy::Timestamp;
    use portcullis_tenancy::audit::{AuditKeys, Kind, Note};
    use portcullis_tenancy::key::MasterKey;

    #[test]
    fn an_export_goes_on_where_it_ended_and_loses_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        let keys = AuditKeys::new(&MasterKey::new([1; 32]));
        let position = || read_position(dir.path(), Some(&file), "node-a");
        assert_eq!(position(), 0);
        let line = |sequence: u64, node: &str| {
            let note = Note::new(Kind::Push, "acme+ci");
            let mut entry = keys.seal(note, node, Timestamp::UNIX_EPOCH, &|bytes: &mut [u8]| bytes.fill(1));
            entry.sequence = Some(sequence);
            entry.to_json() + "\n"
        };
        append(&file, &line(1, "node-a")).unwrap();
        note_position(dir.path(), "node-a", 1).unwrap();
        append(&file, &(line(2, "node-a") + &line(9, "node-b"))).unwrap();
        assert_eq!(position(), 2, "it was written, and not noted");
        let whole = fs::read_to_string(&file).unwrap();
        append(&file, "{\"type\":\"rec").unwrap();
        assert_eq!(position(), 2);
        assert_eq!(fs::read_to_string(&file).unwrap(), whole);
        fs::rename(&file, dir.path().join("audit.jsonl.1")).unwrap();
        assert_eq!(position(), 1, "what was noted, where the file was moved away");
        assert_eq!(read_position(dir.path(), None, "node-b"), 0, "and not for another node");
    }
    #[test]
    fn an_append_that_failed_halfway_leaves_no_half_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        append(&file, "one\n").unwrap();
        let mut open = OpenOptions::new().append(true).open(&file).unwrap();
        let failed = all_or_nothing(&mut open, |open| {
            open.write_all(b"tw")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        append(&file, "two\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn why_an_append_failed_is_told_even_where_it_cannot_be_taken_back() {
        let failed = append(Path::new("/dev/full"), "one\n").unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull, "{failed}");
    }
}

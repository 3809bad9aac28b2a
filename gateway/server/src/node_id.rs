//! This node's name in the audit trail: random, made once, kept in `data_dir` for its owner alone.

use crate::app::random;
use portcullis_tenancy::random_id;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Letters of a name: enough that no two nodes of a deployment share one.
const LENGTH: usize = 12;

/// The name's file.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("node")
}

/// Reads the name, and makes one where there is none.
///
/// # Errors
/// The file, or the directory, cannot be used, or it holds no name.
pub fn open(data_dir: &Path) -> io::Result<Box<str>> {
    let path = path(data_dir);
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => return checked(text.trim_end()).map_err(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let unfinished = data_dir.join(format!("node.{}", random_id(&random)));
    let name: String = random_id(&random).chars().take(LENGTH).collect();
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).and_then(|mut file| {
        file.write_all(format!("{name}\n").as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&unfinished, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let removed = fs::remove_file(&unfinished);
    written.and(removed).map_err(failed)?;
    // Read back, whoever made it: of two processes that start at once, one wins.
    fs::read_to_string(&path).and_then(|text| checked(text.trim_end())).map_err(failed)
}

fn checked(text: &str) -> io::Result<Box<str>> {
    let is_name = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if is_name {
        return Ok(text.into());
    }
    let message =
        format!("it is no node's name of {LENGTH} letters; move it away, and the node goes on under a new one");
    Err(io::Error::new(ErrorKind::InvalidData, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_name_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<Box<str>> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| open(dir.path()).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        assert_eq!(names[0].len(), LENGTH);
        assert_eq!(fs::metadata(path(dir.path())).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_name_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for nonsense in ["", "short", "UPPERCASE234", "abcdefghijkl\nmore"] {
            fs::write(path(dir.path()), nonsense).unwrap();
            open(dir.path()).unwrap_err();
            assert_eq!(fs::read_to_string(path(dir.path())).unwrap(), nonsense);
        }
    }
}

//! `data_dir` and its `master.key`: made once, for their owner alone. Nobody else reads or writes the file.

use crate::app::random;
use portcullis_tenancy::key::{MasterKey, StoredKey};
use portcullis_tenancy::random_id;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const BYTES: usize = 32;
/// Group and others.
const NOT_THE_OWNER: u32 = 0o077;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why there is no master key. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The directory or the file cannot be used.
    #[error("{path}: {error}; data_dir must be a directory that this user may write", path = path.display())]
    Io {
        /// Which of them.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read or write the key.
    #[error("{path} has mode {mode:04o}, and whoever reads it can issue tokens; run `chmod 600 {path}`, and make new keys if others may have read it", path = path.display())]
    Loose {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may put another key into its place.
    #[error("{path} has mode {mode:04o}, and others could put a key of theirs into it; run `chmod 700 {path}`", path = path.display())]
    LooseDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is gone, or the store is another deployment's.
    #[error("{path} is missing, and the store's signing keys are sealed with it; put the deployment's own there, from another node or a backup, with mode 0600", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is no key.
    #[error("{path} is no key of {BYTES} bytes; put the deployment's own back, from another node or a backup", path = path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

/// The key's file.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("master.key")
}

/// Makes `data_dir` for this user alone where it is not there yet, and refuses one that others may write.
pub fn prepare_dir(data_dir: &Path) -> Result<(), MasterKeyError> {
    let failed = at(data_dir);
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(&failed)?;
    let mode = fs::metadata(data_dir).map_err(&failed)?.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    Err(MasterKeyError::LooseDirectory { path: data_dir.to_owned(), mode })
}

/// Reads the master key; none where there is no file yet.
pub fn load(data_dir: &Path) -> Result<Option<MasterKey>, MasterKeyError> {
    let path = path(data_dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&path)(error)),
    };
    let metadata = file.metadata().map_err(at(&path))?;
    let mode = metadata.mode() & 0o7777;
    if mode & NOT_THE_OWNER != 0 {
        return Err(MasterKeyError::Loose { path, mode });
    }
    // One byte more than a key has, so that a longer file is noticed. The buffer never grows: no copy stays behind.
    let mut bytes = Zeroizing::new([0; BYTES + 1]);
    let mut length: usize = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match (&file).read(rest).map_err(at(&path))? {
            0 => break,
            read => length = length.saturating_add(read),
        }
    }
    let key = bytes.first_chunk::<BYTES>().filter(|_| length == BYTES && metadata.is_file());
    key.map(|key| Some(MasterKey::new(*key))).ok_or(MasterKeyError::NoKey { path })
}

/// Reads the master key. Only a deployment that has no signing keys yet gets a new one, and `data_dir` with it: another key
/// would open nothing that is sealed.
pub fn open(data_dir: &Path, signing_keys: &[StoredKey]) -> Result<MasterKey, MasterKeyError> {
    prepare_dir(data_dir)?;
    if let Some(key) = load(data_dir)? {
        return Ok(key);
    }
    if !signing_keys.is_empty() {
        return Err(MasterKeyError::Missing { path: path(data_dir) });
    }
    create(data_dir).map_err(at(&path(data_dir)))?;
    // Read back, whoever made it: of two processes that start at once, one wins.
    load(data_dir)?.ok_or_else(|| MasterKeyError::NoKey { path: path(data_dir) })
}

/// The key appears under its name whole and on the disk, or not at all.
fn create(data_dir: &Path) -> io::Result<()> {
    let unfinished = data_dir.join(format!("master.key.{}", random_id(&random)));
    let mut bytes = Zeroizing::new([0; BYTES]);
    random(bytes.as_mut_slice());
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).and_then(|mut file| {
        file.write_all(bytes.as_slice())?;
        file.sync_all()?;
        match fs::hard_link(&unfinished, path(data_dir)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let removed = fs::remove_file(&unfinished);
    written.and(removed)?;
    File::open(data_dir)?.sync_all()
}

fn at(path: &Path) -> impl Fn(io::Error) -> MasterKeyError {
    let path = path.to_owned();
    move |error| MasterKeyError::Io { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_tenancy::Timestamp;
    use portcullis_tenancy::key::{self, Purpose};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_first_start_makes_a_private_key_and_later_ones_find_it() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("deep/data");
        assert!(load(&data_dir).unwrap().is_none());
        let made = open(&data_dir, &[]).unwrap();
        assert_eq!(mode(&data_dir), 0o700);
        assert_eq!(mode(&path(&data_dir)), 0o600);
        assert_eq!(fs::read(path(&data_dir)).unwrap().len(), BYTES);
        assert_eq!(open(&data_dir, &[]).unwrap().fingerprint(), made.fingerprint());
        let files: Vec<_> = fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["master.key"]);
    }

    #[test]
    fn a_deployment_that_has_signing_keys_gets_no_other_master_key() {
        let dir = tempfile::tempdir().unwrap();
        let seal = MasterKey::new([1; 32]).seal_key(Purpose::SigningKeys);
        let now = Timestamp::UNIX_EPOCH;
        let key = key::generate(key::Algorithm::EdDsa, &seal, now, now, &random).unwrap();
        assert!(matches!(open(dir.path(), &[key]), Err(MasterKeyError::Missing { .. })));
        assert!(!path(dir.path()).exists());
    }

    #[test]
    fn two_first_starts_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| open(dir.path(), &[]).unwrap().fingerprint())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[]).unwrap();
        for loose in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(path(dir.path()), Permissions::from_mode(loose)).unwrap();
            assert!(matches!(load(dir.path()), Err(MasterKeyError::Loose { mode, .. }) if mode == loose));
        }
        fs::set_permissions(path(dir.path()), Permissions::from_mode(0o400)).unwrap();
        assert!(load(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(open(dir.path(), &[]), Err(MasterKeyError::LooseDirectory { mode: 0o1777, .. })));
        assert!(!path(dir.path()).exists());
    }

    #[test]
    fn a_file_of_another_length_is_no_key_and_is_left_as_it_is() {
        for length in [0, BYTES - 1, BYTES + 1, 4096] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(path(dir.path()), vec![7; length]).unwrap();
            fs::set_permissions(path(dir.path()), Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(open(dir.path(), &[]), Err(MasterKeyError::NoKey { .. })), "{length}");
            assert_eq!(fs::read(path(dir.path())).unwrap().len(), length);
        }
    }
}

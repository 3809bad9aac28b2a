//! Compiled code on disk: in a directory that only the gateway's user can read, each file authenticated by a key that is kept
//! elsewhere. The buffer that was verified is the buffer that is loaded, never the file read again.

use super::native::Trusted;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use aws_lc_rs::rand;
use portcullis_oci::Digest;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that each file starts with: a salt of its own, the tag, and how long the component was.
const SALT: usize = 32;
const TAG: usize = 16;
const LENGTH: usize = 8;
const HEAD: usize = SALT + TAG + LENGTH;
/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Why a directory cannot hold compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or read.
    #[error("the directory for compiled policies cannot be used: {0}")]
    Io(#[from] io::Error),
    /// Others may look into it, or it is another's.
    #[error("the directory for compiled policies must belong to the gateway's user alone, with mode 0700")]
    Exposed,
}

/// Compiled code on disk.
pub struct CompileCache {
    directory: PathBuf,
    key: Key,
    max_bytes: u64,
    written: AtomicU64,
    failed_writes: AtomicU64,
}

impl CompileCache {
    /// Opens, or makes, a directory of at most `max_bytes`. The key must not be kept inside of it.
    pub fn open(directory: &Path, key: &[u8; 32], max_bytes: u64) -> Result<Self, CacheError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let metadata = fs::metadata(directory)?;
        if metadata.permissions().mode() & 0o077 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Exposed);
        }
        let key = Key::new(HMAC_SHA256, key);
        Ok(Self {
            directory: directory.to_owned(),
            key,
            max_bytes,
            written: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
        })
    }

    /// How often the disk refused to keep something. It makes the next start slower and is no error.
    pub fn failed_writes(&self) -> u64 {
        self.failed_writes.load(Ordering::Relaxed)
    }

    /// What was compiled of this component for such an engine, and how long the component was. A file that is not as it was
    /// written is no file.
    pub(super) fn load(&self, component: &Digest, compatibility: u64) -> Option<(Trusted, usize)> {
        let name = file_name(component, compatibility);
        let file = File::open(self.directory.join(&name)).ok()?;
        let length = file.metadata().ok()?.len().min(MAX_FILE_BYTES);
        // One piece: a buffer that grows is copied, and there are megabytes of it.
        let mut buffer = Vec::with_capacity(usize::try_from(length).ok()?);
        file.take(length).read_to_end(&mut buffer).ok()?;
        let (salt, rest) = buffer.split_first_chunk::<SALT>()?;
        let (tag, rest) = rest.split_first_chunk::<TAG>()?;
        let (length, code) = rest.split_first_chunk::<LENGTH>()?;
        self.verify(&name, salt, length, tag, code).ok()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        Some((Trusted::from_verified(buffer, HEAD), length))
    }

    /// Keeps what was just compiled of a component of this length.
    pub(super) fn store(&self, component: &Digest, length: usize, compatibility: u64, code: Vec<u8>) -> Trusted {
        let name = file_name(component, compatibility);
        if self.make_room(code.len()).and_then(|()| self.write(&name, length, &code)).is_err() {
            self.failed_writes.fetch_add(1, Ordering::Relaxed);
        }
        Trusted::from_compiler(code)
    }

    /// A key for one file alone, so that no nonce is used twice. It depends on everything but the code: no file can stand in
    /// for another.
    fn key_of(&self, name: &str, salt: &[u8; SALT], length: &[u8; LENGTH]) -> Result<LessSafeKey, Unspecified> {
        let mut context = Context::with_key(&self.key);
        context.update(salt);
        context.update(length);
        context.update(name.as_bytes());
        UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).map(LessSafeKey::new)
    }

    /// The head of a file with this code. Nothing is encrypted: it is the tag alone that is wanted, since it is made many times
    /// faster than a hash.
    fn head(&self, name: &str, length: usize, code: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt)?;
        let length = u64::try_from(length).map_err(|_| Unspecified)?.to_le_bytes();
        let key = self.key_of(name, &salt, &length)?;
        let tag = key.seal_in_place_separate_tag(only_nonce(), Aad::from(code), &mut [])?;
        Ok([&salt, tag.as_ref(), &length].concat())
    }

    fn verify(
        &self,
        name: &str,
        salt: &[u8; SALT],
        length: &[u8; LENGTH],
        tag: &[u8; TAG],
        code: &[u8],
    ) -> Result<(), Unspecified> {
        let key = self.key_of(name, salt, length)?;
        key.open_in_place(only_nonce(), Aad::from(code), &mut tag.to_vec()).map(drop)
    }

    /// A whole file appears under its name, or none does.
    fn write(&self, name: &str, length: usize, code: &[u8]) -> io::Result<()> {
        let serial = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.directory.join(format!("{name}.{}-{serial}.new", std::process::id()));
        let head = self.head(name, length, code).map_err(io::Error::other)?;
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).and_then(|mut file| {
                file.write_all(&head)?;
                file.write_all(code)
            });
        let renamed = written.and_then(|()| fs::rename(&unfinished, self.directory.join(name)));
        if renamed.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        renamed
    }

    /// Removes the oldest files until another of `bytes` fits.
    fn make_room(&self, bytes: usize) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort();
        let wanted = u64::try_from(bytes.saturating_add(HEAD)).unwrap_or(u64::MAX);
        let mut total = files.iter().fold(wanted, |total, (_, length, _)| total.saturating_add(*length));
        for (_, length, path) in files {
            if total <= self.max_bytes {
                break;
            }
            fs::remove_file(path)?;
            total = total.saturating_sub(length);
        }
        if total > self.max_bytes { Err(io::Error::other("larger than the whole cache")) } else { Ok(()) }
    }
}

/// Each key is used for one file, and for nothing else.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The file's name holds everything that the code depends on. Its end is the form of what is in it.
fn file_name(component: &Digest, compatibility: u64) -> String {
    format!("{}-{compatibility:016x}-2", component.encoded())
}

//! The one place where bytes become native code. Only a [`Trusted`] buffer does, and it is made in two ways: by the compiler's
//! own hand, or by the compile cache, from the very buffer whose authentication it has checked.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use wasmtime::component::Component;

/// What is compared at once: it stays in the processor's cache.
const PIECE: usize = 64 * 1024;

/// Native code that this program's own compiler made.
pub(super) struct Trusted {
    buffer: Vec<u8>,
    /// Where the code starts in the buffer.
    start: usize,
    /// The same code in memory that can be mapped, and that nobody can change. It spares the copy into pages that are all made
    /// at once; what is mapped takes a page when it is first used.
    sealed: Option<File>,
}

impl Trusted {
    /// What the compiler has just returned.
    pub(super) fn from_compiler(code: Vec<u8>) -> Self {
        Self { buffer: code, start: 0, sealed: None }
    }

    /// What a verified buffer holds from `start` on.
    pub(super) fn from_verified(buffer: Vec<u8>, start: usize) -> Self {
        let sealed = seal(buffer.get(start..).unwrap_or_default()).ok();
        Self { buffer, start, sealed }
    }

    /// Goes without mapped memory from now on; false where it did before. A system may forbid to execute what is mapped so.
    pub(super) fn unmap(&mut self) -> bool {
        self.sealed.take().is_some()
    }

    /// The code, loaded for an engine; an error where the two do not fit.
    #[allow(unsafe_code)]
    pub(super) fn component(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are what wasmtime's own `precompile_component` gave: `Trusted` is made from nothing else. What is
        // mapped was written from them, belongs to no directory, and is sealed against every change.
        unsafe {
            match &self.sealed {
                Some(file) => Component::deserialize_file(engine, format!("/proc/self/fd/{}", file.as_raw_fd())),
                None => Component::deserialize(engine, self.buffer.get(self.start..).unwrap_or_default()),
            }
        }
    }
}

/// Memory with this code in it, which nobody can write to, lengthen or shorten, nor take the seals from.
fn seal(code: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("policy", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(code)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // Before it was sealed, another process of the same user could have written to it.
    if !holds(&file, code)? {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(file)
}

/// Whether a file holds these bytes and no others.
fn holds(file: &File, code: &[u8]) -> io::Result<bool> {
    let (mut piece, mut at) = (vec![0; PIECE], 0_u64);
    for expected in code.chunks(PIECE) {
        let read = piece.get_mut(..expected.len()).unwrap_or_default();
        file.read_exact_at(read, at)?;
        if read != expected {
            return Ok(false);
        }
        at = at.saturating_add(u64::try_from(expected.len()).unwrap_or(u64::MAX));
    }
    Ok(file.metadata()?.len() == at)
}

#[cfg(test)]
mod tests {
    use super::{holds, seal};
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;

    #[test]
    fn what_was_written_to_meanwhile_is_noticed() {
        let code = vec![7; super::PIECE + 1];
        let file = seal(&code).unwrap();
        assert!(holds(&file, &code).unwrap());
        for place in [0, super::PIECE] {
            let mut other = code.clone();
            other[place] = 8;
            assert!(!holds(&file, &other).unwrap(), "{place}");
        }
        assert!(!holds(&file, &code[1..]).unwrap(), "it is longer");
        assert!(holds(&file, &[code, vec![7]].concat()).is_err(), "it is shorter");
    }

    #[test]
    fn what_is_sealed_is_what_was_given_and_stays_so() {
        let mut file = seal(b"code").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut text = String::new();
        std::fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "code");
        assert!(file.write_all(b"more").is_err(), "it does not grow");
        assert!(file.set_len(1).is_err(), "it does not shrink");
        let mut again = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(again.write_all(b"C").is_err(), "nothing in it changes");
    }
}

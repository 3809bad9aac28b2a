//! Compiled code on disk: found again, and refused where anybody touched it.

use crate::guests::{request, wrap};
use portcullis_oci::Digest;
use portcullis_policy::question::Hook;
use portcullis_policy::{CacheError, CompileCache, Engine, Limits, Options, Policy, Program, precompile};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const KEY: [u8; 32] = [7; 32];

/// An engine whose compiler counts, and stands for a child process.
fn engine(directory: &Path, key: &[u8; 32], compiled: &Arc<AtomicUsize>) -> Engine {
    let compiled = Arc::clone(compiled);
    let compiler = move |bytes: &[u8]| {
        compiled.fetch_add(1, Ordering::Relaxed);
        precompile(bytes, &Limits::default()).map_err(|error| error.to_string())
    };
    let cache = Some(CompileCache::open(directory, key, 64 << 20).unwrap());
    Engine::new(Limits::default(), Options { cache, compiler: Some(Box::new(compiler)), fuel: false }).unwrap()
}

fn guest() -> Vec<u8> {
    wrap(";; hooks: request")
}

fn runs(engine: &Engine) {
    let program = Program::load(engine, &guest()).unwrap();
    let policy = Policy::new(Arc::new(program), "", None, None).unwrap();
    assert!(policy.run_fresh(&request()).result.is_ok());
}

#[test]
fn what_was_compiled_elsewhere_runs_here_and_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("compiled");
    let compiled = Arc::new(AtomicUsize::new(0));
    runs(&engine(&directory, &KEY, &compiled));
    runs(&engine(&directory, &KEY, &compiled));
    assert_eq!(compiled.load(Ordering::Relaxed), 1);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let file = fs::read_dir(&directory).unwrap().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_anybody_touched_is_compiled_anew_and_never_run() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("compiled");
    let compiled = Arc::new(AtomicUsize::new(0));
    runs(&engine(&directory, &KEY, &compiled));
    let path = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    for touched in [whole[..whole.len() - 1].to_vec(), whole[..10].to_vec(), Vec::new(), [&whole[..], &[0]].concat()] {
        let before = compiled.load(Ordering::Relaxed);
        fs::write(&path, touched).unwrap();
        runs(&engine(&directory, &KEY, &compiled));
        assert_eq!(compiled.load(Ordering::Relaxed), before + 1);
    }
    let (digest, engine_of_all) = (Digest::sha256(&guest()), engine(&directory, &KEY, &compiled));
    assert!(Program::cached(&engine_of_all, &digest).is_some(), "it was written anew");
    let whole = fs::read(&path).unwrap();
    // Salt, tag, length, and the code from its first byte to its last.
    for place in (0..64).chain([whole.len() / 2, whole.len() - 1]) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(Program::cached(&engine_of_all, &digest).is_none(), "byte {place}");
    }
    fs::write(&path, &whole).unwrap();
    let before = compiled.load(Ordering::Relaxed);
    runs(&engine(&directory, &[8; 32], &compiled));
    assert_eq!(compiled.load(Ordering::Relaxed), before + 1, "another key");
}

#[test]
fn what_is_kept_is_found_by_its_digest_alone_and_runs_from_sealed_memory() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("compiled");
    let engine = engine(&directory, &KEY, &Arc::default());
    let (bytes, digest) = (guest(), Digest::sha256(&guest()));
    assert!(Program::cached(&engine, &digest).is_none(), "nothing was compiled yet");
    Program::load(&engine, &bytes).unwrap();
    let program = Arc::new(Program::cached(&engine, &digest).unwrap().unwrap());
    assert_eq!((program.digest(), program.size()), (&digest, bytes.len()));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.lines().any(|map| map.contains("r-xp") && map.contains("memfd:policy")), "{maps}");
    let policy = Policy::new(program, "", None, None).unwrap();
    assert!(policy.run_fresh(&request()).result.is_ok());
}

#[test]
fn one_components_file_does_not_stand_in_for_anothers() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("compiled");
    let engine = engine(&directory, &KEY, &Arc::default());
    let other = wrap(";; hooks: response");
    let find = |bytes: &[u8]| Program::cached(&engine, &Digest::sha256(bytes)).map(Result::unwrap);
    Program::load(&engine, &guest()).unwrap();
    let guests_file = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    Program::load(&engine, &other).unwrap();
    assert_eq!(find(&other).unwrap().info().hooks, [Hook::Response]);
    let file_of = |file: &&std::path::PathBuf| **file != guests_file;
    let all: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    fs::copy(&guests_file, all.iter().find(file_of).unwrap()).unwrap();
    assert!(find(&other).is_none() && find(&guest()).is_some());
}

#[test]
fn a_directory_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(CompileCache::open(directory.path(), &KEY, 1), Err(CacheError::Exposed)));
}

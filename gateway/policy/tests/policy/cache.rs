//! Compiled code on disk: found again, and refused where anybody touched it.

use crate::guests::{request, wrap};
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

fn runs(engine: &Engine) {
    let program = Program::load(engine, &wrap(";; hooks: request")).unwrap();
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
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for touched in [flipped, whole[..whole.len() - 1].to_vec(), whole[..10].to_vec(), Vec::new()] {
        let before = compiled.load(Ordering::Relaxed);
        fs::write(&path, touched).unwrap();
        runs(&engine(&directory, &KEY, &compiled));
        assert_eq!(compiled.load(Ordering::Relaxed), before + 1);
    }
    let before = compiled.load(Ordering::Relaxed);
    runs(&engine(&directory, &[8; 32], &compiled));
    assert_eq!(compiled.load(Ordering::Relaxed), before + 1, "another key");
}

#[test]
fn a_directory_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(CompileCache::open(directory.path(), &KEY, 1), Err(CacheError::Exposed)));
}

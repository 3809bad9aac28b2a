//! Memory returns to its level, whatever guests do and however often they come and go. One test, for nothing else may run beside it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)] // as in any test

#[allow(dead_code)] // shared with the other tests, which use all of it
#[path = "policy/guests.rs"]
mod guests;

use guests::{engine, hostile, policy, request, wrap};
use portcullis_oci::Digest;
use portcullis_policy::{Attachment, Catalog, Class, Mode, OnError, Owner};
use std::sync::Arc;
use std::time::Instant;

#[test]
fn memory_returns_to_its_level() {
    let bomb = policy("memory-bomb");
    level("bombs", 2_000, |_| assert!(bomb.run_fresh(&request()).result.is_err()));

    let catalog = Catalog::new(engine());
    let owner = Owner::Project("acme".into());
    let versions = [hostile("flood"), wrap(";; hooks: request"), hostile("trap-at-once")];
    level("attached, changed, broken and detached", 120, |round| {
        attach(&catalog, &owner, versions.get(round % 4).map(Vec::as_slice));
        let _ = catalog.current().ask("acme", &request(), Instant::now());
    });
    attach(&catalog, &owner, None);
    drop(bomb);
    assert_eq!(engine().slots_in_use(Class::Small), 0);

    let before = resident_kib();
    for project in 0..1_000 {
        attach(&catalog, &Owner::Project(format!("p{project}").into()), Some(&versions[1]));
    }
    assert_eq!(catalog.current().status().len(), 1_000);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "1000 attachments took {grown} KiB");
}

fn attach(catalog: &Catalog, owner: &Owner, module: Option<&[u8]>) {
    let attached = module.map(|module| Attachment {
        name: "one".to_owned(),
        order: 0,
        digest: Digest::sha256(module),
        settings: "{}".to_owned(),
        mode: Mode::Enforce,
        on_error: OnError::Deny,
        reuse: None,
        limits: None,
    });
    let fetch = |_: &Digest| Ok(Arc::from(module.unwrap_or_default()));
    catalog.replace(owner, attached.into_iter().collect(), &fetch);
}

/// After it has warmed up, doing it again and again takes no memory.
fn level(what: &str, rounds: usize, act: impl Fn(usize)) {
    (0..rounds).for_each(&act);
    let before = resident_kib();
    (0..rounds).for_each(&act);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{what}: {grown} KiB more");
}

/// This process's resident memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

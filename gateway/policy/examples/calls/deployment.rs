//! A deployment: ten policies from the compiled cache, attached a thousand times.

use crate::{PATIENCE, shipped};
use portcullis_oci::Digest;
use portcullis_policy::{
    Attachment, CallLimits, Catalog, CompileCache, Engine, Limits, Mode, OnError, Options, Owner, Program,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROJECTS: u32 = 100;
const LOADS: usize = 9;

pub(crate) fn tell() {
    let components: HashMap<Digest, Arc<[u8]>> =
        shipped::ALL.iter().map(|(name, _)| shipped::component(name)).map(|b| (Digest::sha256(&b), b.into())).collect();
    let directory = std::env::temp_dir().join(format!("portcullis-calls-{}", std::process::id()));
    let engine = || {
        let cache = Some(CompileCache::open(&directory, &[1; 32], 256 << 20).unwrap());
        Engine::new(Limits::default(), Options { cache, ..Options::default() }).unwrap()
    };
    println!("\n| policy | compiled, ms | from the cache, ms (goal: 2) |\n|---|---:|---:|");
    for (name, _) in shipped::ALL {
        let bytes = shipped::component(name);
        let engine = engine();
        let digest = Digest::sha256(&bytes);
        let compiled = load(|| Program::load(&engine, &bytes).unwrap());
        // As the catalog does it: what is kept is found by its digest, and the bytes are not asked for.
        let cached = || Program::cached(&engine, &digest).expect("it was just compiled").unwrap();
        let mut cached: Vec<_> = (0..LOADS).map(|_| load(cached)).collect();
        cached.sort_unstable();
        println!("| {name} | {:.1} | {:.2} |", ms(compiled), ms(cached[LOADS / 2]));
    }
    let catalog = Catalog::new(engine());
    let before = resident_kib();
    let begun = Instant::now();
    for project in 0..PROJECTS {
        let owner = Owner::Project(format!("project-{project}").into());
        let fetch = |digest: &Digest| components.get(digest).cloned().ok_or_else(|| "no such bytes".to_owned());
        let problems = catalog.replace(&owner, attachments(), &fetch);
        let told: Vec<String> = problems.iter().map(|one| format!("{}: {}", one.name, one.error)).collect();
        assert!(told.is_empty(), "{told:?}");
    }
    let count = catalog.current().status().len();
    let grown = resident_kib().saturating_sub(before) / 1024;
    println!("\n| {count} attachments of ten policies | goal | measured |\n|---|---:|---:|");
    println!("| resident memory, MiB more | 64 | {grown} |");
    println!("| put into force, ms each | | {:.2} |", ms(begun.elapsed()) / f64::from(PROJECTS) / 10.0);
    std::fs::remove_dir_all(directory).unwrap();
}

fn load(load: impl FnOnce() -> Program) -> Duration {
    let before = Instant::now();
    let program = load();
    let took = before.elapsed();
    drop(program);
    took
}

fn attachments() -> Vec<Attachment> {
    let attachment = |(order, (name, settings)): (i32, (&str, &str))| Attachment {
        name: name.to_owned(),
        order,
        digest: Digest::sha256(&shipped::component(name)),
        settings: settings.to_owned(),
        mode: Mode::Enforce,
        on_error: OnError::Deny,
        reuse: None,
        // Nothing fails here for what else the machine does.
        limits: Some(CallLimits { cpu: PATIENCE, ..CallLimits::default() }),
    };
    (0..).zip(shipped::ALL).map(attachment).collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// This process's resident memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

//! What a call costs: an empty one and one with a full manifest record (10 layers, 20 annotations), fresh and reused; and what
//! loading costs, compiled here and from the cache. `cargo run --release -p portcullis-policy --example calls`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

#[allow(dead_code)]
#[path = "../tests/policy/guests.rs"]
mod guests;

use portcullis_policy::question::{Ask, Descriptor, Manifest, Question, Target};
use portcullis_policy::{CompileCache, Engine, Limits, Options, Policy, Program, Reuse, measure_fresh, measure_reused};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let bytes = guests::wrap(";; hooks: request manifest-push response");
    let fuel = Engine::new(Limits::default(), Options { fuel: true, ..Options::default() }).unwrap();
    let engine = guests::engine();
    let policy = |engine: &Engine, reuse| {
        Policy::new(Arc::new(Program::load(engine, &bytes).unwrap()), "{}", None, reuse).unwrap()
    };
    let fresh = policy(&engine, None);
    let reuse = Reuse { calls: u32::MAX, life: Duration::from_secs(3_600) };
    let reused = policy(&engine, Some(reuse));
    println!("{:<28}{:>12}{:>12}{:>12}{:>12}", "", "p50 µs", "p99 µs", "memory KiB", "fuel");
    for (name, question) in [("empty", guests::request()), ("full manifest", full())] {
        let spent = measure_fresh(&policy(&fuel, None), &question, 10).unwrap().fuel.unwrap_or(0);
        for (kind, measured) in [
            ("fresh", measure_fresh(&fresh, &question, 20_000).unwrap()),
            ("reused", measure_reused(&reused, &question, 20_000).unwrap()),
        ] {
            let us = |time: Duration| time.as_secs_f64() * 1e6;
            let (p50, p99, memory) = (us(measured.p50), us(measured.p99), measured.memory_bytes / 1024);
            println!("{:<28}{p50:>12.2}{p99:>12.2}{memory:>12}{spent:>12}", format!("{name}, {kind}"));
        }
    }
    loading(&bytes);
}

fn loading(bytes: &[u8]) {
    let directory = std::env::temp_dir().join(format!("portcullis-calls-{}", std::process::id()));
    for name in ["compiled here", "from the cache"] {
        let cache = Some(CompileCache::open(&directory, &[1; 32], 64 << 20).unwrap());
        let engine = Engine::new(Limits::default(), Options { cache, ..Options::default() }).unwrap();
        let before = Instant::now();
        let program = Arc::new(Program::load(&engine, bytes).unwrap());
        let loaded = before.elapsed();
        Policy::new(program, "{}", None, None).unwrap();
        println!(
            "load, {name:<22}{:>12.2} ms, {:.2} ms with settings and smoke calls",
            loaded.as_secs_f64() * 1e3,
            before.elapsed().as_secs_f64() * 1e3
        );
    }
    std::fs::remove_dir_all(directory).unwrap();
}

fn full() -> Question {
    let digest = format!("sha256:{}", "a".repeat(64));
    let descriptor = |media_type: &str| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.clone(),
        size: 1 << 20,
        stored_size: Some(1 << 20),
        ..Descriptor::default()
    };
    let manifest = Manifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest: digest.clone(),
        size: 4_000,
        config: Some(descriptor("application/vnd.oci.image.config.v1+json")),
        layers: (0..10).map(|_| descriptor("application/vnd.oci.image.layer.v1.tar+gzip")).collect(),
        annotations: (0..20)
            .map(|n| (format!("org.opencontainers.image.label{n}"), format!("value number {n}")))
            .collect(),
        ..Manifest::default()
    };
    let target = Target { repository: "acme/app".to_owned(), tags: vec!["1.0".to_owned()], digest: Some(digest) };
    guests::question(Ask::ManifestPush { target, manifest })
}

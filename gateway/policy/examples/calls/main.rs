//! What policies cost, as a page: a call that is given next to nothing and one with a full manifest record (10 layers, 20
//! annotations), fresh and reused, and where their time goes; loading; and what a thousand of them hold.
//! `cargo xtask bench policy` builds what it measures, and keeps the page.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod deployment;
mod floor;
#[allow(dead_code)]
#[path = "../../tests/policy/guests.rs"]
mod guests;
mod shipped;

use portcullis_policy::question::{Ask, Descriptor, Facts, Manifest, Question, Target, Usage};
use portcullis_policy::{
    CallLimits, Engine, Limits, Measured, Options, Policy, Program, Reuse, Steps, measure_fresh, measure_reused,
    measure_steps,
};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    // `--quick`: only to see whether everything works.
    let calls = if std::env::args().any(|word| word == "--quick") { 200 } else { 20_000 };
    println!("| call | fresh p50, µs | p99 | reused p50, µs | p99 | fuel | memory, KiB |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let text = guests::wrap(";; hooks: request manifest-push response");
    let nothing = Guest::load("guest of text, next to nothing", &text, "{}", guests::request(), calls);
    let record = Guest::load("guest of text, full record", &text, "{}", full(), calls);
    let mut all = vec![nothing, record];
    for (name, settings) in shipped::ASKED {
        all.push(Guest::load(&format!("{name}, full record"), &shipped::component(name), settings, full(), calls / 10));
    }
    all.iter().for_each(Guest::tell);
    tell_goals(&all[0], &all[1], calls);
    tell_steps(&all);
    deployment::tell();
}

/// One guest with one question, measured.
struct Guest {
    name: String,
    fresh: Measured,
    reused: Measured,
    steps: Steps,
    fuel: u64,
}

impl Guest {
    fn load(name: &str, bytes: &[u8], settings: &str, question: Question, calls: u32) -> Guest {
        let counting = Engine::new(Limits::default(), Options { fuel: true, ..Options::default() }).unwrap();
        let policy = |engine: &Engine, reuse| {
            let program = Arc::new(Program::load(engine, bytes).unwrap());
            // Nothing is measured that was cut short.
            let limits = CallLimits { cpu: PATIENCE, configure_cpu: PATIENCE, ..program.call_limits().clone() };
            Policy::new(program, settings, Some(limits), reuse).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let reuse = Reuse { calls: u32::MAX, life: Duration::from_secs(3_600) };
        let engine = guests::engine();
        let (fresh, reused) = (policy(&engine, None), policy(&engine, Some(reuse)));
        Guest {
            name: name.to_owned(),
            fresh: measure_fresh(&fresh, &question, calls).unwrap(),
            reused: measure_reused(&reused, &question, calls).unwrap(),
            steps: measure_steps(&fresh, &question, calls).unwrap(),
            fuel: measure_fresh(&policy(&counting, None), &question, 10).unwrap().fuel.unwrap_or(0),
        }
    }

    fn tell(&self) {
        let Guest { name, fresh, reused, fuel, .. } = self;
        let memory = fresh.memory_bytes / 1024;
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.1} | {fuel} | {memory} |",
            us(fresh.p50),
            us(fresh.p99),
            us(reused.p50),
            us(reused.p99)
        );
    }
}

fn tell_goals(nothing: &Guest, record: &Guest, calls: u32) {
    let more = |with: Duration, without: Duration| us(with) - us(without);
    println!("\n| goal | at most | measured |\n|---|---:|---:|");
    println!("| next to nothing, fresh, µs | 10 | {:.1} |", us(nothing.fresh.p50));
    println!("| a full record more, fresh, µs | 8 | {:.1} |", more(record.fresh.p50, nothing.fresh.p50));
    println!("| a full record more, reused, µs | 2 | {:.1} |", more(record.reused.p50, nothing.reused.p50));
    let floor = floor::allocations(&full()) - floor::allocations(&guests::request());
    println!(
        "| the floor of that: {floor} bare calls of an allocator, µs | | {:.1} |",
        us(floor::measure(floor, calls))
    );
}

/// The steps by the clock; of the question's step, what the record costs any guest is what it costs the guest of text, which
/// does nothing with it.
fn tell_steps(all: &[Guest]) {
    let (call, record) = (all[0].steps.ask, all[1].steps.ask);
    println!("\n| fresh, µs | instance | configure | call | record | its own code | end |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (number, guest) in all.iter().enumerate() {
        let Steps { instance, configure, ask, end } = guest.steps;
        let given = if number == 0 { Duration::ZERO } else { record.saturating_sub(call) };
        let own = ask.saturating_sub(call).saturating_sub(given);
        let [instance, configure, call, given, own, end] = [instance, configure, call, given, own, end].map(us);
        println!("| {} | {instance:.1} | {configure:.1} | {call:.1} | {given:.1} | {own:.1} | {end:.1} |", guest.name);
    }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
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
    let facts = Facts { usage: Some(Usage { used_bytes: 1 << 30, quota_bytes: None }), ..Facts::default() };
    Question { facts: Arc::new(facts), ..guests::question(Ask::ManifestPush { target, manifest }) }
}

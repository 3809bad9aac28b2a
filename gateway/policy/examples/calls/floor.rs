//! What neither host nor guest can save of a record's price: each text and each list in it is given room by a call of the guest's
//! allocator. So many calls, of one that does next to nothing, and nothing else.

use portcullis_policy::question::{Ask, Context, Descriptor, Manifest, Question, Request, Target};
use std::time::{Duration, Instant};
use wasmtime::{Config, Engine, Instance, Module, Store};

const ALLOCATOR: &str = r#"(module
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 0))
    (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const 0xfff8)))
        (global.set $next (i32.add (local.get $at) (local.get $new)))
        (local.get $at)))"#;

/// The median time of so many bare calls, one after another.
pub(crate) fn measure(allocations: usize, rounds: u32) -> Duration {
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(false);
    let engine = Engine::new(&config).unwrap();
    let module = Module::new(&engine, wat::parse_str(ALLOCATOR).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(1);
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let realloc = instance.get_typed_func::<(u32, u32, u32, u32), u32>(&mut store, "cabi_realloc").unwrap();
    let mut round = || {
        let before = Instant::now();
        for _ in 0..allocations {
            realloc.call(&mut store, (0, 0, 1, 32)).unwrap();
        }
        before.elapsed()
    };
    let mut times: Vec<Duration> = (0..rounds).map(|_| round()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// The texts and lists in a question's records.
pub(crate) fn allocations(question: &Question) -> usize {
    let hook = match &question.ask {
        Ask::Request(Request { target, headers, .. }) => 1 + target.as_ref().map_or(0, of_target) + pairs(headers),
        Ask::ManifestPush { target, manifest } => of_target(target) + of_manifest(manifest),
        other => panic!("nobody is asked this here: {other:?}"),
    };
    of_context(&question.context) + hook
}

fn of_context(context: &Context) -> usize {
    6 + usize::from(context.subject.project.is_some()) + usize::from(context.subject.issuer.is_some())
}

fn of_target(target: &Target) -> usize {
    1 + list(&target.tags, |_| 1) + usize::from(target.digest.is_some())
}

fn of_manifest(manifest: &Manifest) -> usize {
    let alone = manifest.config.iter().chain(&manifest.subject).map(of_descriptor).sum::<usize>();
    let lists = list(&manifest.layers, of_descriptor) + list(&manifest.children, of_descriptor);
    2 + usize::from(manifest.artifact_type.is_some()) + alone + lists + pairs(&manifest.annotations)
}

fn of_descriptor(one: &Descriptor) -> usize {
    let platform = one.platform.as_ref().map_or(0, |platform| 2 + usize::from(platform.cpu_variant.is_some()));
    2 + usize::from(one.artifact_type.is_some()) + platform + list(&one.urls, |_| 1) + pairs(&one.annotations)
}

fn pairs(pairs: &[(String, String)]) -> usize {
    list(pairs, |_| 2)
}

fn list<T>(items: &[T], of_one: impl Fn(&T) -> usize) -> usize {
    1 + items.iter().map(of_one).sum::<usize>()
}

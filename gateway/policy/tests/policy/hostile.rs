//! Each hostile guest with its exact outcome. The process lives, and no slot is lost.

use crate::guests::{engine, hostile, policy, program, request, text, token, wrap};
use portcullis_policy::verdict::Reply;
use portcullis_policy::{CallLimits, Class, FailureKind, Limits, LoadError, Policy, Program, precompile};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How a question ends that a guest is asked after its smoke call.
fn failure(name: &str) -> FailureKind {
    let policy = policy(name);
    let before = Instant::now();
    let ran = policy.run_fresh(&request());
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    let again = policy.run_fresh(&request());
    let failure = ran.result.unwrap_err();
    assert_eq!(again.result.unwrap_err().kind, failure.kind, "it ends the same way each time");
    assert!(failure.message.len() <= 512 && !failure.message.contains('\n'), "{}", failure.message);
    assert!(!failure.message.is_empty() && !failure.message.contains("backtrace"), "{}", failure.message);
    failure.kind
}

fn load(bytes: &[u8]) -> LoadError {
    Program::load(&engine(), bytes).map(|_| ()).unwrap_err()
}

#[test]
fn an_endless_loop_is_stopped_when_its_cpu_time_is_used_up() {
    assert_eq!(failure("endless-loop"), FailureKind::Timeout);
    let spent = policy("endless-loop").run_fresh(&request()).spent;
    assert!(spent.cpu > Duration::from_millis(5) && spent.cpu < Duration::from_millis(60), "{spent:?}");
}

#[test]
fn an_endless_loop_is_stopped_as_well_when_no_guest_has_run_for_long() {
    let policy = policy("endless-loop");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(policy.run_fresh(&request()).result.unwrap_err().kind, FailureKind::Timeout);
}

#[test]
fn a_guest_that_was_only_preempted_goes_on_until_the_hard_stop() {
    let policy = std::sync::Arc::new(policy("endless-loop"));
    // More spinning threads than cores: each gets its own CPU time, whatever the wall says.
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let policy = std::sync::Arc::clone(&policy);
            std::thread::spawn(move || policy.run_fresh(&request()).spent)
        })
        .collect();
    for thread in threads {
        let spent = thread.join().unwrap();
        assert!(spent.cpu > Duration::from_millis(4) || spent.wall > Duration::from_millis(105), "{spent:?}");
    }
}

#[test]
fn an_endless_configure_is_no_policy() {
    let told =
        Policy::new(program(&hostile("endless-configure")), "{}", None, None).map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("`configure` failed: timeout"), "{told}");
}

#[test]
fn settings_that_make_configure_slow_are_refused_unless_instances_are_reused() {
    let program = program(&hostile("slow-configure"));
    assert!(Policy::new(program.clone(), "10", None, None).is_ok());
    let limits = CallLimits { configure_cpu: Duration::from_secs(20), ..CallLimits::default() };
    let refused = Policy::new(program.clone(), "30000000", Some(limits.clone()), None).map(|_| ());
    assert!(matches!(refused, Err(LoadError::SlowConfigure { limit_ms: 5, .. })), "{refused:?}");
    let reuse = portcullis_policy::Reuse { calls: 10, life: Duration::from_secs(60) };
    let policy = Policy::new(program, "30000000", Some(limits), Some(reuse)).unwrap();
    let now = Instant::now();
    assert!(policy.run(&request(), now).result.is_ok());
    let again = policy.run(&request(), now);
    assert!(again.reused && again.result.is_ok(), "{again:?}");
}

#[test]
fn a_memory_bomb_is_stopped_at_its_limit() {
    assert_eq!(failure("memory-bomb"), FailureKind::Memory);
    let spent = policy("memory-bomb").run_fresh(&request()).spent;
    assert!(spent.memory_bytes <= 16 << 20, "{spent:?}");
}

#[test]
fn a_component_with_many_memories_fits_no_slot() {
    let instances: String = (0..40).map(|_| "(core instance (instantiate $m))").collect();
    let bytes = wat::parse_str(text("many-memories").replace("INSTANCES", &instances)).unwrap();
    assert!(matches!(load(&bytes), LoadError::Slots(_)));
    let module = wrap(";; hooks: request\n(memory $second 1)");
    assert!(matches!(load(&module), LoadError::Structure { limit: 1, .. }));
}

/// As components in JavaScript are: what joins their modules copies from one memory to another.
#[test]
fn a_component_may_join_modules_that_have_a_memory_each() {
    let bytes = wat::parse_str(text("joined")).unwrap();
    assert!(matches!(load(&bytes), LoadError::World(_)));
}

#[test]
fn a_memory_that_is_declared_too_large_fits_no_slot() {
    let bytes = wat::parse_str("(component (core module $m (memory 4000)) (core instance (instantiate $m)))").unwrap();
    assert!(matches!(load(&bytes), LoadError::Slots(_)));
}

#[test]
fn a_table_bomb_is_stopped_at_its_limit() {
    assert_eq!(failure("table-bomb"), FailureKind::Memory);
}

#[test]
fn a_deep_recursion_traps() {
    assert_eq!(failure("deep-recursion"), FailureKind::Trap);
}

#[test]
fn a_trap_is_a_failure_and_in_the_smoke_call_no_policy() {
    assert_eq!(failure("trap"), FailureKind::Trap);
    let refused = Policy::new(program(&hostile("trap-at-once")), "{}", None, None).map(|_| ());
    assert!(matches!(refused, Err(LoadError::Smoke(ref failure)) if failure.kind == FailureKind::Trap), "{refused:?}");
}

#[test]
fn a_flood_of_logs_and_metrics_is_cut_and_counted() {
    let limits = CallLimits { cpu: Duration::from_secs(5), ..CallLimits::default() };
    let policy = Policy::new(program(&hostile("flood")), "{}", Some(limits.clone()), None).unwrap();
    let ran = policy.run_fresh(&request());
    assert_eq!(ran.result, Ok(Reply::Abstain));
    assert_eq!((ran.log.len(), ran.log_dropped), (16, 984));
    assert_eq!(ran.log[0].message, "\u{fffd}[31mflood");
    assert_eq!(ran.counts, [("floods".to_owned(), 2_000)], "what was not declared is not counted");
    let limits = CallLimits { host_calls: 3_000, ..limits };
    assert!(Policy::new(program(&hostile("flood")), "{}", Some(limits.clone()), None).is_ok());
    let limits = CallLimits { host_calls: 2_999, ..limits };
    let refused = Policy::new(program(&hostile("flood")), "{}", Some(limits), None).map(|_| ());
    assert!(matches!(refused, Err(LoadError::Smoke(ref failure)) if failure.kind == FailureKind::Trap), "{refused:?}");
}

#[test]
fn what_is_too_long_or_malformed_is_no_answer() {
    for guest in ["huge-log", "huge-string", "endless-list", "bad-utf8", "bad-discriminant", "bad-pointer"] {
        assert_eq!(failure(guest), FailureKind::Output, "{guest}");
    }
}

#[test]
fn a_guest_whose_memory_cannot_be_written_is_no_policy() {
    let refused = Policy::new(program(&hostile("bad-realloc")), "{}", None, None).map(|_| ());
    assert!(matches!(refused, Err(LoadError::Settings(_))), "{refused:?}");
}

#[test]
fn a_fact_that_is_not_wanted_ends_the_call() {
    assert_eq!(failure("unwanted-fact"), FailureKind::Trap);
}

#[test]
fn a_component_of_another_world_is_no_policy() {
    let bytes = wat::parse_str(text("wrong-world")).unwrap();
    assert!(matches!(load(&bytes), LoadError::World(_)));
    assert!(matches!(load(&wat::parse_str("(module)").unwrap()), LoadError::World(_) | LoadError::Malformed(_)));
    assert!(matches!(load(b"#!/bin/sh"), LoadError::Malformed(_)));
    assert!(matches!(load(b""), LoadError::Malformed(_)));
}

#[test]
fn an_import_of_anything_else_is_refused_by_name() {
    let bytes = wat::parse_str(text("forbidden-import")).unwrap();
    let told = load(&bytes);
    assert!(matches!(&told, LoadError::Import(name) if name == "wasi:cli/environment@0.2.0"), "{told}");
}

#[test]
fn a_function_that_the_host_does_not_have_is_refused() {
    let component = r#"(component (import "portcullis:policy/host@0.1.0" (instance (export "read-file" (func)))))"#;
    assert!(matches!(load(&wat::parse_str(component).unwrap()), LoadError::World(_)));
}

#[test]
fn a_hook_that_is_not_described_is_never_asked() {
    let policy = policy("describes-another");
    assert!(!policy.program().is_asked_at(request().hook()));
    assert!(policy.program().is_asked_at(portcullis_policy::question::Hook::Response));
}

#[test]
fn scopes_wider_than_asked_are_returned_unchecked_by_the_guest_alone() {
    // That the chain refuses them is shown in `chain`.
    assert!(matches!(policy("wider-scopes").run_fresh(&token()).result, Ok(Reply::Narrow(_))));
}

#[test]
fn compile_bombs_are_refused_before_they_are_compiled() {
    let huge = format!("(component (core module (func {})))", "(drop (i32.const 1000000))".repeat(130_000));
    let types: String = (0..20_001).map(|_| "(type (func))").collect();
    let types = format!("(component (core module {types}))");
    let deep = format!("(component (core module (func {} {})))", "block ".repeat(1_001), "end ".repeat(1_001));
    let functions = format!("(component (core module {}))", "(func)".repeat(100_001));
    let nested = format!("{}{}", "(component ".repeat(12), ")".repeat(12));
    let locals =
        "(component (core module (func (local i32 i64) (local f32))))".replace("i32 i64", &"i32 ".repeat(20_000));
    for (bomb, what) in [
        (huge, "bytes in one function"),
        (types, "types"),
        (deep, "levels of nested blocks"),
        (functions, "functions"),
        (nested, "levels of nested components"),
        (locals, "locals in one function"),
    ] {
        let bytes = wat::parse_str(bomb).unwrap();
        let before = Instant::now();
        let told = precompile(&bytes, &Limits::default()).map(|_| ()).unwrap_err();
        assert!(matches!(&told, LoadError::Structure { what: told, .. } if told.ends_with(what)), "{told}");
        assert!(before.elapsed() < Duration::from_secs(5), "{what}: {:?}", before.elapsed());
    }
    let limits = Limits { component_bytes: 10, ..Limits::default() };
    assert!(matches!(precompile(&[0; 11], &limits), Err(LoadError::TooLarge { bytes: 11, limit: 10 })));
}

#[test]
fn a_schema_with_a_remote_reference_or_an_explosive_pattern_is_refused() {
    let explosive = {
        let mut parts = String::new();
        for level in 0..14 {
            let next = level + 1;
            write!(parts, r##""p{level}":{{"allOf":[{{"$ref":"#/$defs/p{next}"}},{{"$ref":"#/$defs/p{next}"}}]}},"##)
                .unwrap();
        }
        format!(r##"{{"$ref":"#/$defs/p0","$defs":{{{parts}"p14":true}}}}"##)
    };
    for schema in [
        r#"{"$ref":"https://schemas.test/policy.json"}"#,
        r#"{"$ref":"file:///etc/passwd"}"#,
        r#"{"pattern":"(a{1000}){1000}"}"#,
        r#"{"pattern":"(?=a)"}"#,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}"##,
        &explosive,
        "{",
    ] {
        let told = load(&wrap(&format!(";; hooks: request\n;; schema: {schema}\n")));
        assert!(matches!(told, LoadError::Schema(_)), "{schema}: {told}");
    }
}

#[test]
fn settings_are_checked_by_the_schema_before_the_guest_sees_them() {
    let schema =
        r#"{"type":"object","properties":{"max":{"type":"integer","minimum":1}},"additionalProperties":false}"#;
    let program = program(&wrap(&format!(";; hooks: request\n;; schema: {schema}\n")));
    assert!(program.check_settings(r#"{"max": 3}"#).is_ok());
    let told = program.check_settings(r#"{"max": 0, "odd": true}"#).unwrap_err().to_string();
    assert!(told.contains("/max: "), "{told}");
    assert!(program.check_settings("{").is_err());
    assert!(program.check_settings(&" ".repeat(70_000)).is_err());
}

#[test]
fn a_description_with_foreign_characters_or_too_many_metrics_is_refused() {
    let metrics: String = (0..17).map(|number| format!("m{number} ")).collect();
    assert!(matches!(load(&wrap(&format!(";; hooks: request\n;; metrics: {metrics}\n"))), LoadError::Describe(_)));
    assert!(matches!(load(&wrap(";; hooks: request\n;; metrics: a-b\n")), LoadError::Describe(_)));
    let shouts = "(func $describe (result i32) (i32.store8 (i32.const 1100) (i32.const 27)) (i32.const 1024))";
    assert!(matches!(load(&wrap(shouts)), LoadError::Describe(_)));
    let traps = "(func $describe (result i32) (unreachable))";
    assert!(matches!(load(&wrap(traps)), LoadError::Describe(_)));
}

#[test]
fn an_exhausted_pool_is_an_orderly_failure_and_no_slot_is_lost() {
    use portcullis_policy::{CallLimits, ClassLimits, Engine, Options};
    let mut limits = Limits::default();
    limits.classes.small = ClassLimits { slots: 2, ..ClassLimits::small() };
    let engine = Engine::new(limits, Options::default()).unwrap();
    let load = |name| std::sync::Arc::new(Program::load(&engine, &hostile(name)).unwrap());
    let patient =
        CallLimits { cpu: Duration::from_secs(3), hard_stop: Duration::from_secs(30), ..CallLimits::default() };
    let looping = Policy::new(load("endless-loop"), "{}", Some(patient), None).unwrap();
    let victim = Policy::new(load("trap"), "{}", None, None).unwrap();
    std::thread::scope(|scope| {
        let loops = [(); 2].map(|()| scope.spawn(|| looping.run_fresh(&request()).result.unwrap_err().kind));
        while engine.slots_in_use(Class::Small) < 2 {
            std::thread::yield_now();
        }
        assert_eq!(victim.run_fresh(&request()).result.unwrap_err().kind, FailureKind::Pool);
        assert_eq!(loops.map(|one| one.join().unwrap()), [FailureKind::Timeout; 2]);
    });
    for _ in 0..20 {
        assert_eq!(victim.run_fresh(&request()).result.unwrap_err().kind, FailureKind::Trap);
    }
    assert_eq!(engine.slots_in_use(Class::Small), 0);
}

#[test]
fn what_waits_for_reuse_leaves_most_slots_to_everybody_else() {
    use portcullis_policy::{ClassLimits, Engine, Options, Reuse};
    let mut limits = Limits::default();
    limits.classes.small = ClassLimits { slots: 8, ..ClassLimits::small() };
    let engine = Engine::new(limits, Options::default()).unwrap();
    let program = std::sync::Arc::new(Program::load(&engine, &wrap(";; hooks: request")).unwrap());
    let reuse = Reuse { calls: 10, life: Duration::from_secs(60) };
    let kept = [(); 5].map(|()| Policy::new(program.clone(), "{}", None, Some(reuse)).unwrap());
    for policy in &kept {
        assert!(policy.run(&request(), Instant::now()).result.is_ok());
    }
    assert_eq!(engine.slots_in_use(Class::Small), 2);
    kept.iter().for_each(Policy::drop_idle);
    assert_eq!(engine.slots_in_use(Class::Small), 0);
}

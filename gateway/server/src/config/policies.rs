//! `[policies]`: what guests may use, and what compiling them may.

use super::reader::Section;
use portcullis_policy::{CallLimits, ChainLimits, Class, ClassLimits, Limits, PerClass};
use std::ops::RangeInclusive;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// `[policies]`
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// What the host holds guests to.
    pub host: Limits,
    /// `cache_bytes`: compiled code on disk.
    pub cache_bytes: u64,
    /// `compile_memory_bytes`: of the process that compiles.
    pub compile_memory_bytes: u64,
    /// `compile_time_s`: for one component.
    pub compile_time: Duration,
}

// None of its numbers is a float.
impl Eq for Policies {}

/// The keys of one class of guests.
struct Keys {
    class: Class,
    slots: &'static str,
    memory: &'static str,
    cpu: &'static str,
}

const CLASSES: [Keys; 3] = [
    Keys { class: Class::Small, slots: "small_slots", memory: "small_memory_bytes", cpu: "small_cpu_ms" },
    Keys {
        class: Class::Javascript,
        slots: "javascript_slots",
        memory: "javascript_memory_bytes",
        cpu: "javascript_cpu_ms",
    },
    Keys { class: Class::Python, slots: "python_slots", memory: "python_memory_bytes", cpu: "python_cpu_ms" },
];

pub(super) fn read(mut section: Section<'_>) -> Option<Policies> {
    let host = Limits::default();
    let component_bytes = section.number(
        "component_bytes",
        in_bytes(host.component_bytes),
        64 * KIB..=256 * MIB,
        "it is held in memory while it is loaded",
    );
    let settings_bytes = section.number(
        "settings_bytes",
        in_bytes(host.settings.settings_bytes),
        KIB..=MIB,
        "they are read anew for each call",
    );
    let classes = CLASSES.map(|keys| class(&mut section, &keys, &host.classes));
    let shared = call(&mut section, &host.classes.small.call);
    let chain = chain(&mut section, &host.chain);
    let cache_bytes = section.number("cache_bytes", GIB, MIB..=64 * GIB, "it is disk space");
    let compile_memory_bytes =
        section.number("compile_memory_bytes", 2 * GIB, 256 * MIB..=64 * GIB, "a component may be made to need much");
    let compile_time = section.seconds("compile_time_s", 60, 1..=600, "other components wait for it");
    section.finish();
    let [small, javascript, python] = classes;
    let (shared, configure_cpu) = shared?;
    let python_configure = configure_cpu.max(host.classes.python.call.configure_cpu);
    let with = |class: ClassLimits, configure_cpu: Duration| ClassLimits {
        call: CallLimits {
            memory_bytes: class.call.memory_bytes,
            cpu: class.call.cpu,
            configure_cpu,
            ..shared.clone()
        },
        ..class
    };
    let classes = PerClass {
        small: with(small?, configure_cpu),
        javascript: with(javascript?, configure_cpu),
        python: with(python?, python_configure),
    };
    let settings = portcullis_policy::SettingsLimits { settings_bytes: settings_bytes?, ..host.settings };
    let host =
        Limits { component_bytes: component_bytes?, settings, classes, chain: chain?, structure: host.structure };
    Some(Policies { host, cache_bytes: cache_bytes?, compile_memory_bytes: compile_memory_bytes?, compile_time })
}

fn class(section: &mut Section<'_>, keys: &Keys, defaults: &PerClass<ClassLimits>) -> Option<ClassLimits> {
    let default = defaults.of(keys.class);
    let slots = section.number(keys.slots, default.slots.into(), 1..=4096, "address space is reserved for each");
    let memory = section.number(
        keys.memory,
        in_bytes(default.call.memory_bytes),
        MIB..=GIB,
        "each guest under way may use as much",
    );
    let cpu = milliseconds(section, keys.cpu, default.call.cpu, 1..=1000, "a request waits for it");
    let call = CallLimits { memory_bytes: memory?, cpu: cpu?, ..default.call.clone() };
    Some(ClassLimits { slots: slots?, call, ..default.clone() })
}

/// What is the same for all classes, and the CPU time of `configure`.
fn call(section: &mut Section<'_>, default: &CallLimits) -> Option<(CallLimits, Duration)> {
    let configure = milliseconds(section, "configure_cpu_ms", default.configure_cpu, 1..=10_000, "a load waits for it");
    let hard_stop = milliseconds(
        section,
        "hard_stop_ms",
        default.hard_stop,
        1..=10_000,
        "a guest that is only preempted holds a request for so long",
    );
    let output_bytes =
        section.number("output_bytes", in_bytes(default.output_bytes), KIB..=16 * MIB, "it is held in memory");
    let effects = section.number("effects", in_bytes(default.effects), 1..=1024, "each is told or written down");
    let text_bytes = section.number("text_bytes", in_bytes(default.text_bytes), 64..=64 * KIB, "it is shown to people");
    let log_lines = section.number("log_lines", in_bytes(default.log_lines), 0..=1024, "each is written to the log");
    let log_line_bytes =
        section.number("log_line_bytes", in_bytes(default.log_line_bytes), 16..=64 * KIB, "it is written to the log");
    let host_calls = section.number("host_calls", default.host_calls.into(), 1..=10_000_000, "each takes time");
    let call = CallLimits {
        hard_stop: hard_stop?,
        output_bytes: output_bytes?,
        effects: effects?,
        text_bytes: text_bytes?,
        log_lines: log_lines?,
        log_line_bytes: log_line_bytes?,
        host_calls: host_calls?,
        ..default.clone()
    };
    Some((call, configure?))
}

fn chain(section: &mut Section<'_>, default: &ChainLimits) -> Option<ChainLimits> {
    let attachments =
        section.number("attachments", in_bytes(default.attachments), 1..=1000, "each is asked, one after another");
    let project_calls = section.number(
        "project_calls",
        default.project_calls.into(),
        1..=4096,
        "it must be below the slots, so that no project takes all",
    );
    let project_cpu = section.number(
        "project_cpu_ms_per_s",
        default.project_cpu_ms_per_s.into(),
        1..=1000,
        "it is taken from the cores that serve requests",
    );
    let breaker_timeouts =
        section.number("breaker_timeouts", default.breaker_timeouts.into(), 1..=1000, "each costs its whole time");
    let breaker_rest_max = section.seconds(
        "breaker_rest_max_s",
        default.breaker_rest_max.as_secs(),
        1..=3600,
        "a mended guest waits so long",
    );
    let project_log_lines = section.number(
        "project_log_lines_per_s",
        default.project_log_lines_per_s.into(),
        0..=100_000,
        "each is written to the log",
    );
    let verdicts = section.number("verdicts", in_bytes(default.verdicts), 0..=1_000_000, "each is held in memory");
    let verdict_life =
        section.seconds("verdict_life_s", default.verdict_life.as_secs(), 1..=3600, "a verdict may be as old as that");
    Some(ChainLimits {
        attachments: attachments?,
        project_calls: project_calls?,
        project_cpu_ms_per_s: project_cpu?,
        project_log_lines_per_s: project_log_lines?,
        breaker_timeouts: breaker_timeouts?,
        breaker_rest_max,
        verdicts: verdicts?,
        verdict_life,
        ..default.clone()
    })
}

fn milliseconds(
    section: &mut Section<'_>,
    key: &'static str,
    default: Duration,
    range: RangeInclusive<u64>,
    why: &str,
) -> Option<Duration> {
    let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
    section.number(key, default, range, why).map(|value: u64| Duration::from_millis(value))
}

fn in_bytes(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

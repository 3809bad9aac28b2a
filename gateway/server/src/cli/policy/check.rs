//! `policy check`: whether a gateway would take a policy, point by point, under the default limits.

use super::directory::{Place, PolicyFile};
use super::inspect::{hooks, plain_list, wants};
use super::{guest, size, time};
use crate::cli::doctor::{Finding, answer};
use crate::cli::output::{Answer, Failure};
use portcullis_policy::question::Hook;
use portcullis_policy::{Limits, LoadError, Policy, Program, plain, smoke_question};
use serde_json::Value;
use std::sync::Arc;

/// What `check` is told.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    place: Place,
}

/// A call that uses more than this part of its time on an idle machine will run out of it on a busy one.
const TIGHT: u32 = 2;

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let place = &arguments.place;
    let policy_file = place.policy_file()?;
    let component = place.component()?;
    let settings = place.settings()?;
    let bytes = guest::read(&component)?;
    let limit = Limits::default().component_bytes;
    let found = format!("{}: {} of at most {}", component.display(), size(bytes.len()), size(limit));
    let mut findings = vec![Finding::ok("component", found)];
    if let Some(source) = place.younger_source() {
        let found = format!("{} is younger than the component", source.display());
        findings.push(Finding::warning("component", found, "`portcullis policy build` makes it anew"));
    }
    match guest::load(bytes) {
        Err(error) => findings.push(not_loaded(&error)),
        Ok(program) => {
            findings.extend(loaded(&program, policy_file.as_ref()));
            findings.extend(with_settings(&program, settings.as_ref()));
        }
    }
    Ok(answer(&findings))
}

/// What an author can do about a component that is not loaded.
fn not_loaded(error: &LoadError) -> Finding {
    let (about, advice) = match error {
        LoadError::TooLarge { .. } => ("component", "leave out what is not needed; in Rust, build with --release"),
        LoadError::Malformed(_) => {
            ("component", "give what `portcullis policy build` makes, or another tool for components")
        }
        LoadError::Structure { .. } => ("structure", "split up what is so large, or leave out a dependency"),
        LoadError::Compile(_) => ("structure", "make it smaller and simpler"),
        LoadError::Import(_) => (
            "imports",
            "leave out what needs a clock, files, randomness or a network; other tools stub these out (--stub-wasi)",
        ),
        LoadError::World(_) => ("world", "build it against the world `policy` of wit/policy.wit, as it stands there"),
        LoadError::Slots(_) => ("class", "it needs more memories, tables or instances than any class of slots has"),
        LoadError::Describe(_) => ("describe", "say the same each time, within the limits that wit/policy.wit names"),
        LoadError::Schema(_) => ("schema", "a schema has at most 64 KiB, and refers to nothing but its own parts"),
        LoadError::Settings(_) | LoadError::SlowConfigure { .. } | LoadError::Smoke(_) => ("settings", ""),
        LoadError::TooMany(_) | LoadError::NoSlot(_) | LoadError::Unavailable(_) | LoadError::Internal(_) => {
            ("gateway", "this is not the policy's fault")
        }
    };
    Finding::error(about, plain(&error.to_string(), 1024), advice)
}

fn loaded(program: &Program, policy_file: Option<&PolicyFile>) -> Vec<Finding> {
    let info = program.info();
    let imports = plain_list(&program.imports());
    let imports = if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") };
    let limits = program.call_limits();
    let class = format!(
        "{}: a call has {} of CPU time and {} of memory",
        program.class().name(),
        time(limits.cpu),
        size(limits.memory_bytes)
    );
    let list = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let describe = format!("{} {}", plain(&info.name, 64), plain(&info.version, 64));
    let mut findings = vec![
        Finding::ok("structure", "within the limits of what is compiled"),
        Finding::ok("world", "portcullis:policy/policy@0.1.0"),
        Finding::ok("imports", imports),
        Finding::ok("class", class),
        Finding::ok("describe", describe.trim_end()),
    ];
    if let Some(file) = policy_file.filter(|file| file.lang.shipped().is_none() && file.name != info.name) {
        let found =
            format!("it calls itself {}, and policy.yaml calls it {}", plain(&info.name, 64), plain(&file.name, 64));
        findings.push(Finding::warning(
            "describe",
            found,
            "give both the same name: it stands in logs and in refusals",
        ));
    }
    findings.push(match hooks(program) {
        none if none.is_empty() => {
            Finding::warning("hooks", "it names none, and is never asked", "name in `describe` where it is to be asked")
        }
        hooks => Finding::ok("hooks", hooks.join(", ")),
    });
    findings.push(Finding::ok("wants", list(wants(program))));
    findings.push(Finding::ok("metrics", list(plain_list(&info.metrics))));
    findings.push(if info.settings_schema.is_empty() {
        Finding::warning("schema", "it has none", "give one: it is how an administrator learns what can be set")
    } else {
        Finding::ok("schema", format!("{} of at most 64 KiB", size(info.settings_schema.len())))
    });
    findings
}

/// Settings, `configure`, and a first call of each hook.
fn with_settings(program: &Arc<Program>, settings: Option<&Value>) -> Vec<Finding> {
    let text = guest::text(settings);
    let which = if settings.is_some() { "the settings" } else { "no settings" };
    let policy = match Policy::new(Arc::clone(program), &text, None, None) {
        Ok(policy) => policy,
        Err(error) => return vec![not_made(&error, settings.is_some(), which)],
    };
    let limits = policy.limits();
    let mut findings = vec![Finding::ok("settings", format!("{which} are taken, by the schema and by the guest"))];
    let spent = policy.configure_spent().cpu;
    let found = format!("{} of CPU time, within each call's {}", time(spent), time(limits.cpu));
    findings.push(if spent.saturating_mul(TIGHT) > limits.cpu {
        Finding::warning("configure", found, "do less in it: it runs in each fresh call, and leaves little to the hook")
    } else {
        Finding::ok("configure", found)
    });
    findings
        .extend(Hook::ALL.into_iter().filter(|hook| program.is_asked_at(*hook)).map(|hook| first_call(&policy, hook)));
    findings
}

fn not_made(error: &LoadError, given: bool, which: &str) -> Finding {
    match error {
        LoadError::Settings(faults) => {
            let found = format!("{which} are refused: {}", plain(&faults.join("; "), 1024));
            let advice = if given {
                "correct settings.yaml, or what the policy says of it"
            } else {
                "write settings.yaml, or name another file with --settings FILE"
            };
            Finding::error("settings", found, advice)
        }
        LoadError::SlowConfigure { .. } => Finding::error(
            "configure",
            error.to_string(),
            "do less in `configure`: without reuse it runs in each call, and a gateway would not attach it",
        ),
        LoadError::Smoke(failure) => Finding::error(
            "first call",
            failure.to_string(),
            "an ordinary question must get an answer: a gateway asks one of each hook before it lets a policy in",
        ),
        error => not_loaded(error),
    }
}

fn first_call(policy: &Policy, hook: Hook) -> Finding {
    let ran = policy.run_fresh(&smoke_question(hook));
    let (spent, limits) = (ran.spent, policy.limits());
    let about = "first call";
    let advice = "it will run out on a busy machine: do less, or ask for less";
    let found = format!("{}: {}, {} of memory", hook.name(), time(spent.cpu), size(spent.memory_bytes));
    match ran.result {
        Err(failure) => Finding::error(about, format!("{}: {failure}", hook.name()), advice),
        Ok(_) if spent.cpu.saturating_mul(TIGHT) > limits.cpu => {
            Finding::warning(about, format!("{found}; a call has {}", time(limits.cpu)), advice)
        }
        Ok(_) if spent.memory_bytes.saturating_mul(2) > limits.memory_bytes => {
            Finding::warning(about, format!("{found}; a call has {}", size(limits.memory_bytes)), advice)
        }
        Ok(_) => Finding::ok(about, found),
    }
}

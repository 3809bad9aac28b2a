//! `policy bench`: how long a decision takes, in a fresh instance and in a kept one, and what it uses.

use super::cases::{self, Case, Verdict};
use super::directory::Place;
use super::guest::{self, Refused};
use super::{size, time, width};
use crate::cli::output::{Answer, Failure};
use crate::cli::table::{self, Column};
use portcullis_policy::question::{Hook, Question};
use portcullis_policy::{
    CallLimits, LoadError, Measured, Policy, Program, Reuse, measure_fresh, measure_reused, plain, smoke_question,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What `bench` is told.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Ask this case alone [default: of each hook its first case, or an ordinary question]
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// How many calls are measured, of each kind
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: u32,
}

const COLUMNS: [Column; 8] = [
    Column::Whole("HOOK"),
    Column::Wraps("CASE"),
    Column::Whole("FRESH p50"),
    Column::Whole("p99"),
    Column::Whole("REUSED p50"),
    Column::Whole("p99"),
    Column::Whole("MEMORY"),
    Column::Whole("FUEL"),
];

/// For as long as it is measured.
const REUSE: Reuse = Reuse { calls: u32::MAX, life: Duration::from_secs(24 * 3600) };
/// Counting fuel makes guests slower, and is no reason to stop one.
const FUEL_FACTOR: u32 = 8;
/// Calls whose fuel is counted; it hardly differs.
const FUEL_CALLS: u32 = 3;

/// A question to be asked many times.
struct Subject {
    hook: Hook,
    name: String,
    settings: Option<Value>,
    question: Question,
}

/// What was measured of it.
struct Row {
    hook: Hook,
    name: String,
    fresh: Measured,
    reused: Measured,
    fuel: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let place = &arguments.place;
    let usual = place.settings()?;
    let directory = place.within("cases");
    let cases = if directory.is_dir() { cases::read(&[directory])? } else { Vec::new() };
    let (bytes, program) = guest::load_from(place)?;
    let hooks = place.hooks(&program, usual.as_ref())?;
    let subjects = subjects(arguments, &hooks, cases, usual.as_ref())?;
    let counting = guest::load_for_fuel(bytes).map_err(refused)?;
    let rows: Vec<Row> = subjects
        .into_iter()
        .map(|subject| measure(subject, &program, &counting, arguments.calls))
        .collect::<Result<_, _>>()?;
    Ok(answer(&rows, &program))
}

/// The case that was named; or, of each hook, the first case that its settings let come so far, else
/// the smoke call's question.
fn subjects(
    arguments: &Arguments,
    hooks: &[Hook],
    cases: Vec<Case>,
    usual: Option<&Value>,
) -> Result<Vec<Subject>, Failure> {
    let subject = |case: Case| Subject {
        hook: case.question.hook(),
        name: case.name,
        settings: case.settings.or_else(|| usual.cloned()),
        question: case.question,
    };
    if let Some(name) = &arguments.case {
        let found = cases.into_iter().find(|case| case.name == *name);
        let found = found.ok_or_else(|| Failure::Refused(format!("there is no case {name:?} in cases/")))?;
        return Ok(vec![subject(found)]);
    }
    let mut subjects: Vec<Subject> = Vec::new();
    for case in cases.into_iter().filter(|case| case.expect.verdict != Verdict::InvalidSettings) {
        let hook = case.question.hook();
        if hooks.contains(&hook) && !subjects.iter().any(|subject| subject.hook == hook) {
            subjects.push(subject(case));
        }
    }
    for hook in hooks.iter().copied() {
        if !subjects.iter().any(|subject| subject.hook == hook) {
            let name = "(an ordinary question)".to_owned();
            subjects.push(Subject { hook, name, settings: usual.cloned(), question: smoke_question(hook) });
        }
    }
    subjects.sort_by_key(|subject| subject.hook);
    if subjects.is_empty() {
        return Err(Failure::Refused("it names no hook: a gateway never asks it".to_owned()));
    }
    Ok(subjects)
}

fn measure(subject: Subject, program: &Arc<Program>, counting: &Arc<Program>, calls: u32) -> Result<Row, Failure> {
    let Subject { hook, name, settings, question } = subject;
    let settings = settings.as_ref();
    let failed = |why: String| Failure::Refused(format!("at {}, {}: {why}", hook.name(), plain(&name, 256)));
    let call_failed = |failure: portcullis_policy::Failure| failed(format!("a call failed, {failure}"));
    let made = |policy: Result<Policy, Refused>| policy.map_err(|why| failed(LoadError::from(why).to_string()));
    let fresh = measure_fresh(&made(guest::policy(program, settings))?, &question, calls).map_err(call_failed)?;
    let keeping = made(guest::policy_with(program, settings, None, Some(REUSE)))?;
    let reused = measure_reused(&keeping, &question, calls).map_err(call_failed)?;
    let limits = program.call_limits();
    let patient = CallLimits { cpu: limits.cpu.saturating_mul(FUEL_FACTOR), ..limits.clone() };
    let fuel = guest::policy_with(counting, settings, Some(patient), None).ok();
    let fuel = fuel.and_then(|policy| measure_fresh(&policy, &question, FUEL_CALLS).ok()).and_then(|found| found.fuel);
    Ok(Row { hook, name, fresh, reused, fuel })
}

fn answer(rows: &[Row], program: &Program) -> Answer {
    let cells = |row: &Row| {
        vec![
            row.hook.name().to_owned(),
            plain(&row.name, 128),
            time(row.fresh.p50),
            time(row.fresh.p99),
            time(row.reused.p50),
            time(row.reused.p99),
            size(row.fresh.memory_bytes),
            row.fuel.map_or_else(|| "-".to_owned(), |fuel| fuel.to_string()),
        ]
    };
    let table = table::render(&COLUMNS, &rows.iter().map(cells).collect::<Vec<_>>(), width());
    let limits = program.call_limits();
    let text = format!(
        "{table}\na call may take {} of CPU time and {} of memory (class {})\n",
        time(limits.cpu),
        size(limits.memory_bytes),
        program.class().name()
    );
    let times = |measured: &Measured| json!({ "p50_us": us(measured.p50), "p99_us": us(measured.p99) });
    let json: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "hook": row.hook.name(),
                "case": plain(&row.name, 256),
                "calls": row.fresh.calls,
                "fresh": times(&row.fresh),
                "reused": times(&row.reused),
                "memory_bytes": row.fresh.memory_bytes,
                "fuel": row.fuel,
            })
        })
        .collect();
    let limits = json!({ "cpu_us": us(limits.cpu), "memory_bytes": limits.memory_bytes });
    Answer::new(text, json!({ "class": program.class().name(), "limits": limits, "measured": json }))
}

fn refused(error: LoadError) -> Failure {
    Failure::Refused(error.to_string())
}

fn us(time: Duration) -> f64 {
    // Nanoseconds and no less.
    (time.as_secs_f64() * 1e9).round() / 1e3
}

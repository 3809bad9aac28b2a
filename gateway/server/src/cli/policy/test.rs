//! `policy test`: runs cases on the real component, each as a fresh call, and says what no case reaches.

mod coverage;

use super::cases::{self, Case, Difference, Found, Said, Verdict};
use super::directory::Place;
use super::guest::{self, Refused};
use crate::cli::output::{Answer, Failure};
use coverage::Coverage;
use portcullis_policy::{Failure as CallFailure, FailureKind, LoadError, LogLine, Policy, Program, plain};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What `test` is told.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Files of cases, or directories of them [default: the directory's cases]
    pub(super) cases: Vec<PathBuf>,
}

/// A case that was run.
struct Done<'a> {
    case: &'a Case,
    differences: Vec<Difference>,
    log: Vec<LogLine>,
}

/// Policies by their settings: cases that share settings share the loading.
struct Policies<'a> {
    program: &'a Arc<Program>,
    usual: Option<&'a Value>,
    made: HashMap<String, Result<Policy, Refused>>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let place = &arguments.place;
    let usual_cases = [place.within("cases")];
    let places = if arguments.cases.is_empty() { &usual_cases[..] } else { &arguments.cases };
    let cases = cases::read(places)?;
    if cases.is_empty() {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        return Err(Failure::Refused(format!("there is no case in {}", places.join(", "))));
    }
    let settings = place.settings()?;
    let (_, program) = guest::load_from(place)?;
    let mut policies = Policies { program: &program, usual: settings.as_ref(), made: HashMap::new() };
    let mut coverage = Coverage::at(place.hooks(&program, settings.as_ref())?);
    let mut all = Vec::new();
    for case in &cases {
        let (found, differences) = policies.run(case);
        if let Ok(said) = &found.said {
            coverage.reached(case.question.hook(), said.verdict);
        }
        all.push(Done { case, differences, log: found.log });
    }
    Ok(answer(&all, &coverage))
}

impl Policies<'_> {
    fn run(&mut self, case: &Case) -> (Found, Vec<Difference>) {
        let settings = case.settings.as_ref().or(self.usual);
        let made = self.made.entry(guest::text(settings)).or_insert_with(|| guest::policy(self.program, settings));
        let said = match made {
            Ok(policy) if case.expect.verdict != Verdict::InvalidSettings => return cases::run(policy, case),
            // They are taken, which is not what is expected, whatever would be said then.
            Ok(policy) => cases::ask(policy, &case.question).said,
            Err(Refused::Settings(faults)) => Ok(Said::invalid_settings(faults)),
            Err(Refused::Failed(failure)) => {
                let message = format!("over its settings: {}", failure.message);
                Err(CallFailure { kind: failure.kind, message })
            }
            Err(Refused::Load(LoadError::Smoke(failure))) => {
                let message = format!("it fails the first call that a gateway makes: {}", failure.message);
                Err(CallFailure { kind: failure.kind, message })
            }
            Err(Refused::Load(error)) => {
                Err(CallFailure { kind: FailureKind::Missing, message: plain(&error.to_string(), 512) })
            }
        };
        let differences = case.expect.compare(&said);
        (Found { said, log: Vec::new() }, differences)
    }
}

fn answer(all: &[Done<'_>], coverage: &Coverage) -> Answer {
    let failed = all.iter().filter(|done| !done.differences.is_empty()).count();
    let passed = all.len().saturating_sub(failed);
    let mut text: String = all.iter().filter(|done| !done.differences.is_empty()).map(tell).collect();
    text.push_str(&format!("{passed} passed, {failed} failed\n{}\n", coverage.line()));
    let cases: Vec<Value> = all.iter().map(as_json).collect();
    let json = json!({
        "ok": failed == 0,
        "passed": passed,
        "failed": failed,
        "cases": cases,
        "coverage": coverage.json(),
    });
    Answer { text, json, failed: failed > 0 }
}

/// A case that differs: its name, and under it what was expected and found, a line each.
fn tell(done: &Done<'_>) -> String {
    let mut text = format!("failed  {}: {}\n", done.case.file.display(), plain(&done.case.name, 256));
    for Difference { what, expected, found } in &done.differences {
        text.push_str(&format!("    {what}\n    - expected  {expected}\n    + found     {found}\n"));
    }
    for line in &done.log {
        let level = format!("{:?}", line.level).to_lowercase();
        text.push_str(&format!("    log, {level}: {}\n", line.message));
    }
    text
}

fn as_json(done: &Done<'_>) -> Value {
    json!({
        "file": done.case.file.display().to_string(),
        "name": done.case.name,
        "hook": done.case.question.hook().name(),
        "ok": done.differences.is_empty(),
        "differences": done.differences,
        "log": done.log,
    })
}

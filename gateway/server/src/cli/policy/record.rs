//! `record`: real questions about a project, with what one policy said of each, as cases that `policy test` runs.

use crate::cli::management;
use crate::cli::output::{Answer, Failure, note};
use crate::cli::session::Session;
use crate::duration;
use crate::policies::Recorded;
use clap::Args;
use http_body_util::BodyExt;
use portcullis_policy::question::Question;
use portcullis_policy::verdict::Reply;
use portcullis_tenancy::project;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The project
    project: String,
    /// The policy whose answers are expected of the cases
    policy: String,
    /// The file to write, YAML
    #[arg(long, short, value_name = "FILE", default_value = "cases/recorded.yaml")]
    output: PathBuf,
    /// Most questions
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Longest wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    wait: Duration,
}

pub(super) async fn run(wanted: &Arguments, session: &Session) -> Result<Answer, Failure> {
    let failed = |error: anyhow::Error| Failure::Refused(format!("{error:#}"));
    let project = project::find(&session.store, &wanted.project).await?;
    let listen = &session.config.management.listen;
    let path = format!("/policies/questions?project={}", project.name);
    let mut body = management::open(listen, &path).await.map_err(failed)?.ok_or_else(|| {
        Failure::Refused(format!("no gateway answers at {listen}; questions are recorded where they are asked"))
    })?;
    note(&format!("waiting up to {} s for questions about {}", wanted.wait.as_secs(), project.name));
    let until = Instant::now().checked_add(wanted.wait).unwrap_or_else(Instant::now);
    let most = usize::try_from(wanted.count).unwrap_or(usize::MAX);
    let (mut cases, mut rest) = (Vec::new(), Vec::new());
    while cases.len() < most {
        // Whatever ends it, what has come is kept.
        let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await else { break };
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let recorded: Recorded = serde_json::from_slice(&line).map_err(|error| failed(error.into()))?;
            cases.extend(case(recorded, &wanted.policy, cases.len()));
        }
    }
    cases.truncate(most);
    if cases.is_empty() {
        return Err(Failure::Refused(format!(
            "policy {} of {} was asked nothing in {} s; push or pull something, or wait longer with --wait",
            wanted.policy,
            project.name,
            wanted.wait.as_secs()
        )));
    }
    write(wanted, &cases)?;
    let (count, file) = (cases.len(), wanted.output.display().to_string());
    let text = format!(
        "{count} cases are in {file}: addresses cut to their network, without claims and request ids.\nNext: portcullis policy test, or portcullis policy replay {file} --component FILE\n"
    );
    Ok(Answer::new(text, json!({ "cases": count, "file": file })))
}

/// A case of what was recorded, where the policy was asked and gave an answer.
fn case(recorded: Recorded, policy: &str, number: usize) -> Option<Value> {
    let said = recorded.said.into_iter().find(|said| said.policy == policy)?.reply?;
    let Question { ask, .. } = &recorded.question;
    let kind = serde_json::to_value(ask).ok()?;
    let hook = kind.as_object()?.keys().next()?.clone();
    let name = format!("recorded {}: {hook}", number.saturating_add(1));
    Some(json!({ "name": name, "hook": hook, "question": recorded.question, "expect": expected(&said) }))
}

fn expected(said: &Reply) -> Value {
    match said {
        Reply::Abstain => json!({ "verdict": "abstain" }),
        Reply::Allow(effects) => json!({ "verdict": "allow", "warnings": effects.warnings }),
        Reply::Narrow(narrowing) => {
            json!({ "verdict": "narrow", "scopes": narrowing.scopes, "ttl-s": narrowing.ttl_s })
        }
        Reply::Deny(denial) => json!({ "verdict": "deny", "message": denial.message }),
    }
}

fn write(wanted: &Arguments, cases: &[Value]) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Refused(format!("{}: {error}", wanted.output.display()));
    let text = yaml_serde::to_string(&json!({ "cases": cases })).map_err(|error| failed(&error))?;
    if let Some(directory) = wanted.output.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    }
    std::fs::write(&wanted.output, text).map_err(|error| failed(&error))
}

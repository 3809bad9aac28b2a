//! `record`: real questions about a project, with what one policy said of each, as cases that `policy test` runs.

use super::{cases, replay};
use crate::cli::management;
use crate::cli::output::{Answer, Failure, note};
use crate::cli::session::Session;
use crate::duration;
use crate::policies::Recorded;
use clap::Args;
use http_body_util::BodyExt;
use portcullis_tenancy::policy::Attachment;
use portcullis_tenancy::{Project, Store, project};
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
    #[arg(long, short, value_name = "FILE", default_value = replay::USUAL)]
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
    let settings = settings(&project, wanted, session).await?;
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
    write(wanted, &settings, &cases)?;
    let (count, file) = (cases.len(), wanted.output.display().to_string());
    let text = format!(
        "{count} cases are in {file}: addresses cut to their network, without claims and request ids.\nNext: portcullis policy test, or portcullis policy replay {file} --component FILE\n"
    );
    Ok(Answer::new(text, json!({ "cases": count, "file": file })))
}

/// The settings under which the answers are given.
async fn settings(project: &Project, wanted: &Arguments, session: &Session) -> Result<Value, Failure> {
    let all = session.store.attachments().await?;
    let its = |attachment: &&Attachment| attachment.project.as_ref().is_none_or(|owner| *owner == project.id);
    let named = all.iter().filter(its).find(|attachment| attachment.name.as_str() == wanted.policy);
    let named = named.ok_or_else(|| {
        Failure::Refused(format!(
            "no policy {} is attached to {} or to the platform; `portcullis policy status` lists what is",
            wanted.policy, project.name
        ))
    })?;
    Ok(serde_json::from_str(&named.settings).unwrap_or_default())
}

/// A case of what was recorded, where the policy was asked and gave an answer.
fn case(recorded: Recorded, policy: &str, number: usize) -> Option<Value> {
    let said = recorded.said.into_iter().find(|said| said.policy == policy)?.reply?;
    let name = format!("recorded {}: {}", number.saturating_add(1), recorded.question.hook().name());
    Some(cases::recorded(&name, &recorded.question, &said.into()))
}

fn write(wanted: &Arguments, settings: &Value, cases: &[Value]) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Refused(format!("{}: {error}", wanted.output.display()));
    let text =
        yaml_serde::to_string(&json!({ "settings": settings, "cases": cases })).map_err(|error| failed(&error))?;
    if let Some(directory) = wanted.output.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    }
    std::fs::write(&wanted.output, text).map_err(|error| failed(&error))
}

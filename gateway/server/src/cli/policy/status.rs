//! `status`: what is attached, from the store; what the running gateway makes of it, from its management.

use super::attach;
use crate::cli::management;
use crate::cli::output::{Answer, Failure};
use crate::cli::session::Session;
use crate::cli::table::{self, Column};
use clap::Args;
use portcullis_tenancy::policy::Attachment;
use portcullis_tenancy::{Project, Store};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// One project's alone
    project: Option<String>,
}

const COLUMNS: [Column; 10] = [
    Column::Whole("PROJECT"),
    Column::Whole("POLICY"),
    Column::Whole("MODE"),
    Column::Whole("DIGEST"),
    Column::Whole("PASS"),
    Column::Whole("DENY"),
    Column::Whole("WOULD"),
    Column::Whole("FAIL"),
    Column::Whole("P99"),
    Column::Wraps("STATE"),
];

pub(super) async fn run(wanted: &Arguments, session: &Session) -> Result<Answer, Failure> {
    let projects = session.store.projects().await?;
    if let Some(name) = &wanted.project {
        portcullis_tenancy::project::find(&session.store, name).await?;
    }
    let listen = &session.config.management.listen;
    let answer = management::get(listen, "/policies").await.map_err(|e| Failure::Refused(format!("{e:#}")))?;
    let running: Option<Value> = answer
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .map_err(|error| Failure::Refused(format!("the gateway's answer makes no sense: {error}")))?;
    let mut shown = Vec::new();
    for attachment in session.store.attachments().await? {
        let owner = projects.iter().find(|project| Some(&project.id) == attachment.project.as_ref());
        let of_it = wanted.project.as_ref().is_none_or(|name| owner.is_some_and(|owner| owner.name.as_str() == name));
        if of_it {
            shown.push(one(&attachment, owner, running.as_ref()));
        }
    }
    let generation = running.as_ref().and_then(|running| running.get("generation")).cloned();
    let json = json!({
        "running": running.is_some(),
        "generation": generation,
        "questions_turned_away": running.as_ref().and_then(|running| running.get("questions_turned_away")),
        "policies": shown,
    });
    Ok(Answer::new(text(&shown, generation.as_ref(), session), json))
}

/// What is attached, with what runs of it beside.
fn one(attachment: &Attachment, owner: Option<&Project>, running: Option<&Value>) -> Value {
    let mut value = attach::show(attachment, owner);
    let all = running.and_then(|running| running.get("policies")?.as_array());
    let name = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let is_it =
        |one: &&Value| name(one, "project") == name(&value, "project") && name(one, "name") == name(&value, "name");
    let found = all.and_then(|all| all.iter().find(is_it)).cloned();
    if let Some(object) = value.as_object_mut() {
        object.insert("running".to_owned(), found.unwrap_or_default());
    }
    value
}

fn text(shown: &[Value], generation: Option<&Value>, session: &Session) -> String {
    if shown.is_empty() {
        return "No policy is attached. Next: portcullis policy attach PROJECT REF|FILE --mode monitor\n".to_owned();
    }
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    let mut text = table::render(&COLUMNS, &rows, session.width);
    for failing in shown.iter().filter(|one| !told(one, &["running", "last_failure"]).is_empty()) {
        let failure = told(failing, &["running", "last_failure"]);
        text.push_str(&format!("last failure of {}: {failure}\n", told(failing, &["name"])));
    }
    text.push_str(&match generation {
        Some(generation) => format!("generation {generation} of the gateway at {}\n", session.config.management.listen),
        None => format!(
            "No gateway answers at {}: this is what is attached, and nothing is counted.\n",
            session.config.management.listen
        ),
    });
    text
}

fn row(one: &Value) -> Vec<String> {
    let digest = told(one, &["digest"]);
    let project = told(one, &["project"]);
    let failures = one.pointer("/running/failures").and_then(Value::as_object);
    let failed: u64 = failures.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let count = |verdict: &str| told(one, &["running", "verdicts", verdict]);
    let runs = one.get("running").is_some_and(Value::is_object);
    let state = match (runs, told(one, &["running", "problem"])) {
        (false, _) => "not running".to_owned(),
        (true, problem) if problem.is_empty() => "runs".to_owned(),
        (true, problem) if told(one, &["running", "running"]).is_empty() => format!("not loaded: {problem}"),
        (true, problem) => format!("last good one runs: {problem}"),
    };
    let p99 = one.pointer("/running/p99_us").and_then(Value::as_u64).filter(|us| *us > 0);
    vec![
        if project.is_empty() { "(platform)".to_owned() } else { project },
        told(one, &["name"]),
        told(one, &["mode"]),
        digest.chars().take(19).collect(),
        count("pass"),
        count("deny"),
        count("would_deny"),
        if runs { failed.to_string() } else { String::new() },
        p99.map(|us| format!("{us} us")).unwrap_or_default(),
        state,
    ]
}

/// A field as text; empty where it is null or not there.
fn told(value: &Value, path: &[&str]) -> String {
    match path.iter().try_fold(value, |value, key| value.get(*key)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

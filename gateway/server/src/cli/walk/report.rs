//! What walks came to, for people and for machines.

use crate::cli::output::Answer;
use crate::cli::table::{self, Column};
use crate::walk::{Fact, Finding, Kind, Report, Sources, Subject, Task};
use portcullis_oci::Digest;
use portcullis_tenancy::Project;
use portcullis_tenancy::quota::Size;
use serde_json::{Map, Value, json};

const IMPORTED: [Column; 7] = [
    Column::Wraps("PROJECT"),
    Column::Whole("REPOSITORIES"),
    Column::Whole("MANIFESTS"),
    Column::Whole("BLOBS"),
    Column::Whole("TAGS"),
    Column::Whole("ADDED"),
    Column::Whole("USED"),
];

const FOUND: [Column; 6] = [
    Column::Wraps("REPOSITORY"),
    Column::Wraps("WHAT"),
    Column::Whole("IS"),
    Column::Wraps("ON RECORD"),
    Column::Wraps("UPSTREAM"),
    Column::Whole("MENDED"),
];

/// Letters of a digest that a table shows.
const SHORT: usize = 19;

type Walked = (Project, Report);

pub(super) fn answer(task: Task, walked: &[Walked], sources: &Sources, width: Option<usize>) -> Answer {
    let mut text = match (walked.is_empty(), task) {
        (true, _) => "There is no project yet. Next: portcullis project create NAME\n".to_owned(),
        (false, Task::Import) => imported(walked, width),
        (false, Task::Reconcile { repair }) => compared(walked, repair, width),
    };
    for (project, report) in walked {
        notes(&mut text, project, report, task);
    }
    if !sources.has_catalog() && !sources.has_names() {
        text.push_str(
            "The upstream has no catalog: only repositories on record were looked at. Name the others with --repositories FILE.\n",
        );
    }
    let projects: Vec<Value> = walked.iter().map(|(project, report)| json(project, report, task)).collect();
    let mut all = json!({ "catalog": sources.has_catalog(), "projects": projects });
    let findings = || walked.iter().flat_map(|(_, report)| &report.findings);
    if let (Task::Reconcile { .. }, Some(object)) = (task, all.as_object_mut()) {
        let of = |kind| findings().filter(|finding| finding.kind == kind).count();
        let drift: Map<String, Value> =
            Kind::ALL.into_iter().map(|kind| (kind.name().to_owned(), of(kind).into())).collect();
        object.insert("drift".to_owned(), drift.into());
        object.insert("mended".to_owned(), findings().filter(|finding| finding.is_mended).count().into());
    }
    Answer { failed: findings().any(|finding| !finding.is_mended), ..Answer::new(text, all) }
}

fn imported(walked: &[Walked], width: Option<usize>) -> String {
    let row = |(project, report): &Walked| {
        let recorded = report.recorded;
        vec![
            project.name.to_string(),
            report.repositories.to_string(),
            recorded.manifests.to_string(),
            recorded.blobs.to_string(),
            recorded.tags.to_string(),
            Size(recorded.bytes).to_string(),
            Size(report.account.committed).to_string(),
        ]
    };
    table::render(&IMPORTED, &walked.iter().map(row).collect::<Vec<_>>(), width)
}

fn compared(walked: &[Walked], repair: bool, width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = walked
        .iter()
        .flat_map(|(project, report)| report.findings.iter().map(move |finding| row(project, finding)))
        .collect();
    let mut text = String::new();
    if !rows.is_empty() {
        text.push_str(&table::render(&FOUND, &rows, width));
        text.push('\n');
    }
    for (project, report) in walked {
        let (all, mended) = (report.findings.len(), report.findings.iter().filter(|one| one.is_mended).count());
        let left = all.saturating_sub(mended);
        let came_to = match (all, left, repair) {
            (0, ..) => "no drift".to_owned(),
            (_, 0, _) => format!("{all} differences, all mended"),
            (_, _, true) => format!("{all} differences, {left} of them not mended: run it again in a moment"),
            (_, _, false) => format!("{all} differences; --repair makes the record say what the upstream has"),
        };
        text.push_str(&format!("{}, {} repositories: {came_to}\n", project.name, report.repositories));
    }
    text
}

fn row(project: &Project, finding: &Finding) -> Vec<String> {
    let fact = |fact: &Option<Fact>| match fact {
        None => "-".to_owned(),
        Some(Fact::Size(bytes)) => bytes.to_string(),
        Some(Fact::Digest(digest)) => short(digest),
    };
    let what = match &finding.subject {
        Subject::Manifest(digest) => format!("manifest {}", short(digest)),
        Subject::Blob { digest, .. } => format!("blob {}", short(digest)),
        other => other.to_string(),
    };
    let repository = finding.repository.as_ref().map_or_else(|| project.name.to_string(), ToString::to_string);
    let mended = if finding.is_mended { "yes" } else { "no" };
    vec![
        repository,
        what,
        finding.kind.name().to_owned(),
        fact(&finding.recorded),
        fact(&finding.upstream),
        mended.to_owned(),
    ]
}

fn short(digest: &Digest) -> String {
    digest.as_str().chars().take(SHORT).collect()
}

fn notes(text: &mut String, project: &Project, report: &Report, task: Task) {
    let name = &project.name;
    if let Some(after) = &report.resumed_after {
        text.push_str(&format!("{name}: this walk went on after {after}; what is before was walked earlier.\n"));
    }
    if report.under_way > 0 {
        text.push_str(&format!(
            "{name}: {} more differ while somebody is at work at them; they are left to him, and not counted.\n",
            report.under_way
        ));
    }
    for (repository, digest, why) in &report.unreadable {
        text.push_str(&format!("{repository}@{digest} cannot be recorded and is not charged: {why}\n"));
    }
    if let (Task::Import, true, Some(quota)) = (task, is_over(report), report.account.quota) {
        text.push_str(&format!(
            "{name} is over its quota, {} of {} used: pulls and deletions go on, pushes are refused until it holds less or may hold more.\n",
            Size(report.account.used()),
            Size(quota)
        ));
    }
}

fn is_over(report: &Report) -> bool {
    report.account.quota.is_some_and(|quota| report.account.used() > quota)
}

fn json(project: &Project, report: &Report, task: Task) -> Value {
    let unreadable = report.unreadable.iter().map(|(repository, digest, why)| {
        json!({ "repository": repository.as_str(), "digest": digest.as_str(), "message": why })
    });
    let mut json = json!({
        "project": project.name.as_str(),
        "repositories": report.repositories,
        "resumed_after": report.resumed_after,
        "committed_bytes": report.account.committed,
        "quota_bytes": report.account.quota,
        "under_way": report.under_way,
        "unreadable": unreadable.collect::<Vec<_>>(),
    });
    let Some(object) = json.as_object_mut() else { return json };
    let more = match task {
        Task::Import => json!({
            "manifests": report.recorded.manifests,
            "blobs": report.recorded.blobs,
            "tags": report.recorded.tags,
            "bytes": report.recorded.bytes,
            "over_quota": is_over(report),
        }),
        Task::Reconcile { .. } => json!({
            "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        }),
    };
    object.extend(more.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    json
}

fn finding(finding: &Finding) -> Value {
    let (what, name) = match &finding.subject {
        Subject::Manifest(digest) => ("manifest", Some(digest.to_string())),
        Subject::Blob { digest, .. } => ("blob", Some(digest.to_string())),
        Subject::Tag(tag) => ("tag", Some(tag.to_string())),
        Subject::Counter => ("counter", None),
    };
    let fact = |fact: &Option<Fact>| match fact {
        None => Value::Null,
        Some(Fact::Size(bytes)) => (*bytes).into(),
        Some(Fact::Digest(digest)) => digest.as_str().into(),
    };
    json!({
        "kind": finding.kind.name(),
        "repository": finding.repository.as_ref().map(|repository| repository.as_str()),
        "what": what,
        "name": name,
        "recorded": fact(&finding.recorded),
        "upstream": fact(&finding.upstream),
        "mended": finding.is_mended,
    })
}

//! `quota`: what projects may hold, what they hold, and what they ask for.

use super::output::{Answer, Failure};
use super::session::Session;
use super::table::{self, Column};
use super::{actor, show};
use crate::app::random;
use crate::config::Isolation;
use clap::{Args, Subcommand};
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::quota::{self, Account, Breakdown, Decision, QuotaRequest, Size};
use portcullis_tenancy::{Project, Store, project};
use serde_json::{Value, json};

/// Repositories and blobs that `show` names.
const SHOWN: u32 = 10;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what a project may hold, what it holds, and what counts most in it
    Show {
        /// The project
        project: String,
    },
    /// Set what a project may hold; it is in force at once
    Set(Set),
    /// Show, or set, a cap over all projects together
    Total {
        /// Such as 2TiB, or none
        #[arg(value_parser = limit)]
        size: Option<Limit>,
    },
    /// Ask the operator for another quota
    Request {
        /// The project
        project: String,
        /// The quota that is wanted, such as 50GiB
        #[arg(value_parser = size)]
        size: Size,
        /// Why: it is what the operator decides by
        #[arg(long)]
        reason: String,
    },
    /// List requests, the newest first
    Requests {
        /// The project [default: all]
        project: Option<String>,
        /// Only those that nobody has decided yet
        #[arg(long)]
        pending: bool,
    },
    /// Grant a request; the quota is in force at once
    Approve {
        /// Its id, from `quota requests`
        id: String,
        /// Grant another size than the one that was asked for
        #[arg(long, value_parser = size)]
        size: Option<Size>,
        /// For whoever asked
        #[arg(long)]
        reason: Option<String>,
    },
    /// Decline a request
    Decline {
        /// Its id, from `quota requests`
        id: String,
        /// For whoever asked
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// The project
    project: String,
    /// Such as 20GiB, or none
    #[arg(value_parser = limit)]
    size: Limit,
    /// Warn pushes from this part of it on, such as 80%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    soft: Option<u8>,
}

/// A size, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(Option<Size>);

fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).map_err(|error| error.to_string())
}

fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" { Ok(Limit(None)) } else { size(text).map(|size| Limit(Some(size))) }
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| format!("`{text}` is no percentage; write 1% to 100%"))
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    match command {
        Command::Show { project } => show(&project, session).await,
        Command::Set(wanted) => set(&wanted, session).await,
        Command::Total { size } => total(size, session).await,
        Command::Request { project, size, reason } => request(&project, size, &reason, session).await,
        Command::Requests { project, pending } => requests(project.as_deref(), pending, session).await,
        Command::Approve { id, size, reason } => approve(&id, size, reason, session).await,
        Command::Decline { id, reason } => decide(&id, None, Some(reason), session).await,
    }
}

async fn show(name: &str, session: &Session) -> Result<Answer, Failure> {
    let project = project::find(&session.store, name).await?;
    let account = session.store.account(&project.id).await?;
    let breakdown = session.store.breakdown(&project.id, SHOWN).await?;
    Ok(Answer::new(
        format!("{}{}", told(&project, &account, &breakdown, session), most(&breakdown, session.width)),
        shown(&project, &account, Some(&breakdown)),
    ))
}

fn told(project: &Project, account: &Account, breakdown: &Breakdown, session: &Session) -> String {
    let of = |bytes: Option<u64>| bytes.map_or_else(|| "none".to_owned(), |bytes| Size(bytes).to_string());
    let mut text = format!("project      {}\n", project.name);
    let state = match account.free() {
        Some(0) => ", full: pushes are refused, pulls and deletions go on".to_owned(),
        Some(_) if account.is_past_soft() => ", past the soft limit: pushes are warned".to_owned(),
        _ => String::new(),
    };
    text.push_str(&format!("used         {}{state}\n", Size(account.committed)));
    text.push_str(&format!("reserved     {}\n", Size(account.reserved)));
    text.push_str(&format!("reclaimable  {}\n", Size(breakdown.reclaimable)));
    // Elsewhere the upstream's own garbage collection takes it away, unseen.
    if session.config.upstream.isolation == Isolation::Repository {
        text.push_str(&format!("deleted      {}, still upstream\n", Size(account.waiting)));
    }
    text.push_str(&format!("limit        {}\n", of(account.quota)));
    let percent = account.soft_percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
    text.push_str(&format!("soft limit   {}{percent}\n", of(account.soft_bytes())));
    text
}

fn most(breakdown: &Breakdown, width: Option<usize>) -> String {
    let mut text = String::new();
    if !breakdown.repositories.is_empty() {
        let columns = [Column::Wraps("REPOSITORY"), Column::Whole("HOLDS")];
        let rows: Vec<Vec<String>> = breakdown
            .repositories
            .iter()
            .map(|(name, bytes)| vec![name.to_string(), Size(*bytes).to_string()])
            .collect();
        text.push_str(&format!("\n{}", table::render(&columns, &rows, width)));
    }
    if !breakdown.blobs.is_empty() {
        let columns = [Column::Whole("LARGEST BLOBS"), Column::Whole("SIZE")];
        let rows: Vec<Vec<String>> =
            breakdown.blobs.iter().map(|(digest, bytes)| vec![digest.to_string(), Size(*bytes).to_string()]).collect();
        text.push_str(&format!("\n{}", table::render(&columns, &rows, width)));
    }
    text
}

fn shown(project: &Project, account: &Account, breakdown: Option<&Breakdown>) -> Value {
    let mut value = json!({
        "project": project.name.as_str(),
        "used_bytes": account.committed,
        "reserved_bytes": account.reserved,
        "waiting_bytes": account.waiting,
        "limit_bytes": account.quota,
        "soft_percent": account.soft_percent,
        "soft_limit_bytes": account.soft_bytes(),
        "past_soft_limit": account.is_past_soft(),
    });
    if let (Some(breakdown), Some(object)) = (breakdown, value.as_object_mut()) {
        object.insert("reclaimable_bytes".to_owned(), breakdown.reclaimable.into());
        let repositories = breakdown.repositories.iter();
        object.insert(
            "repositories".to_owned(),
            repositories.map(|(name, bytes)| json!({ "repository": name.as_str(), "bytes": bytes })).collect(),
        );
        let blobs = breakdown.blobs.iter();
        object.insert(
            "largest_blobs".to_owned(),
            blobs.map(|(digest, bytes)| json!({ "digest": digest.as_str(), "bytes": bytes })).collect(),
        );
    }
    value
}

async fn set(wanted: &Set, session: &Session) -> Result<Answer, Failure> {
    let project = project::find(&session.store, &wanted.project).await?;
    let quota = wanted.size.0.map(|size| size.0);
    if quota.is_none() && wanted.soft.is_some() {
        return Err(Failure::Usage("a soft limit is a part of a limit: set one, or leave --soft out".to_owned()));
    }
    let before = session.store.account(&project.id).await?;
    let soft = if quota.is_some() { wanted.soft.or(before.soft_percent) } else { None };
    let told = wanted.size.0.map_or_else(|| "none".to_owned(), |size| size.to_string());
    let told = soft.map_or_else(|| told.clone(), |soft| format!("{told}, soft {soft} %"));
    let note = Session::note(Kind::QuotaSet).project(project.name.as_str()).reference(&told);
    session.audited(note).await?.set_quota(&project.id, quota, soft).await?;
    let account = Account { quota, soft_percent: soft, ..before };
    let text = match wanted.size.0 {
        Some(size) if account.free() == Some(0) => format!(
            "Project {} may hold {size}, and holds {} already: pulls and deletions go on, pushes are refused.\n",
            project.name,
            Size(account.used())
        ),
        Some(size) => format!("Project {} may hold {size}; it uses {}.\n", project.name, Size(account.used())),
        None => format!("Project {} may hold what it likes; it uses {}.\n", project.name, Size(account.used())),
    };
    Ok(Answer::new(text, shown(&project, &account, None)))
}

async fn total(size: Option<Limit>, session: &Session) -> Result<Answer, Failure> {
    if let Some(Limit(cap)) = size {
        let told = cap.map_or_else(|| "none".to_owned(), |size| size.to_string());
        let note = Session::note(Kind::QuotaTotal).reference(&told);
        session.audited(note).await?.set_total(cap.map(|size| size.0)).await?;
    }
    let total = session.store.total().await?;
    let used = Size(total.committed.saturating_add(total.reserved));
    let text = match total.cap {
        Some(cap) => format!("All projects together may hold {}; they use {used}.\n", Size(cap)),
        None => format!("There is no cap over all projects; they use {used}. Set one: portcullis quota total 2TiB\n"),
    };
    let json = json!({ "limit_bytes": total.cap, "used_bytes": total.committed, "reserved_bytes": total.reserved });
    Ok(Answer::new(text, json))
}

async fn request(name: &str, size: Size, reason: &str, session: &Session) -> Result<Answer, Failure> {
    let project = project::find(&session.store, name).await?;
    let note = Session::note(Kind::QuotaRequest).project(project.name.as_str()).reference(&size.to_string());
    let store = session.audited(note.because(reason)).await?;
    let request = quota::request(&*store, &project, size, reason, &actor(), session.now, &random).await?;
    let text = format!(
        "Request {id} asks for {size} for project {name}. The operator decides: portcullis quota approve {id}\n",
        id = request.id,
        name = project.name
    );
    Ok(Answer::new(text, asked(&request, project.name.as_str())))
}

const COLUMNS: [Column; 6] = [
    Column::Whole("ID"),
    Column::Whole("PROJECT"),
    Column::Whole("WANTS"),
    Column::Wraps("REASON"),
    Column::Wraps("ASKED"),
    Column::Wraps("DECIDED"),
];

async fn requests(name: Option<&str>, pending: bool, session: &Session) -> Result<Answer, Failure> {
    let projects = session.store.projects().await?;
    let only = match name {
        Some(name) => Some(project::find(&session.store, name).await?.id),
        None => None,
    };
    let mut requests = session.store.quota_requests(only.as_ref()).await?;
    requests.retain(|request| !pending || request.decision.is_none());
    let named = |request: &QuotaRequest| {
        let project = projects.iter().find(|project| project.id == request.project);
        project.map(|project| project.name.to_string()).unwrap_or_default()
    };
    let row = |request: &QuotaRequest| {
        let decided = request.decision.as_ref().map_or_else(|| "pending".to_owned(), decided);
        vec![
            request.id.to_string(),
            named(request),
            Size(request.bytes).to_string(),
            request.reason.clone(),
            format!("{} by {}", show::minute(request.requested_at), request.requested_by),
            decided,
        ]
    };
    let text = if requests.is_empty() {
        "There is no such request.\n".to_owned()
    } else {
        table::render(&COLUMNS, &requests.iter().map(row).collect::<Vec<_>>(), session.width)
    };
    Ok(Answer::new(text, requests.iter().map(|request| asked(request, &named(request))).collect()))
}

fn decided(decision: &Decision) -> String {
    let what = match decision.granted {
        Some(granted) => format!("{} granted", Size(granted)),
        None => "declined".to_owned(),
    };
    let why = decision.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{what} {} by {}{why}", show::minute(decision.at), decision.by)
}

fn asked(request: &QuotaRequest, project: &str) -> Value {
    json!({
        "id": request.id,
        "project": project,
        "wanted_bytes": request.bytes,
        "reason": request.reason,
        "requested_at": request.requested_at.to_string(),
        "requested_by": request.requested_by,
        "state": match &request.decision {
            None => "pending",
            Some(Decision { granted: Some(_), .. }) => "approved",
            Some(_) => "declined",
        },
        "granted_bytes": request.decision.as_ref().and_then(|decision| decision.granted),
        "decided_reason": request.decision.as_ref().and_then(|decision| decision.reason.as_deref()),
        "decided_at": request.decision.as_ref().map(|decision| decision.at.to_string()),
        "decided_by": request.decision.as_ref().map(|decision| decision.by.as_str()),
    })
}

async fn approve(id: &str, size: Option<Size>, reason: Option<String>, session: &Session) -> Result<Answer, Failure> {
    let granted = match size {
        Some(size) => size,
        None => {
            let requests = session.store.quota_requests(None).await?;
            let wanted = requests.iter().find(|request| *request.id == *id).map(|request| request.bytes);
            // One that is not there is refused below, in the same words.
            Size(wanted.unwrap_or_default())
        }
    };
    decide(id, Some(granted), reason, session).await
}

async fn decide(id: &str, granted: Option<Size>, reason: Option<String>, session: &Session) -> Result<Answer, Failure> {
    let decision = Decision { granted: granted.map(|size| size.0), reason, at: session.now, by: actor() };
    let projects = session.store.projects().await?;
    let asked_for = session.store.quota_requests(None).await?.into_iter().find(|request| *request.id == *id);
    let of = asked_for.and_then(|asked| projects.iter().find(|project| project.id == asked.project));
    let (kind, told) = match granted {
        Some(size) => (Kind::QuotaApprove, format!("{id} {size}")),
        None => (Kind::QuotaDecline, id.to_owned()),
    };
    let mut note = Session::note(kind).reference(&told);
    if let Some(project) = of {
        note = note.project(project.name.as_str());
    }
    if let Some(reason) = &decision.reason {
        note = note.because(reason);
    }
    let request = quota::decide(&*session.audited(note).await?, id, decision).await?;
    let name = projects.iter().find(|project| project.id == request.project).map(|project| project.name.to_string());
    let name = name.unwrap_or_default();
    let text = match granted {
        Some(size) => format!("Request {id} is approved: project {name} may hold {size}.\n"),
        None => format!("Request {id} is declined; project {name} keeps its quota.\n"),
    };
    Ok(Answer::new(text, asked(&request, &name)))
}

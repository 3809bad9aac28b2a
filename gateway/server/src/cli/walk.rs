//! `import` and `reconcile`: the same walk over what the upstream holds, to put it on record, or to compare it with the record.

mod progress;
mod report;

use super::output::{Answer, Failure};
use super::session::Session;
use crate::master_key;
use crate::throwaway::Throwaways;
use crate::upstream_admin::UpstreamAdmin;
use crate::walk::{Sources, Task, Walker, meant};
use clap::Args;
use portcullis_store::CachedStore;
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::key::Purpose;
use portcullis_tenancy::ledger::Walk;
use portcullis_tenancy::{Project, Store, project};
use progress::Progress;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Connections to the store: requests upstream take longer than what is asked of it in between.
const CONNECTIONS: u32 = 4;

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
pub(super) struct Reconcile {
    #[command(flatten)]
    what: What,
    /// Make the record say what the upstream has
    #[arg(long)]
    repair: bool,
}

#[derive(Debug, Args)]
struct What {
    /// The projects [default: all]
    #[arg(value_name = "PROJECT")]
    projects: Vec<String>,
    /// Further repositories, one name a line, as clients or as the upstream call them: for an upstream without a catalog
    #[arg(long, value_name = "FILE")]
    repositories: Option<PathBuf>,
}

pub(super) async fn import(wanted: Import, session: &Session, json: bool) -> Result<Answer, Failure> {
    run(&wanted.what, Task::Import, session, json).await
}

pub(super) async fn reconcile(wanted: Reconcile, session: &Session, json: bool) -> Result<Answer, Failure> {
    run(&wanted.what, Task::Reconcile { repair: wanted.repair }, session, json).await
}

async fn run(what: &What, task: Task, session: &Session, json: bool) -> Result<Answer, Failure> {
    let failed = |error: anyhow::Error| Failure::Refused(format!("{error:#}"));
    let mut living = session.store.projects().await?;
    living.retain(|project| project.deleted_at.is_none());
    let named = what.repositories.as_deref().map(|file| names(file, &living)).transpose()?.unwrap_or_default();
    let projects = chosen(&what.projects, living, session).await?;

    let config = &session.config;
    let store: Arc<dyn Store> = Arc::new(portcullis_store::open(&config.store.url, CONNECTIONS).await?);
    let master = master_key::open(&config.data_dir, &store.keys().await?).map_err(|error| failed(error.into()))?;
    let throwaways = Throwaways::new(master.mac_key(Purpose::Throwaways));
    let cached = CachedStore::new(Arc::clone(&store), Handle::current(), config.store.stale_max);
    let upstream = UpstreamAdmin::new(&config.upstream).map_err(failed)?;
    let walker = Walker::new(store, cached, upstream, &throwaways, config.upstream.isolation);
    let sources = Sources::read(walker.upstream(), named).await.map_err(|error| {
        Failure::Refused(format!(
            "{} could not be asked for its catalog ({error:#}); run `portcullis doctor`",
            config.upstream.url
        ))
    })?;
    let kind = match task {
        Task::Import => Some(Kind::Import),
        Task::Reconcile { repair } => repair.then_some(Kind::Repair),
    };
    if let Some(kind) = kind {
        for project in &projects {
            session.tell(Session::note(kind).project(project.name.as_str())).await?;
        }
    }
    let progress = Progress::new(json);
    let mut reports = Vec::new();
    for project in projects {
        match walker.project(&project, &sources, task, &progress).await {
            Ok(report) => reports.push((project, report)),
            Err(error) => {
                progress.end();
                return Err(cut_off(&project, task, &error, session).await);
            }
        }
    }
    progress.end();
    Ok(report::answer(task, &reports, &sources, session.width))
}

/// The projects that were named, each once, or all.
async fn chosen(names: &[String], living: Vec<Project>, session: &Session) -> Result<Vec<Project>, Failure> {
    if names.is_empty() {
        return Ok(living);
    }
    let mut chosen: Vec<Project> = Vec::new();
    for name in names {
        let project = project::find(&session.store, name).await?;
        if chosen.iter().all(|other| other.id != project.id) {
            chosen.push(project);
        }
    }
    Ok(chosen)
}

/// The names in a file. Each must be a repository of some project, or a slip of the pen would go unseen.
fn names(file: &Path, living: &[Project]) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))?;
    let lines = (1_usize..).zip(text.lines().map(str::trim));
    let mut names = Vec::new();
    for (line, name) in lines.filter(|(_, name)| !name.is_empty() && !name.starts_with('#')) {
        if !living.iter().any(|project| meant(project, name).next().is_some()) {
            return Err(Failure::Usage(format!(
                "{}:{line}: `{name}` is no repository of a project: write PROJECT/NAME, or its name upstream; `portcullis project list` shows both",
                file.display()
            )));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// What a walk that failed says: what is done is kept.
async fn cut_off(project: &Project, task: Task, error: &anyhow::Error, session: &Session) -> Failure {
    let walk = if task == Task::Import { Walk::Import } else { Walk::Reconcile };
    let goes_on = match session.store.walk_position(&project.id, walk).await {
        Ok(Some(after)) => format!("what was done until then stays, and the same command goes on after {after}"),
        _ => "run the same command again, or `portcullis doctor`".to_owned(),
    };
    Failure::Refused(format!("the walk over {} was cut off ({error:#}); {goes_on}", project.name))
}

//! `project`: tenants come and go.

use super::output::{Answer, Failure, line, note};
use super::session::Session;
use super::table::{self, Column};
use super::{grant, robot, show};
use crate::app::random;
use crate::upstream_admin::{Deleted, Held, UpstreamAdmin, count_held};
use clap::{Args, Subcommand};
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::project::{self, NewProject};
use portcullis_tenancy::quota::Size;
use portcullis_tenancy::{Project, ProjectName, Store, Timestamp};
use serde_json::Value;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::time::Duration;

/// Most repositories that `show` names.
const SHOWN_REPOSITORIES: u32 = 1000;

/// Most repositories whose size is told before a purge.
const SHOWN_LARGEST: u32 = 5;

const COLUMNS: [Column; 4] =
    [Column::Whole("PROJECT"), Column::Wraps("UPSTREAM PREFIX"), Column::Whole("PULL"), Column::Wraps("STATE")];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a project
    Create(Create),
    /// List all projects, deleted ones whose name is still reserved included
    List,
    /// Show a project with its robots, its repositories and what other projects' robots may do with them
    Show {
        /// Its name
        name: String,
    },
    /// Delete a project and its robots; its name and prefix stay reserved until it is purged
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name: the first path component of its repositories
    name: String,
    /// Let anybody pull
    #[arg(long)]
    public: bool,
    /// What stands upstream in the place of the name, such as tenants/acme
    #[arg(long, value_name = "PREFIX")]
    upstream_prefix: Option<String>,
    /// Take over what the upstream already holds under the prefix, without asking it
    #[arg(long)]
    adopt: bool,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Its name
    name: String,
    /// Delete its manifests and blobs upstream too, and free its name and prefix
    #[arg(long)]
    purge: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    match command {
        Command::Create(wanted) => create(wanted, session).await,
        Command::List => list(session).await,
        Command::Show { name } => show(&name, session).await,
        Command::Delete(wanted) => delete(&wanted, session).await,
    }
}

async fn create(wanted: Create, session: &Session) -> Result<Answer, Failure> {
    let name = ProjectName::parse(&wanted.name)?;
    // A name that is taken is refused for that, whatever the upstream holds.
    if !wanted.adopt && session.store.project(name.as_str()).await?.is_none() {
        let prefix = wanted.upstream_prefix.as_deref().unwrap_or(name.as_str());
        refuse_held_prefix(session, prefix).await?;
    }
    let new = NewProject { name, upstream_prefix: wanted.upstream_prefix, public: wanted.public };
    let mut note = Session::note(Kind::ProjectCreate).project(new.name.as_str());
    if new.public {
        note = note.because("public");
    }
    let project = project::create(&*session.audited(note).await?, new, session.now, &random).await?;
    let registry = session.config.server.public_url.registry();
    let text = format!(
        "Project {name} is there: its repositories are {registry}/{name}/… and lie upstream under {prefix}/.\nNext: portcullis robot create {name} NAME --role push\n",
        name = project.name,
        prefix = project.upstream_prefix,
    );
    Ok(Answer::new(text, show::project(&project)))
}

/// What lies under a prefix already would become the new project's.
async fn refuse_held_prefix(session: &Session, prefix: &str) -> Result<(), Failure> {
    let held = match UpstreamAdmin::new(&session.config.upstream) {
        Ok(upstream) => upstream.holds(prefix).await,
        Err(error) => Err(error),
    };
    let upstream = &session.config.upstream.url;
    let why = match held {
        Ok(Held::Nothing) => return Ok(()),
        Ok(Held::Something(repository)) => format!(
            "{upstream} lists {repository}, and what lies under {prefix}/ would become the project's; choose another --upstream-prefix, or take it over with --adopt (an upstream may go on listing what is empty)"
        ),
        Ok(Held::Unknown) => format!(
            "{upstream} has no catalog that can be read to its end, so nobody can tell whether it holds something under {prefix}/ that would become the project's; if it may, add --adopt"
        ),
        Err(error) => format!(
            "{upstream} could not be asked whether it holds something under {prefix}/ ({error:#}); run `portcullis doctor`, or skip the question with --adopt"
        ),
    };
    Err(Failure::Refused(why))
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let projects = session.store.projects().await?;
    let text = if projects.is_empty() {
        "There is no project yet. Next: portcullis project create NAME\n".to_owned()
    } else {
        let row = |project: &Project| {
            vec![
                project.name.to_string(),
                project.upstream_prefix.to_string(),
                pull(project).to_owned(),
                state(project),
            ]
        };
        table::render(&COLUMNS, &projects.iter().map(row).collect::<Vec<_>>(), session.width)
    };
    Ok(Answer::new(text, Value::Array(projects.iter().map(show::project).collect())))
}

fn pull(project: &Project) -> &'static str {
    if project.public { "anybody" } else { "robots" }
}

fn state(project: &Project) -> String {
    match project.deleted_at {
        Some(time) => format!("deleted {}, name reserved", show::minute(time)),
        None => format!("since {}", show::minute(project.created_at)),
    }
}

async fn show(name: &str, session: &Session) -> Result<Answer, Failure> {
    let project = match deleted(name, session).await? {
        Some(project) => project,
        None => project::find(&session.store, name).await?,
    };
    let robots = session.store.robots(&project.id).await?;
    let repositories = session.store.repositories(&project.id, None, SHOWN_REPOSITORIES).await?;
    let foreign = session.store.foreign_grants(Some(&project.id)).await?;

    let mut text = format!(
        "{}  {}\nupstream prefix  {}\npull             {}\n",
        project.name,
        state(&project),
        project.upstream_prefix,
        pull(&project)
    );
    if !robots.is_empty() {
        text.push('\n');
        text.push_str(&robot::table(&robots, session.now, session.width));
    }
    if !foreign.is_empty() {
        text.push_str("\nRobots of other projects:\n");
        text.push_str(&grant::table(&foreign, session.width));
    }
    if !repositories.is_empty() {
        text.push_str("\nRepositories:\n");
        for repository in &repositories {
            text.push_str(&format!("  {repository}\n"));
        }
        if repositories.len() == usize::try_from(SHOWN_REPOSITORIES).unwrap_or(usize::MAX) {
            text.push_str(&format!("  (the first {SHOWN_REPOSITORIES})\n"));
        }
    }

    let mut json = show::project(&project);
    if let Some(object) = json.as_object_mut() {
        object.insert("robots".to_owned(), robots.iter().map(|robot| show::robot(robot, session.now)).collect());
        object.insert("foreign_grants".to_owned(), foreign.iter().map(show::foreign_grant).collect());
        object.insert("repositories".to_owned(), repositories.iter().map(|name| name.as_str()).collect());
    }
    Ok(Answer::new(text, json))
}

async fn deleted(name: &str, session: &Session) -> Result<Option<Project>, Failure> {
    let name = ProjectName::parse(name)?;
    Ok(session.store.project(name.as_str()).await?.filter(|project| project.deleted_at.is_some()))
}

async fn delete(wanted: &Delete, session: &Session) -> Result<Answer, Failure> {
    let already = deleted(&wanted.name, session).await?;
    if already.is_some() && !wanted.purge {
        return Err(Failure::Refused(format!(
            "project {name} is deleted already, and its name reserved; free it with `portcullis project delete {name} --purge`",
            name = wanted.name
        )));
    }
    let living = match &already {
        None => Some(project::find(&session.store, &wanted.name).await?),
        Some(_) => None,
    };
    let held = match already.as_ref().or(living.as_ref()) {
        Some(project) if wanted.purge => held(project, session).await?,
        _ => String::new(),
    };
    confirm(wanted, &held)?;
    let project = match already {
        Some(project) => project,
        None => {
            let note = Session::note(Kind::ProjectDelete).project(&wanted.name);
            project::delete(&*session.audited(note).await?, &wanted.name, session.now).await?
        }
    };
    if !wanted.purge {
        let text = format!(
            "Project {name} is deleted, with its robots. Its manifests stay upstream, and its name and prefix reserved; `portcullis project delete {name} --purge` frees them.\n",
            name = project.name
        );
        return Ok(Answer::new(text, show::project(&project)));
    }
    purge(&project, session).await
}

/// What a purge will delete, and how much that is.
async fn held(project: &Project, session: &Session) -> Result<String, Failure> {
    let counted = count_held(&session.store, project).await;
    let (manifests, blobs) = counted.map_err(|error| Failure::Refused(format!("{error:#}")))?;
    let account = session.store.account(&project.id).await?;
    let largest = session.store.breakdown(&project.id, SHOWN_LARGEST).await?.repositories;
    let mut text = format!(
        "Project {} holds {manifests} manifests and {blobs} blobs, {}, that will be deleted upstream",
        project.name,
        Size(account.committed)
    );
    for (place, (repository, bytes)) in largest.iter().enumerate() {
        text.push_str(&format!("{}{repository} {}", if place == 0 { ": " } else { ", " }, Size(*bytes)));
    }
    if largest.len() == usize::try_from(SHOWN_LARGEST).unwrap_or(usize::MAX) {
        text.push_str(", …");
    }
    Ok(text)
}

async fn purge(project: &Project, session: &Session) -> Result<Answer, Failure> {
    wait_until_known(project, session).await?;
    let deleted = delete_all(project, session).await.map_err(|error| {
        Failure::Refused(format!(
            "project {name} is deleted, but not all that it holds upstream is ({error:#}); its name stays reserved; run `portcullis project delete {name} --purge` again",
            name = project.name
        ))
    })?;
    let note = Session::note(Kind::ProjectPurge).project(project.name.as_str());
    let purged = project::purge(&*session.audited(note).await?, project.name.as_str()).await?;
    let mut text = format!(
        "Project {name} is purged, and its name and prefix are free.\nDeleted upstream: {manifests} manifests, {blobs} blobs; its garbage collection frees their space.\n",
        name = purged.name,
        manifests = deleted.manifests,
        blobs = deleted.blobs,
    );
    if deleted.kept_blobs > 0 {
        text.push_str(&format!(
            "The upstream does not delete {} blobs by themselves: run its garbage collection before the prefix {} is given to another project.\n",
            deleted.kept_blobs, purged.upstream_prefix
        ));
    }
    let mut json = show::project(&purged);
    if let Some(object) = json.as_object_mut() {
        object.insert("purged".to_owned(), true.into());
        object.insert("deleted_manifests".to_owned(), deleted.manifests.into());
        object.insert("deleted_blobs".to_owned(), deleted.blobs.into());
        object.insert("kept_blobs".to_owned(), deleted.kept_blobs.into());
    }
    Ok(Answer::new(text, json))
}

/// A gateway that has not heard of the deletion could still take a push, and the purge would forget what it brought. After
/// `store.stale_max_s` every gateway has heard of it, or denies everything.
async fn wait_until_known(project: &Project, session: &Session) -> Result<(), Failure> {
    let Some(deleted_at) = project.deleted_at else { return Ok(()) };
    let known_at =
        deleted_at.checked_add(session.config.store.stale_max).map_err(|error| Failure::Refused(error.to_string()))?;
    // Never longer than that, whatever the clock of the node that deleted it says.
    let left = Duration::try_from(known_at.duration_since(Timestamp::now()))
        .unwrap_or_default()
        .min(session.config.store.stale_max);
    if !left.is_zero() {
        note(&format!(
            "waiting {} s until every gateway knows that {} is deleted",
            left.as_secs().saturating_add(1),
            project.name
        ));
        tokio::time::sleep(left).await;
    }
    Ok(())
}

async fn delete_all(project: &Project, session: &Session) -> anyhow::Result<Deleted> {
    let watched = stderr().is_terminal();
    let mut progress = |done: usize, all: usize| {
        if watched {
            let end = if done == all { "\n" } else { "" };
            let _ = write!(stderr().lock(), "\rdeleting upstream: {done} of {all}{end}");
        }
    };
    UpstreamAdmin::new(&session.config.upstream)?.delete_all(&session.store, project, &mut progress).await
}

/// Asks, after it has told what is held where that goes along.
fn confirm(wanted: &Delete, held: &str) -> Result<(), Failure> {
    if wanted.yes {
        if !held.is_empty() {
            note(&format!("{held}."));
        }
        return Ok(());
    }
    let name = &wanted.name;
    let what = if wanted.purge { "with its robots and all that it holds upstream" } else { "with its robots" };
    if !stdin().is_terminal() {
        let held = if held.is_empty() { String::new() } else { format!("{held}; ") };
        return Err(Failure::Usage(format!(
            "{held}this deletes project {name} {what}, and nobody can be asked; add --yes"
        )));
    }
    if !held.is_empty() {
        line(&format!("{held}."));
    }
    let mut answer = String::new();
    let _ = write!(stderr().lock(), "This deletes project {name} {what}. Type its name to go on: ");
    let read = stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == name {
        return Ok(());
    }
    Err(Failure::Refused(format!("project {name} is left as it is: another name was typed")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_json_of_a_project_is_stable() {
        let project = Project {
            id: portcullis_tenancy::ProjectId("id".into()),
            name: ProjectName::parse("acme").unwrap(),
            upstream_prefix: "tenants/acme".into(),
            public: true,
            limits: portcullis_tenancy::limit::Overrides::default(),
            created_at: "2027-01-15T08:00:00Z".parse().unwrap(),
            deleted_at: None,
        };
        assert_eq!(
            show::project(&project),
            json!({
                "name": "acme",
                "id": "id",
                "upstream_prefix": "tenants/acme",
                "public": true,
                "created_at": "2027-01-15T08:00:00Z",
                "deleted_at": null,
            })
        );
    }
}

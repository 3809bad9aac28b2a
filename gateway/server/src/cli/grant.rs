//! `grant`: a project's consent to what robots of other projects may do with its repositories.

use super::output::{Answer, Failure};
use super::session::Session;
use super::show;
use super::table::{self, Column};
use clap::Subcommand;
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::grant::{self, ForeignGrant};
use portcullis_tenancy::{Store, project};
use serde_json::Value;

const COLUMNS: [Column; 5] = [
    Column::Whole("ID"),
    Column::Whole("ROBOT"),
    Column::Wraps("PATTERN"),
    Column::Whole("ACTIONS"),
    Column::Whole("CONSENT"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List grants on one project's repositories, or on every project's, that robots of other projects have or ask for
    List {
        /// The project whose consent is asked
        project: Option<String>,
    },
    /// Agree to a grant
    Accept {
        /// Its id, from `grant list`
        id: String,
    },
    /// Refuse a grant, or take an earlier consent back
    Refuse {
        /// Its id, from `grant list`
        id: String,
    },
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    match command {
        Command::List { project } => list(session, project.as_deref()).await,
        Command::Accept { id } => decide(session, &id, true).await,
        Command::Refuse { id } => decide(session, &id, false).await,
    }
}

async fn list(session: &Session, project: Option<&str>) -> Result<Answer, Failure> {
    let project = match project {
        Some(name) => Some(project::find(&session.store, name).await?.id),
        None => None,
    };
    let grants = session.store.foreign_grants(project.as_ref()).await?;
    let text = if grants.is_empty() {
        "No robot of another project has or asks for a grant.\n".to_owned()
    } else {
        table(&grants, session.width)
    };
    Ok(Answer::new(text, Value::Array(grants.iter().map(show::foreign_grant).collect())))
}

pub(super) fn table(grants: &[ForeignGrant], width: Option<usize>) -> String {
    let row = |foreign: &ForeignGrant| {
        let grant = &foreign.grant;
        vec![
            grant.id.to_string(),
            foreign.robot.clone(),
            grant.pattern.as_str().to_owned(),
            grant.actions.to_string(),
            show::consent(grant.consent).to_owned(),
        ]
    };
    table::render(&COLUMNS, &grants.iter().map(row).collect::<Vec<_>>(), width)
}

async fn decide(session: &Session, id: &str, accept: bool) -> Result<Answer, Failure> {
    let asked = session.store.foreign_grants(None).await?.into_iter().find(|foreign| *foreign.grant.id == *id);
    let mut note = Session::note(if accept { Kind::GrantAccept } else { Kind::GrantRefuse });
    if let Some(ForeignGrant { grant, robot, project_name }) = asked {
        note = note.project(&project_name).reference(&format!("{robot} {}={}", grant.pattern.as_str(), grant.actions));
    }
    let decided = grant::decide(&*session.audited(note).await?, id, accept, session.now).await?;
    let may = if accept { "may now" } else { "may not" };
    let ForeignGrant { grant, robot, .. } = &decided;
    Ok(Answer::new(
        format!("{robot} {may} {} in {}.\n", grant.actions, grant.pattern.as_str()),
        show::foreign_grant(&decided),
    ))
}

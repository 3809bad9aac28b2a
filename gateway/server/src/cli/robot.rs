//! `robot`: machine accounts, and the secrets that are shown once.

use super::output::{Answer, Failure};
use super::session::Session;
use super::show;
use super::table::{self, Column};
use crate::app::random;
use crate::{duration, network};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use portcullis_oci::scope::{Actions, RepositoryPattern};
use portcullis_tenancy::audit::{Kind, Note};
use portcullis_tenancy::credential::Secret;
use portcullis_tenancy::grant::{Consent, Role};
use portcullis_tenancy::robot::{self, NewRobot, Rights};
use portcullis_tenancy::{Grant, Project, Robot, Store, Timestamp, project};
use serde_json::Value;
use std::time::Duration;

const COLUMNS: [Column; 6] = [
    Column::Whole("ROBOT"),
    Column::Wraps("MAY"),
    Column::Wraps("FROM"),
    Column::Whole("STATE"),
    Column::Wraps("EXPIRES"),
    Column::Wraps("LAST USED"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a robot, and show its secret this once
    Create(Create),
    /// List one project's robots, or every project's
    List {
        /// The project
        project: Option<String>,
    },
    /// Give a robot a new secret, and show it this once; the old one goes on for a while
    Rotate(Rotate),
    /// Stop a robot: its logins and its tokens, those already issued included
    Disable(Name),
    /// Let a disabled robot go on
    Enable(Name),
    /// Delete a robot with its secrets and grants
    Delete(Name),
}

#[derive(Debug, Args)]
pub(super) struct Name {
    /// Its project
    project: String,
    /// Its name within the project
    name: String,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("rights").required(true).args(["role", "grants"]))]
pub(super) struct Create {
    #[command(flatten)]
    robot: Name,
    /// What it may do in the whole project: pull; push (and pull); admin (and delete)
    #[arg(long, value_enum)]
    role: Option<RoleName>,
    /// What it may do where, such as 'acme/app-*=pull,push'; may be given several times, and name other projects
    #[arg(long = "grant", value_name = "PATTERN=ACTIONS", value_parser = parse_grant)]
    grants: Vec<(RepositoryPattern, Actions)>,
    /// When it ends, such as 90d, 12h or 30m from now
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// A network or address that it may come from; may be given several times
    #[arg(long = "from", value_name = "CIDR", value_parser = network::parse, value_delimiter = ',')]
    networks: Vec<IpNet>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    robot: Name,
    /// How long the old secret goes on, such as 24h; 0s ends it at once [default: tokens.rotation_grace_s]
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    grace: Option<Duration>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Form {
    /// Write the user name as Harbor does: robot$project+name
    #[arg(long)]
    harbor: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Pull,
    Push,
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Pull => Self::Pull,
            RoleName::Push => Self::Push,
            RoleName::Admin => Self::Admin,
        }
    }
}

fn parse_grant(text: &str) -> Result<(RepositoryPattern, Actions), String> {
    let (pattern, actions) =
        text.rsplit_once('=').ok_or("a grant is PATTERN=ACTIONS, such as 'acme/app-*=pull,push'")?;
    let pattern = RepositoryPattern::parse(pattern).map_err(|error| error.to_string())?;
    let actions = Actions::parse_strict(actions).filter(|actions| !actions.is_empty());
    Ok((pattern, actions.ok_or("actions are pull, push and delete, joined by commas, or * for all of them")?))
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    match command {
        Command::Create(wanted) => create(wanted, session).await,
        Command::List { project } => list(project.as_deref(), session).await,
        Command::Rotate(wanted) => rotate(&wanted, session).await,
        Command::Disable(name) => disable(&name, session).await,
        Command::Enable(name) => enable(&name, session).await,
        Command::Delete(name) => delete(&name, session).await,
    }
}

async fn create(wanted: Create, session: &Session) -> Result<Answer, Failure> {
    let project = project::find(&session.store, &wanted.robot.project).await?;
    let rights = wanted.role.map_or(Rights::Grants(wanted.grants), |role| Rights::Role(role.into()));
    let expires_at = match wanted.expires {
        Some(span) => Some(
            session
                .now
                .checked_add(span)
                .map_err(|_| Failure::Usage(format!("--expires {} lies too far ahead", duration::show(span))))?,
        ),
        None => None,
    };
    let new = NewRobot { name: wanted.robot.name, rights, expires_at, source_networks: wanted.networks };
    let rights_told: Vec<String> = match &new.rights {
        Rights::Role(role) => vec![format!("role {}", show::role(*role))],
        Rights::Grants(grants) => {
            grants.iter().map(|(pattern, actions)| format!("{}={actions}", pattern.as_str())).collect()
        }
    };
    let note = Session::note(Kind::RobotCreate).project(project.name.as_str());
    let note = note.reference(&format!("{}+{} {}", project.name, new.name, rights_told.join(" ")));
    let store = session.audited(note).await?;
    let (robot, secret) = robot::create(&*store, &project, new, session.now, &random).await?;
    let mut text = format!("Robot {} is there:\n", robot.username());
    for right in may(&robot) {
        text.push_str(&format!("  {right}\n"));
    }
    for grant in robot.grants.iter().filter(|grant| grant.consent == Consent::Pending) {
        text.push_str(&format!(
            "{} waits for the consent of {}: portcullis grant accept {}\n",
            grant.pattern.as_str(),
            grant.pattern.project(),
            grant.id
        ));
    }
    Ok(with_secret(text, &robot, &secret, &wanted.form, session))
}

async fn rotate(wanted: &Rotate, session: &Session) -> Result<Answer, Failure> {
    let robot = find(&wanted.robot, session).await?;
    let grace = wanted.grace.unwrap_or(session.config.tokens.rotation_grace);
    let store = session.audited(note(Kind::RobotRotate, &robot)).await?;
    let (robot, secret) = robot::rotate(&*store, &robot, grace, session.now, &random).await?;
    let until = robot.secrets.get(1).and_then(|old| old.expires_at);
    let text = format!(
        "Robot {} has a new secret. The old one is good until {}.\n",
        robot.username(),
        until.map_or_else(|| "now".to_owned(), show::second)
    );
    let mut answer = with_secret(text, &robot, &secret, &wanted.form, session);
    if let Some(object) = answer.json.as_object_mut() {
        object.insert("previous_until".to_owned(), until.map(|time| time.to_string()).into());
    }
    Ok(answer)
}

/// The lines to paste. The secret stands in single quotes beside `echo`, a shell's own command: no list of processes shows it.
fn with_secret(mut text: String, robot: &Robot, secret: &Secret, form: &Form, session: &Session) -> Answer {
    let username = if form.harbor { format!("robot${}", robot.username()) } else { robot.username() };
    let public_url = &session.config.server.public_url;
    let token = secret.expose();
    text.push_str(&format!(
        "\nIts secret is shown this once; keep it now:\n\n  {token}\n\nTo log in:\n\n  echo '{token}' | docker login {} --username '{username}' --password-stdin\n",
        public_url.registry()
    ));
    Answer::new(text, show::credentials(&username, token, public_url, robot.project_name.as_str()))
}

async fn list(project: Option<&str>, session: &Session) -> Result<Answer, Failure> {
    let projects: Vec<Project> = match project {
        Some(name) => vec![project::find(&session.store, name).await?],
        None => session.store.projects().await?.into_iter().filter(|project| project.deleted_at.is_none()).collect(),
    };
    let mut robots = Vec::new();
    for project in &projects {
        robots.extend(session.store.robots(&project.id).await?);
    }
    let text = if robots.is_empty() {
        "There is no robot yet. Next: portcullis robot create PROJECT NAME --role push\n".to_owned()
    } else {
        table(&robots, session.now, session.width)
    };
    Ok(Answer::new(text, Value::Array(robots.iter().map(|robot| show::robot(robot, session.now)).collect())))
}

pub(super) fn table(robots: &[Robot], now: Timestamp, width: Option<usize>) -> String {
    let row = |robot: &Robot| {
        let networks: Vec<String> = robot.source_networks.iter().map(ToString::to_string).collect();
        let used = robot.secrets.iter().filter_map(|secret| secret.last_used_at).max();
        vec![
            robot.username(),
            may(robot).join(" "),
            if networks.is_empty() { "anywhere".to_owned() } else { networks.join(" ") },
            show::state(robot, now).to_owned(),
            robot.expires_at.map_or_else(|| "never".to_owned(), show::minute),
            used.map_or_else(|| "never".to_owned(), show::minute),
        ]
    };
    table::render(&COLUMNS, &robots.iter().map(row).collect::<Vec<_>>(), width)
}

/// As `--grant` takes it, `acme/**=pull,push`; what another project has not agreed to is marked.
fn may(robot: &Robot) -> Vec<String> {
    let text = |grant: &Grant| match grant.consent {
        Consent::Accepted => format!("{}={}", grant.pattern.as_str(), grant.actions),
        consent => format!("{}={} ({})", grant.pattern.as_str(), grant.actions, show::consent(consent)),
    };
    robot.grants.iter().map(text).collect()
}

async fn disable(name: &Name, session: &Session) -> Result<Answer, Failure> {
    let robot = find(name, session).await?;
    let store = session.audited(note(Kind::RobotDisable, &robot)).await?;
    let robot = robot::disable(&*store, &robot, session.now).await?;
    let text = format!(
        "Robot {} is disabled: within 2 s no gateway takes its logins and tokens any more.\n",
        robot.username()
    );
    Ok(Answer::new(text, show::robot(&robot, session.now)))
}

async fn enable(name: &Name, session: &Session) -> Result<Answer, Failure> {
    let robot = find(name, session).await?;
    let store = session.audited(note(Kind::RobotEnable, &robot)).await?;
    let robot = robot::enable(&*store, &robot).await?;
    let text = format!("Robot {} is {}.\n", robot.username(), show::state(&robot, session.now));
    Ok(Answer::new(text, show::robot(&robot, session.now)))
}

async fn delete(name: &Name, session: &Session) -> Result<Answer, Failure> {
    let robot = find(name, session).await?;
    robot::delete(&*session.audited(note(Kind::RobotDelete, &robot)).await?, &robot).await?;
    let text =
        format!("Robot {} is deleted: within 2 s no gateway takes its logins and tokens any more.\n", robot.username());
    Ok(Answer::new(text, show::robot(&robot, session.now)))
}

fn note(kind: Kind, robot: &Robot) -> Note {
    Session::note(kind).project(robot.project_name.as_str()).reference(&robot.username())
}

async fn find(name: &Name, session: &Session) -> Result<Robot, Failure> {
    let project = project::find(&session.store, &name.project).await?;
    Ok(robot::find(&session.store, &project, &name.name).await?)
}

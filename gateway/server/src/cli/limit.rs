//! `limit`: what projects and robots may do other than the configuration says.

use super::output::{Answer, Failure};
use super::session::Session;
use super::table::{self, Column};
use clap::{Args, Subcommand};
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::limit::{Change, LimitOwner, Measure, Overrides, Rate, Setting};
use portcullis_tenancy::robot::split_username;
use portcullis_tenancy::{Project, Robot, Store, TenancyError, project, robot};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show which limits are in force
    Show {
        /// A project, or a robot as PROJECT+ROBOT [default: the configuration, and all that have limits of their own]
        owner: Option<String>,
    },
    /// Set limits of a project or a robot; within 2 s they are in force on every node
    Set(Set),
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// A project, or a robot as PROJECT+ROBOT
    owner: String,
    #[command(flatten)]
    limits: Wanted,
}

/// At least one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Wanted {
    /// Requests: such as 500/10s, off, or default for what the configuration says
    #[arg(long, value_name = "RATE", value_parser = times)]
    requests: Option<Setting<Rate>>,
    /// Pulls: manifests that are fetched, such as 1000/6h
    #[arg(long, value_name = "RATE", value_parser = times)]
    pulls: Option<Setting<Rate>>,
    /// Pushes: manifests that are pushed, such as 100/h
    #[arg(long, value_name = "RATE", value_parser = times)]
    pushes: Option<Setting<Rate>>,
    /// Bytes of bodies, both ways together, such as 100GiB/d
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    bytes: Option<Setting<Rate>>,
    /// Requests at once, on each node
    #[arg(long, value_name = "NUMBER", value_parser = at_once)]
    under_way: Option<Setting<u32>>,
    /// Uploads at once, on each node; of a project alone
    #[arg(long, value_name = "NUMBER", value_parser = at_once)]
    uploads: Option<Setting<u32>>,
}

fn times(text: &str) -> Result<Setting<Rate>, String> {
    rate(Measure::Times, text)
}

fn bytes(text: &str) -> Result<Setting<Rate>, String> {
    rate(Measure::Bytes, text)
}

fn rate(measure: Measure, text: &str) -> Result<Setting<Rate>, String> {
    Setting::parse(text, |text| Rate::parse(measure, text)).map_err(|error| error.to_string())
}

fn at_once(text: &str) -> Result<Setting<u32>, String> {
    let number = |text: &str| {
        let invalid =
            || TenancyError::Invalid(format!("`{text}` is no number; write a whole number above 0, off or default"));
        text.parse().ok().filter(|number| *number > 0).ok_or_else(invalid)
    };
    Setting::parse(text, number).map_err(|error| error.to_string())
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Answer, Failure> {
    match command {
        Command::Show { owner: Some(owner) } => {
            let owner = Owner::find(&owner, session).await?;
            Ok(answer(&owner, String::new(), session))
        }
        Command::Show { owner: None } => show_all(session).await,
        Command::Set(wanted) => set(&wanted, session).await,
    }
}

/// Whose limits are looked at.
enum Owner {
    Project(Project),
    Robot(Robot),
}

impl Owner {
    async fn find(name: &str, session: &Session) -> Result<Self, Failure> {
        match split_username(name) {
            Some((project, robot)) => {
                let project = project::find(&session.store, project).await?;
                Ok(Self::Robot(robot::find(&session.store, &project, robot).await?))
            }
            None => Ok(Self::Project(project::find(&session.store, name).await?)),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Project(project) => project.name.to_string(),
            Self::Robot(robot) => robot.username(),
        }
    }

    fn limits(&self) -> &Overrides {
        match self {
            Self::Project(project) => &project.limits,
            Self::Robot(robot) => &robot.limits,
        }
    }

    /// Its limits by name: what is set for it, and what is in force.
    fn in_force(&self, session: &Session) -> Vec<Row> {
        let (own, rates) = (self.limits(), &session.config.limits.rates);
        let row = |name, setting: Setting<Rate>, default: Option<Rate>| Row::new(name, setting, default);
        match self {
            Self::Project(_) => vec![
                row("requests", own.requests, rates.requests_per_project),
                row("pulls", own.pulls, rates.pulls_per_project),
                row("pushes", own.pushes, rates.pushes_per_project),
                row("bytes", own.bytes, rates.bytes_per_project),
                Row::new("under_way", own.under_way, session.config.under_way_per_project()),
                Row::new("uploads", own.uploads, rates.uploads_per_project),
            ],
            Self::Robot(_) => vec![
                row("requests", own.requests, rates.requests_per_robot),
                row("pulls", own.pulls, rates.pulls_per_robot),
                row("pushes", own.pushes, rates.pushes_per_robot),
                row("bytes", own.bytes, rates.bytes_per_robot),
                Row::new("under_way", own.under_way, rates.under_way_per_robot),
            ],
        }
    }
}

/// One limit as it is shown.
struct Row {
    name: &'static str,
    in_force: String,
    is_own: bool,
}

impl Row {
    fn new<T: Copy + PartialEq + std::fmt::Display>(
        name: &'static str,
        setting: Setting<T>,
        default: Option<T>,
    ) -> Self {
        let in_force = setting.over(default).map_or_else(|| "off".to_owned(), |limit| limit.to_string());
        Self { name, in_force, is_own: setting != Setting::Default }
    }

    fn from(&self) -> &'static str {
        if self.is_own { "limit set" } else { "configuration" }
    }
}

const COLUMNS: [Column; 3] = [Column::Whole("LIMIT"), Column::Whole("IN FORCE"), Column::Whole("FROM")];

fn answer(owner: &Owner, before: String, session: &Session) -> Answer {
    let rows = owner.in_force(session);
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| vec![row.name.to_owned(), row.in_force.clone(), row.from().to_owned()]).collect();
    Answer::new(format!("{before}{}", table::render(&COLUMNS, &cells, session.width)), shown(owner, &rows))
}

fn shown(owner: &Owner, rows: &[Row]) -> Value {
    let limits: serde_json::Map<String, Value> =
        rows.iter().map(|row| (row.name.to_owned(), json!({ "in_force": row.in_force, "from": row.from() }))).collect();
    json!({ "owner": owner.name(), "limits": limits })
}

async fn show_all(session: &Session) -> Result<Answer, Failure> {
    let mut owners = Vec::new();
    for project in session.store.projects().await?.into_iter().filter(|project| project.deleted_at.is_none()) {
        let robots = session.store.robots(&project.id).await?;
        owners.push(Owner::Project(project));
        owners.extend(robots.into_iter().map(Owner::Robot));
    }
    owners.retain(|owner| *owner.limits() != Overrides::default());
    let rates = &session.config.limits.rates;
    let off = |rate: Option<Rate>| rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string());
    let configured = [
        ("requests", "address", off(rates.requests_per_address)),
        ("requests", "robot", off(rates.requests_per_robot)),
        ("requests", "project", off(rates.requests_per_project)),
        ("pulls", "robot", off(rates.pulls_per_robot)),
        ("pulls", "project", off(rates.pulls_per_project)),
        ("pushes", "robot", off(rates.pushes_per_robot)),
        ("pushes", "project", off(rates.pushes_per_project)),
        ("bytes", "robot", off(rates.bytes_per_robot)),
        ("bytes", "project", off(rates.bytes_per_project)),
    ];
    let columns = [Column::Whole("CONFIGURATION"), Column::Whole("FOR EACH"), Column::Whole("LIMIT")];
    let cells: Vec<Vec<String>> = configured
        .iter()
        .map(|(what, whose, limit)| vec![(*what).to_owned(), (*whose).to_owned(), limit.clone()])
        .collect();
    let mut text = table::render(&columns, &cells, session.width);
    if !owners.is_empty() {
        let columns = [Column::Whole("PROJECT OR ROBOT"), Column::Wraps("LIMITS OF ITS OWN")];
        let cells: Vec<Vec<String>> =
            owners.iter().map(|owner| vec![owner.name(), owner.limits().to_string()]).collect();
        text.push_str(&format!("\n{}", table::render(&columns, &cells, session.width)));
    }
    let configuration: serde_json::Map<String, Value> = configured
        .iter()
        .map(|(what, whose, limit)| (format!("{what}_per_{whose}"), Value::from(limit.as_str())))
        .collect();
    let own: Vec<Value> = owners.iter().map(|owner| shown(owner, &owner.in_force(session))).collect();
    Ok(Answer::new(text, json!({ "configuration": configuration, "owners": own })))
}

/// A change, as it was asked for.
fn told(change: &Change) -> String {
    let rates =
        [("requests", change.requests), ("pulls", change.pulls), ("pushes", change.pushes), ("bytes", change.bytes)];
    let rates = rates.into_iter().filter_map(|(name, rate)| Some(format!("{name}={}", rate?)));
    let numbers = [("under_way", change.under_way), ("uploads", change.uploads)];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some(format!("{name}={}", number?)));
    rates.chain(numbers).collect::<Vec<_>>().join(" ")
}

async fn set(wanted: &Set, session: &Session) -> Result<Answer, Failure> {
    let mut owner = Owner::find(&wanted.owner, session).await?;
    let change = Change {
        requests: wanted.limits.requests,
        pulls: wanted.limits.pulls,
        pushes: wanted.limits.pushes,
        bytes: wanted.limits.bytes,
        under_way: wanted.limits.under_way,
        uploads: wanted.limits.uploads,
    };
    let noted = Session::note(Kind::LimitSet).reference(&owner.name()).because(&told(&change));
    match &mut owner {
        Owner::Robot(_) if change.uploads.is_some() => {
            let message = "uploads at once are limited for a project, not for a robot: name the project alone";
            return Err(Failure::Usage(message.to_owned()));
        }
        Owner::Robot(robot) => {
            let store = session.audited(noted.project(robot.project_name.as_str())).await?;
            robot.limits = store.change_limits(LimitOwner::Robot(&robot.id), &change).await?;
        }
        Owner::Project(project) => {
            let store = session.audited(noted.project(project.name.as_str())).await?;
            project.limits = store.change_limits(LimitOwner::Project(&project.id), &change).await?;
        }
    }
    let text = format!("Within 2 s these are the limits of {} on every node:\n", owner.name());
    Ok(answer(&owner, text, session))
}

//! Grants: (repository pattern, actions), and what of a request they cover.

use crate::{Project, ProjectId, Robot, Store, StoreError, TenancyError, Timestamp};
use portcullis_oci::Scope;
use portcullis_oci::scope::{Actions, RepositoryPattern, ScopeName};
use std::sync::Arc;

/// A robot's right to do something with the repositories that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its identity, named by `grant accept`.
    pub id: Box<str>,
    /// The project that the pattern's first component names.
    pub project: ProjectId,
    /// Which repositories.
    pub pattern: RepositoryPattern,
    /// What may be done.
    pub actions: Actions,
    /// Whether that project agrees.
    pub consent: Consent,
}

/// A project's consent to a grant; a robot's own project agrees by making the robot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Asked, not answered: the grant gives nothing yet.
    Pending,
    /// Given.
    Accepted,
    /// Refused, or taken back.
    Refused,
}

/// A fixed set of actions, named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// pull
    Pull,
    /// pull and push
    Push,
    /// pull, push and delete
    Admin,
}

impl Role {
    /// The role's actions.
    pub const fn actions(self) -> Actions {
        match self {
            Self::Pull => Actions::PULL,
            Self::Push => Actions::PULL.union(Actions::PUSH),
            Self::Admin => Actions::ALL,
        }
    }
}

/// The part of `asked` that is granted: `asked ∩ (the robot's accepted grants ∪ pull on public projects)`.
///
/// `projects` resolves a project's name to the living project; a name that it does not know gives nothing. A grant counts
/// only where its project id is that of the living project. A pattern is granted only where a grant's pattern covers it.
/// `registry:catalog:*` is granted to every robot (the list itself shows what its grants cover). Scopes left without
/// actions are left out; the order is kept.
pub fn narrow(asked: &[Scope], robot: Option<&Robot>, projects: &dyn Fn(&str) -> Option<Arc<Project>>) -> Vec<Scope> {
    let living = |name: &str| projects(name).filter(|project| project.deleted_at.is_none());
    asked
        .iter()
        .filter_map(|scope| match scope {
            Scope::Catalog => robot.map(|_| Scope::Catalog),
            Scope::Repository { name, actions } => {
                let project = living(project_of(name))?;
                let actions = actions.intersection(granted(name, robot, &project));
                (!actions.is_empty()).then(|| Scope::Repository { name: name.clone(), actions })
            }
        })
        .collect()
}

/// Whether whoever this is uses the project only because it is public: nobody that is known, or another project's robot to which
/// this one has granted nothing.
pub fn is_guest(robot: Option<&Robot>, project: &Project) -> bool {
    let is_granted = |robot: &Robot| {
        robot.grants.iter().any(|grant| grant.consent == Consent::Accepted && grant.project == project.id)
    };
    robot.is_none_or(|robot| robot.project != project.id && !is_granted(robot))
}

/// Whether `held` covers every one of `required`. A requirement without actions is covered by nothing.
pub fn covers(held: &[Scope], required: &[Scope]) -> bool {
    required.iter().all(|required| match required {
        Scope::Catalog => held.contains(&Scope::Catalog),
        Scope::Repository { name, actions } => {
            let held = held.iter().fold(Actions::NONE, |sum, scope| match scope {
                Scope::Repository { name: holder, actions } if name_covers(holder, name) => sum.union(*actions),
                _ => sum,
            });
            !actions.is_empty() && held.contains(*actions)
        }
    })
}

/// All that the robot's grants and the project's publicity give on a name of that living project.
fn granted(name: &ScopeName, robot: Option<&Robot>, project: &Project) -> Actions {
    let public = if project.public { Actions::PULL } else { Actions::NONE };
    robot
        .into_iter()
        .flat_map(|robot| &robot.grants)
        .filter(|grant| grant.consent == Consent::Accepted && grant.project == project.id)
        .filter(|grant| pattern_covers(&grant.pattern, name))
        .fold(public, |sum, grant| sum.union(grant.actions))
}

fn project_of(name: &ScopeName) -> &str {
    match name {
        ScopeName::Repository(name) => name.project(),
        ScopeName::Pattern(pattern) => pattern.project(),
    }
}

fn pattern_covers(pattern: &RepositoryPattern, name: &ScopeName) -> bool {
    match name {
        ScopeName::Repository(name) => pattern.matches(name),
        ScopeName::Pattern(asked) => pattern.covers(asked),
    }
}

fn name_covers(held: &ScopeName, required: &ScopeName) -> bool {
    match held {
        ScopeName::Repository(_) => held == required,
        ScopeName::Pattern(pattern) => pattern_covers(pattern, required),
    }
}

/// One grant on a project's repositories that another project's robot holds or asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignGrant {
    /// The grant.
    pub grant: Grant,
    /// The robot's full name, `acme+ci`.
    pub robot: String,
    /// The project whose consent is asked.
    pub project_name: String,
}

/// Answers a foreign project's grant; `accept = false` also takes an earlier consent back. On a robot's own project there
/// is nothing to decide.
pub async fn decide(
    store: &dyn Store,
    grant_id: &str,
    accept: bool,
    now: Timestamp,
) -> Result<ForeignGrant, TenancyError> {
    let consent = if accept { Consent::Accepted } else { Consent::Refused };
    match store.set_consent(grant_id, consent, now).await {
        Ok(decided) => Ok(decided),
        Err(StoreError::Missing) => Err(TenancyError::NotFound(
            "no other project's robot has or asks for a grant of this id: `portcullis grant list` shows those that wait"
                .into(),
        )),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;

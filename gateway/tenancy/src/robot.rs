//! Robots: the machine accounts of a project, with up to two secrets at a time.

use crate::credential::{Secret, SecretHash};
use crate::grant::{Consent, Grant, Role};
use crate::limit::Overrides;
use crate::{Project, ProjectId, ProjectName, Random, Store, StoreError, TenancyError, Timestamp, project, random_id};
use ipnet::{IpNet, Ipv4Net};
use portcullis_oci::scope::{Actions, RepositoryPattern};
use std::net::IpAddr;

/// Longest name within the project, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Most secrets at a time: the current one, and the one before it until its grace is over.
pub const MAX_SECRETS: usize = 2;
/// Most source networks of a robot.
pub const MAX_SOURCE_NETWORKS: usize = 64;
/// Most grants of a robot.
pub const MAX_GRANTS: usize = 64;

/// A robot's random identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RobotId(pub Box<str>);

/// A robot with its secrets and grants.
#[derive(Clone, Debug)]
pub struct Robot {
    /// Its identity.
    pub id: RobotId,
    /// Its project.
    pub project: ProjectId,
    /// Its project's name.
    pub project_name: ProjectName,
    /// Its name within the project: `[a-z0-9]` with `.`, `_`, `-` inside, at most 64 bytes.
    pub name: Box<str>,
    /// The role it was made with, if it was one.
    pub role: Option<Role>,
    /// Where it may come from; empty is anywhere.
    pub source_networks: Vec<IpNet>,
    /// Its limits, as far as they are not the configuration's.
    pub limits: Overrides,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Since when it is disabled.
    pub disabled_at: Option<Timestamp>,
    /// Its secrets, newest first; at most two.
    pub secrets: Vec<RobotSecret>,
    /// Its grants, whatever their consent.
    pub grants: Vec<Grant>,
}

/// One secret of a robot.
#[derive(Clone, Debug)]
pub struct RobotSecret {
    /// Its identity: tokens and refresh tokens are bound to it.
    pub id: Box<str>,
    /// What is kept of it.
    pub hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends: set when a rotation put another in its place.
    pub expires_at: Option<Timestamp>,
    /// When it was last used to log in, to within a minute.
    pub last_used_at: Option<Timestamp>,
}

/// Why a robot may not log in or use a token now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RobotRefusal {
    /// Disabled by its owner.
    #[error("the robot is disabled")]
    Disabled,
    /// Past its end.
    #[error("the robot has expired")]
    Expired,
    /// The secret is unknown, or rotated past its grace.
    #[error("the secret is not valid (any more)")]
    Secret,
    /// The address is not in its list.
    #[error("the address is not in the robot's list of source networks")]
    SourceNetwork,
}

impl Robot {
    /// `acme+ci`
    pub fn username(&self) -> String {
        format!("{}+{}", self.project_name, self.name)
    }

    /// Whether the robot may be used now, from this address, by the secret of this id. Asked at every use.
    pub fn check_use(&self, secret_id: &str, from: IpAddr, now: Timestamp) -> Result<(), RobotRefusal> {
        let secret = self.secrets.iter().find(|secret| &*secret.id == secret_id);
        self.check_state(secret, from, now).map(|_| ())
    }

    /// Finds the secret that a login was made with, and checks the rest as [`Robot::check_use`] does.
    pub fn check_login(
        &self,
        candidate: &SecretHash,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<&RobotSecret, RobotRefusal> {
        self.check_state(matching_secret(&self.secrets, candidate), from, now)
    }

    /// The secret comes first: who does not hold it learns nothing about the robot's state.
    fn check_state<'a>(
        &self,
        secret: Option<&'a RobotSecret>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<&'a RobotSecret, RobotRefusal> {
        let over = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
        let secret = secret.filter(|secret| !over(secret.expires_at)).ok_or(RobotRefusal::Secret)?;
        if self.disabled_at.is_some() {
            return Err(RobotRefusal::Disabled);
        }
        if over(self.expires_at) {
            return Err(RobotRefusal::Expired);
        }
        // A client of a dual-stack listener shows its IPv4 address as ::ffff:a.b.c.d.
        let from = from.to_canonical();
        if !self.source_networks.is_empty() && !self.source_networks.iter().any(|network| network.contains(&from)) {
            return Err(RobotRefusal::SourceNetwork);
        }
        Ok(secret)
    }
}

/// Checks a login against the robot that the name stands for, if there is one: an unknown name costs the same comparisons
/// and gets the same answer as a wrong secret, so that names cannot be told apart from outside.
pub fn check_login<'a>(
    robot: Option<&'a Robot>,
    candidate: &SecretHash,
    from: IpAddr,
    now: Timestamp,
) -> Result<(&'a Robot, &'a RobotSecret), RobotRefusal> {
    match robot {
        Some(robot) => robot.check_login(candidate, from, now).map(|secret| (robot, secret)),
        None => {
            std::hint::black_box(matching_secret(&[], candidate));
            Err(RobotRefusal::Secret)
        }
    }
}

/// Compares as often for one secret, or none, as for two.
fn matching_secret<'a>(secrets: &'a [RobotSecret], candidate: &SecretHash) -> Option<&'a RobotSecret> {
    const NOBODYS: SecretHash = SecretHash([0; 32]);
    let mut found = None;
    for place in 0..MAX_SECRETS {
        let secret = secrets.get(place);
        if secret.map_or(&NOBODYS, |secret| &secret.hash).matches(candidate) {
            found = secret;
        }
    }
    found
}

/// Splits a login name: `acme+ci`, or Harbor's `robot$acme+ci`, into project and robot.
pub fn split_username(username: &str) -> Option<(&str, &str)> {
    let (project, robot) = username.strip_prefix("robot$").unwrap_or(username).split_once('+')?;
    (ProjectName::parse(project).is_ok() && is_name(robot)).then_some((project, robot))
}

/// Whether `text` is letters and digits in runs joined by single `.`, `_` or `-`.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
        && text
            .split(['.', '_', '-'])
            .all(|run| !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
}

/// What `robot create` is asked for.
#[derive(Clone, Debug)]
pub struct NewRobot {
    /// Its name within the project.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Where it may come from.
    pub source_networks: Vec<IpNet>,
}

/// A role over the whole project, or grants one by one.
#[derive(Clone, Debug)]
pub enum Rights {
    /// `--role`
    Role(Role),
    /// `--grant 'PATTERN=ACTIONS'`…
    Grants(Vec<(RepositoryPattern, Actions)>),
}

/// Makes a robot. Its secret is returned here and never again. Grants on foreign projects wait for those projects' consent;
/// a grant on a project that does not exist is refused.
pub async fn create(
    store: &dyn Store,
    project: &Project,
    new: NewRobot,
    now: Timestamp,
    random: Random<'_>,
) -> Result<(Robot, Secret), TenancyError> {
    check_name(&new.name)?;
    if new.expires_at.is_some_and(|end| end <= now) {
        return Err(TenancyError::Invalid("the robot's end lies in the past: give one in the future, or none".into()));
    }
    let source_networks = checked_networks(new.source_networks)?;
    let (role, rights) = match new.rights {
        Rights::Role(role) => {
            (Some(role), vec![(RepositoryPattern::whole_project(project.name.as_str()), role.actions())])
        }
        Rights::Grants(grants) => (None, grants),
    };
    let grants = checked_grants(store, project, rights, random).await?;
    let secret = Secret::generate(random);
    let robot = Robot {
        id: RobotId(random_id(random)),
        project: project.id.clone(),
        project_name: project.name.clone(),
        name: new.name.into(),
        role,
        source_networks,
        limits: Overrides::default(),
        created_at: now,
        expires_at: new.expires_at,
        disabled_at: None,
        secrets: vec![RobotSecret::new(&secret, now, random)],
        grants,
    };
    match store.add_robot(&robot).await {
        Ok(()) => Ok((robot, secret)),
        Err(StoreError::Taken(_)) => Err(TenancyError::Conflict(format!(
            "there is a robot `{}` already: choose another name, or give it a new secret with `portcullis robot rotate`",
            robot.username()
        ))),
        Err(StoreError::Missing) => Err(TenancyError::NotFound(format!(
            "the project `{}`, or one that a grant names, was deleted meanwhile: `portcullis project list` shows those there are",
            project.name
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Finds a robot by project and name, or says how to see which there are.
pub async fn find(store: &dyn Store, project: &Project, name: &str) -> Result<Robot, TenancyError> {
    check_name(name)?;
    let robot = store.robot_named(project.name.as_str(), name).await?;
    // By id as well: the name may stand for a younger project by now.
    robot.filter(|robot| robot.project == project.id).ok_or_else(|| unknown(&project.name, name))
}

/// Gives a robot a new secret; the current one goes on until `now + grace`, older ones end at once.
pub async fn rotate(
    store: &dyn Store,
    robot: &Robot,
    grace: std::time::Duration,
    now: Timestamp,
    random: Random<'_>,
) -> Result<(Robot, Secret), TenancyError> {
    let end = now.checked_add(grace).map_err(|_| TenancyError::Invalid("the grace is too long".into()))?;
    let secret = Secret::generate(random);
    let mut rotated = robot.clone();
    rotated.secrets.truncate(1);
    for previous in &mut rotated.secrets {
        previous.expires_at = Some(previous.expires_at.map_or(end, |earlier| earlier.min(end)));
    }
    rotated.secrets.insert(0, RobotSecret::new(&secret, now, random));
    let newest = robot.secrets.first().map_or("", |secret| &*secret.id);
    match found(robot, store.replace_secrets(&rotated, newest).await) {
        Ok(()) => Ok((rotated, secret)),
        Err(TenancyError::Store(StoreError::Taken(_))) => Err(TenancyError::Invalid(
            "the robot was rotated by somebody else at this moment, and that secret stands; rotate again if it is lost"
                .into(),
        )),
        Err(error) => Err(error),
    }
}

/// Disables a robot from `now` on, with all its tokens; one that is disabled already stays so since then.
pub async fn disable(store: &dyn Store, robot: &Robot, now: Timestamp) -> Result<Robot, TenancyError> {
    set_disabled(store, robot, robot.disabled_at.or(Some(now))).await
}

/// Lets a robot work again, with the secrets that it has.
pub async fn enable(store: &dyn Store, robot: &Robot) -> Result<Robot, TenancyError> {
    set_disabled(store, robot, None).await
}

/// Deletes a robot: its secrets, its tokens and its uploads under way end with it.
pub async fn delete(store: &dyn Store, robot: &Robot) -> Result<(), TenancyError> {
    found(robot, store.delete_robot(&robot.id).await)
}

async fn set_disabled(store: &dyn Store, robot: &Robot, at: Option<Timestamp>) -> Result<Robot, TenancyError> {
    found(robot, store.set_disabled(&robot.id, at).await)?;
    Ok(Robot { disabled_at: at, ..robot.clone() })
}

fn found<T>(robot: &Robot, result: Result<T, StoreError>) -> Result<T, TenancyError> {
    result.map_err(|error| match error {
        StoreError::Missing => unknown(&robot.project_name, &robot.name),
        error => error.into(),
    })
}

impl RobotSecret {
    fn new(secret: &Secret, now: Timestamp, random: Random<'_>) -> Self {
        Self { id: random_id(random), hash: secret.hash(), created_at: now, expires_at: None, last_used_at: None }
    }
}

fn unknown(project: &ProjectName, name: &str) -> TenancyError {
    TenancyError::NotFound(format!(
        "there is no robot `{project}+{name}`: `portcullis robot list {project}` shows those there are"
    ))
}

fn check_name(name: &str) -> Result<(), TenancyError> {
    if is_name(name) {
        return Ok(());
    }
    Err(TenancyError::Invalid(format!(
        "a robot's name is 1 to {MAX_NAME_BYTES} lower-case letters and digits, with single `.`, `_` or `-` inside"
    )))
}

/// Networks as they are compared: IPv4 where they are IPv4 in IPv6's clothes, without host bits, once each.
fn checked_networks(networks: Vec<IpNet>) -> Result<Vec<IpNet>, TenancyError> {
    if networks.len() > MAX_SOURCE_NETWORKS {
        return Err(TenancyError::Invalid(format!("a robot has at most {MAX_SOURCE_NETWORKS} source networks")));
    }
    let mut networks: Vec<IpNet> = networks.into_iter().map(|network| canonical(network).trunc()).collect();
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let inside = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    inside.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

async fn checked_grants(
    store: &dyn Store,
    own: &Project,
    rights: Vec<(RepositoryPattern, Actions)>,
    random: Random<'_>,
) -> Result<Vec<Grant>, TenancyError> {
    if rights.is_empty() || rights.len() > MAX_GRANTS {
        return Err(TenancyError::Invalid(format!("a robot has 1 to {MAX_GRANTS} grants, or a role")));
    }
    let mut grants = Vec::with_capacity(rights.len());
    for (pattern, actions) in rights {
        if actions.is_empty() {
            return Err(TenancyError::Invalid(format!(
                "the grant on `{}` names no action: give some of pull, push, delete",
                pattern.as_str()
            )));
        }
        let (project, consent) = if pattern.project() == own.name.as_str() {
            (own.id.clone(), Consent::Accepted)
        } else {
            (project::find(store, pattern.project()).await?.id, Consent::Pending)
        };
        grants.push(Grant { id: random_id(random), project, pattern, actions, consent });
    }
    Ok(grants)
}

#[cfg(test)]
mod tests;

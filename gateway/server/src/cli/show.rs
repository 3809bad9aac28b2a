//! How projects, robots and grants look: the JSON forms, which stay as they are, and the words of the tables.

use crate::config::PublicUrl;
use portcullis_tenancy::grant::{Consent, ForeignGrant, Grant, Role};
use portcullis_tenancy::key::Algorithm;
use portcullis_tenancy::{Project, Robot, Timestamp};
use serde_json::{Value, json};

pub(super) fn project(project: &Project) -> Value {
    json!({
        "name": project.name.as_str(),
        "id": project.id.0,
        "upstream_prefix": project.upstream_prefix,
        "public": project.public,
        "created_at": project.created_at.to_string(),
        "deleted_at": project.deleted_at.map(|time| time.to_string()),
    })
}

/// A robot without anything secret.
pub(super) fn robot(robot: &Robot, now: Timestamp) -> Value {
    let secrets = robot.secrets.iter().map(|secret| {
        json!({
            "id": secret.id,
            "created_at": secret.created_at.to_string(),
            "expires_at": secret.expires_at.map(|time| time.to_string()),
            "last_used_at": secret.last_used_at.map(|time| time.to_string()),
        })
    });
    json!({
        "username": robot.username(),
        "project": robot.project_name.as_str(),
        "name": robot.name,
        "state": state(robot, now),
        "role": robot.role.map(role),
        "grants": robot.grants.iter().map(grant).collect::<Vec<_>>(),
        "source_networks": robot.source_networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "created_at": robot.created_at.to_string(),
        "expires_at": robot.expires_at.map(|time| time.to_string()),
        "disabled_at": robot.disabled_at.map(|time| time.to_string()),
        "secrets": secrets.collect::<Vec<_>>(),
    })
}

/// What a robot's owner needs to log in. `token` is the secret, shown this once.
pub(super) fn credentials(username: &str, token: &str, registry: &PublicUrl, project: &str) -> Value {
    json!({ "username": username, "token": token, "registry": registry.registry(), "project": project })
}

pub(super) fn grant(grant: &Grant) -> Value {
    json!({
        "id": grant.id,
        "pattern": grant.pattern.as_str(),
        "actions": grant.actions.names().collect::<Vec<_>>(),
        "consent": consent(grant.consent),
    })
}

pub(super) fn foreign_grant(foreign: &ForeignGrant) -> Value {
    let mut value = grant(&foreign.grant);
    if let Some(object) = value.as_object_mut() {
        object.insert("robot".to_owned(), foreign.robot.as_str().into());
        object.insert("project".to_owned(), foreign.project_name.as_str().into());
    }
    value
}

pub(super) fn consent(consent: Consent) -> &'static str {
    match consent {
        Consent::Pending => "pending",
        Consent::Accepted => "accepted",
        Consent::Refused => "refused",
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Pull => "pull",
        Role::Push => "push",
        Role::Admin => "admin",
    }
}

pub(super) fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDsa => "ed25519",
        Algorithm::Es256 => "es256",
    }
}

pub(super) fn state(robot: &Robot, now: Timestamp) -> &'static str {
    if robot.disabled_at.is_some() {
        "disabled"
    } else if robot.expires_at.is_some_and(|end| end <= now) {
        "expired"
    } else {
        "active"
    }
}

/// A time for people, to the second, in UTC.
pub(super) fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A time for people, to the minute, in UTC.
pub(super) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%MZ").to_string()
}

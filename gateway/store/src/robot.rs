//! Robots with their secrets and grants. A robot whose project is deleted is found by no query.

mod grant;

pub(crate) use grant::{foreign_grants, set_consent};

use crate::sql::{Query, SqlStore, bounded};
use crate::{limit, row, session};
use ipnet::IpNet;
use portcullis_tenancy::credential::SecretHash;
use portcullis_tenancy::grant::{Grant, Role};
use portcullis_tenancy::robot::RobotSecret;
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, ProjectName, Robot, RobotId, StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;
use std::collections::HashMap;

macro_rules! robots {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.project_id, p.name AS project_name, r.name, r.role, r.source_networks, r.limits, r.created_at, r.expires_at, r.disabled_at \
             FROM robot r JOIN project p ON p.id = r.project_id WHERE p.deleted_at IS NULL AND ",
            $rest
        )
    };
}
macro_rules! secrets {
    ($condition:literal) => {
        bounded!(
            "SELECT robot_id, id, hash, created_at, expires_at, last_used_at FROM robot_secret WHERE ",
            $condition,
            " ORDER BY robot_id, position"
        )
    };
}

pub(crate) async fn add(store: &SqlStore, robot: &Robot) -> Result<()> {
    let mut change = store.change().await?;
    let living = query("SELECT 1 AS found FROM project WHERE id = $1 AND deleted_at IS NULL").bind(&*robot.project.0);
    if change.optional(living, |_| Ok(())).await?.is_none() {
        return Err(StoreError::Missing);
    }
    let networks: Vec<String> = robot.source_networks.iter().map(ToString::to_string).collect();
    let insert = query(
        "INSERT INTO robot (id, project_id, name, role, source_networks, created_at, expires_at, disabled_at, limits) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(&*robot.id.0)
    .bind(&*robot.project.0)
    .bind(&*robot.name)
    .bind(robot.role.map(role_name))
    .bind(networks.join(","))
    .bind(robot.created_at.as_millisecond())
    .bind(robot.expires_at.map(Timestamp::as_millisecond))
    .bind(robot.disabled_at.map(Timestamp::as_millisecond))
    .bind(robot.limits.to_string());
    if change.execute(insert).await? == 0 {
        return Err(StoreError::Taken("robot name"));
    }
    for (position, secret) in (0_i64..).zip(&robot.secrets) {
        change.must(put_secret(robot, position, secret)).await?;
    }
    for (position, grant) in (0_i64..).zip(&robot.grants) {
        change.execute(grant::insert(robot, position, grant)).await?;
    }
    change.commit().await
}

pub(crate) async fn named(store: &SqlStore, project: &str, name: &str) -> Result<Option<Robot>> {
    one(store, query(robots!("p.name = $1 AND r.name = $2")).bind(project).bind(name)).await
}

pub(crate) async fn by_id(store: &SqlStore, id: &RobotId) -> Result<Option<Robot>> {
    one(store, query(robots!("r.id = $1")).bind(&*id.0)).await
}

/// The secrets and the grants are each read whole by one statement, after the robot. A change in between is seen or not;
/// whoever caches the result has noted an older generation, and asks again. Where there is no robot, the same is asked about nobody:
/// how long it takes is not to tell whether a name is known.
async fn one(store: &SqlStore, find: Query<'_>) -> Result<Option<Robot>> {
    let robot = store.optional(find, read).await?;
    let id = robot.as_ref().map_or("", |robot| &*robot.id.0);
    let secrets = store.all(query(secrets!("robot_id = $1")).bind(id), |row| Ok(read_secret(row)?.1)).await?;
    let grants = store.all(query(grant::of_robot!()).bind(id), |row| Ok(grant::read(row)?.1)).await?;
    Ok(robot.map(|robot| Robot { secrets, grants, ..robot }))
}

pub(crate) async fn of_project(store: &SqlStore, project: &ProjectId) -> Result<Vec<Robot>> {
    let id = &*project.0;
    let mut robots = store.all(query(bounded!(robots!("r.project_id = $1 ORDER BY r.name"))).bind(id), read).await?;
    let mut secrets: HashMap<RobotId, Vec<RobotSecret>> = HashMap::new();
    for (robot, secret) in store.all(query(secrets!("project_id = $1")).bind(id), read_secret).await? {
        secrets.entry(robot).or_default().push(secret);
    }
    let mut grants: HashMap<RobotId, Vec<Grant>> = HashMap::new();
    for (robot, grant) in store.all(query(grant::of_project!()).bind(id), grant::read).await? {
        grants.entry(robot).or_default().push(grant);
    }
    for robot in &mut robots {
        robot.secrets = secrets.remove(&robot.id).unwrap_or_default();
        robot.grants = grants.remove(&robot.id).unwrap_or_default();
    }
    Ok(robots)
}

/// What is noted of a secret's use is kept where the secret is.
pub(crate) async fn replace_secrets(store: &SqlStore, robot: &Robot, newest: &str) -> Result<()> {
    let mut change = store.change().await?;
    let there = query(robots!("r.id = $1")).bind(&*robot.id.0);
    if change.optional(there, |_| Ok(())).await?.is_none() {
        return Err(StoreError::Missing);
    }
    let held = query("SELECT id FROM robot_secret WHERE robot_id = $1 ORDER BY position").bind(&*robot.id.0);
    let held = change.all(held, |row| row::boxed(row, "id")).await?;
    if held.first().is_none_or(|first| **first != *newest) {
        return Err(StoreError::Taken("newest secret"));
    }
    for id in held {
        if !robot.secrets.iter().any(|secret| secret.id == id) {
            change.execute(query("DELETE FROM robot_secret WHERE id = $1").bind(&*id)).await?;
        }
    }
    for (position, secret) in (0_i64..).zip(&robot.secrets) {
        change.must(put_secret(robot, position, secret)).await?;
    }
    change.commit().await
}

pub(crate) async fn set_disabled(store: &SqlStore, id: &RobotId, disabled_at: Option<Timestamp>) -> Result<()> {
    let mut change = store.change().await?;
    change
        .must(
            query("UPDATE robot SET disabled_at = $2 WHERE id = $1 AND project_id IN (SELECT id FROM project WHERE deleted_at IS NULL)")
                .bind(&*id.0)
                .bind(disabled_at.map(Timestamp::as_millisecond)),
        )
        .await?;
    change.commit().await
}

/// Its secrets, grants and uploads go with its row; uploads are given up upstream.
pub(crate) async fn delete(store: &SqlStore, id: &RobotId) -> Result<()> {
    let mut change = store.change().await?;
    session::take_accounts(&mut change, "upload.robot_id = $1", &id.0).await?;
    change.execute(query(session::abandon!("robot_id = $1")).bind(&*id.0)).await?;
    change.must(query("DELETE FROM robot WHERE id = $1").bind(&*id.0)).await?;
    change.commit().await
}

pub(crate) async fn note_use(store: &SqlStore, uses: &[(Box<str>, Timestamp)]) -> Result<()> {
    if uses.is_empty() {
        return Ok(());
    }
    let mut write = store.hold().await?;
    for (secret, at) in uses {
        let note = query(
            "UPDATE robot_secret SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
        );
        write.execute(note.bind(&**secret).bind(at.as_millisecond())).await?;
    }
    write.commit().await
}

fn put_secret<'q>(robot: &'q Robot, position: i64, secret: &'q RobotSecret) -> Query<'q> {
    query(
        "INSERT INTO robot_secret (id, project_id, robot_id, position, hash, created_at, expires_at, last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (id) DO UPDATE SET position = excluded.position, expires_at = excluded.expires_at \
         WHERE robot_secret.robot_id = excluded.robot_id",
    )
    .bind(&*secret.id)
    .bind(&*robot.project.0)
    .bind(&*robot.id.0)
    .bind(position)
    .bind(secret.hash.0.to_vec())
    .bind(secret.created_at.as_millisecond())
    .bind(secret.expires_at.map(Timestamp::as_millisecond))
    .bind(secret.last_used_at.map(Timestamp::as_millisecond))
}

/// Without its secrets and grants.
fn read(row: &AnyRow) -> Result<Robot> {
    let networks = row::text(row, "source_networks")?;
    let networks = networks.split(',').filter(|network| !network.is_empty());
    Ok(Robot {
        id: RobotId(row::boxed(row, "id")?),
        project: ProjectId(row::boxed(row, "project_id")?),
        project_name: row::parse(row, "project_name", ProjectName::parse)?,
        name: row::boxed(row, "name")?,
        role: row::optional_text(row, "role")?.map(|name| role(&name)).transpose()?,
        source_networks: networks
            .map(|network| row::parsed("source_networks", network, str::parse::<IpNet>))
            .collect::<Result<_>>()?,
        limits: limit::read(row)?,
        created_at: row::time(row, "created_at")?,
        expires_at: row::optional_time(row, "expires_at")?,
        disabled_at: row::optional_time(row, "disabled_at")?,
        secrets: Vec::new(),
        grants: Vec::new(),
    })
}

fn read_secret(row: &AnyRow) -> Result<(RobotId, RobotSecret)> {
    let secret = RobotSecret {
        id: row::boxed(row, "id")?,
        hash: SecretHash(row::parsed("hash", row::bytes(row, "hash")?.as_slice(), <[u8; 32]>::try_from)?),
        created_at: row::time(row, "created_at")?,
        expires_at: row::optional_time(row, "expires_at")?,
        last_used_at: row::optional_time(row, "last_used_at")?,
    };
    Ok((RobotId(row::boxed(row, "robot_id")?), secret))
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Pull => "pull",
        Role::Push => "push",
        Role::Admin => "admin",
    }
}

fn role(name: &str) -> Result<Role> {
    match name {
        "pull" => Ok(Role::Pull),
        "push" => Ok(Role::Push),
        "admin" => Ok(Role::Admin),
        other => Err(row::unknown("role", other)),
    }
}

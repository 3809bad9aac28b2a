//! Grants, and the consent of the projects that they are on.

use crate::row;
use crate::sql::{Query, SqlStore, bounded};
use portcullis_oci::scope::{Actions, RepositoryPattern};
use portcullis_tenancy::grant::{Consent, ForeignGrant, Grant};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, Robot, RobotId, StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

macro_rules! of_robot {
    () => {
        $crate::sql::bounded!("SELECT robot_id, id, target_project_id, pattern, actions, consent FROM robot_grant WHERE robot_id = $1 ORDER BY position")
    };
}
macro_rules! of_project {
    () => {
        $crate::sql::bounded!("SELECT robot_id, id, target_project_id, pattern, actions, consent FROM robot_grant WHERE project_id = $1 ORDER BY robot_id, position")
    };
}
pub(super) use {of_project, of_robot};

macro_rules! foreign {
    ($rest:literal) => {
        concat!(
            "SELECT g.robot_id, g.id, g.target_project_id, g.pattern, g.actions, g.consent, \
             o.name || '+' || r.name AS robot_name, t.name AS target_name \
             FROM robot_grant g JOIN robot r ON r.id = g.robot_id JOIN project o ON o.id = g.project_id JOIN project t ON t.id = g.target_project_id \
             WHERE g.project_id <> g.target_project_id AND o.deleted_at IS NULL AND t.deleted_at IS NULL ",
            $rest
        )
    };
}

pub(crate) async fn foreign_grants(store: &SqlStore, project: Option<&ProjectId>) -> Result<Vec<ForeignGrant>> {
    match project {
        Some(id) => {
            let on_it = query(bounded!(foreign!("AND g.target_project_id = $1 ORDER BY o.name, r.name, g.position")))
                .bind(&*id.0);
            store.all(on_it, read_foreign).await
        }
        None => store.all(query(bounded!(foreign!("ORDER BY t.name, o.name, r.name, g.position"))), read_foreign).await,
    }
}

pub(crate) async fn set_consent(
    store: &SqlStore,
    grant_id: &str,
    consent: Consent,
    now: Timestamp,
) -> Result<ForeignGrant> {
    let mut change = store.change().await?;
    // A robot's own project gave its consent by making the robot; there is nothing to decide.
    let decide =
        query("UPDATE robot_grant SET consent = $2, decided_at = $3 WHERE id = $1 AND project_id <> target_project_id");
    change.must(decide.bind(grant_id).bind(consent_name(consent)).bind(now.as_millisecond())).await?;
    let decided = change.optional(query(foreign!("AND g.id = $1")).bind(grant_id), read_foreign).await?;
    let decided = decided.ok_or(StoreError::Missing)?;
    change.commit().await?;
    Ok(decided)
}

pub(super) fn insert<'q>(robot: &'q Robot, position: i64, grant: &'q Grant) -> Query<'q> {
    query(
        "INSERT INTO robot_grant (id, project_id, robot_id, position, target_project_id, pattern, actions, consent) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&*grant.id)
    .bind(&*robot.project.0)
    .bind(&*robot.id.0)
    .bind(position)
    .bind(&*grant.project.0)
    .bind(grant.pattern.as_str())
    .bind(grant.actions.to_string())
    .bind(consent_name(grant.consent))
}

pub(super) fn read(row: &AnyRow) -> Result<(RobotId, Grant)> {
    let actions = row::text(row, "actions")?;
    let grant = Grant {
        id: row::boxed(row, "id")?,
        project: ProjectId(row::boxed(row, "target_project_id")?),
        pattern: row::parse(row, "pattern", RepositoryPattern::parse)?,
        actions: Actions::parse_strict(&actions).ok_or_else(|| row::unknown("actions", &actions))?,
        consent: consent(&row::text(row, "consent")?)?,
    };
    Ok((RobotId(row::boxed(row, "robot_id")?), grant))
}

fn read_foreign(row: &AnyRow) -> Result<ForeignGrant> {
    Ok(ForeignGrant {
        grant: read(row)?.1,
        robot: row::text(row, "robot_name")?,
        project_name: row::text(row, "target_name")?,
    })
}

fn consent_name(consent: Consent) -> &'static str {
    match consent {
        Consent::Pending => "pending",
        Consent::Accepted => "accepted",
        Consent::Refused => "refused",
    }
}

fn consent(name: &str) -> Result<Consent> {
    match name {
        "pending" => Ok(Consent::Pending),
        "accepted" => Ok(Consent::Accepted),
        "refused" => Ok(Consent::Refused),
        other => Err(row::unknown("consent", other)),
    }
}

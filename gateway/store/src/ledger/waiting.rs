//! What is not charged any more waits until it is taken away upstream. Projects take turns: one that has much of it is in no
//! other one's way.

use super::account::Ledger;
use crate::gather::again;
use crate::row;
use crate::sql::SqlStore;
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::ledger::Unlinkable;
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;

/// A blob that may be taken away: uncharged before `$2`, and nobody is at it at `$3`.
macro_rules! unlinkable {
    ($project:literal) => {
        concat!(
            "FROM blob WHERE blob.project_id = ",
            $project,
            " AND blob.uncharged_at < $2 AND blob.kept_upstream = 0 AND (blob.unlinking_until IS NULL OR blob.unlinking_until <= $3) \
             AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.project_id = blob.project_id AND pin.digest = blob.digest)"
        )
    };
}

/// Who holds a project's account; none where the project is gone.
async fn open(store: &SqlStore, project: &ProjectId) -> Result<Option<Ledger>> {
    match Ledger::open(store, project, true).await {
        Err(StoreError::Missing) => Ok(None),
        opened => opened.map(Some),
    }
}

pub(crate) async fn expire_orphans(
    store: &SqlStore,
    before: Timestamp,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(ProjectId, Digest, u64)>> {
    let due = query(
        "SELECT id FROM (SELECT id, (SELECT orphan_since FROM blob WHERE blob.project_id = project.id AND orphan_since < $1 \
             AND uncharged_at IS NULL AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.project_id = blob.project_id AND pin.digest = blob.digest) \
             ORDER BY orphan_since LIMIT 1) AS oldest FROM project) AS due \
         WHERE oldest IS NOT NULL ORDER BY oldest, id LIMIT $2",
    );
    let due = due.bind(before.as_millisecond()).bind(i64::from(limit));
    let due = store.all(due, |row| Ok(ProjectId(row::boxed(row, "id")?))).await?;
    let share = i64::from(limit).checked_div(i64::try_from(due.len()).unwrap_or(i64::MAX)).unwrap_or_default().max(1);
    let mut expired = Vec::new();
    for project in due {
        // One whose account cannot be had is in no other one's way.
        match again(|| expire_of(store, &project, before, now, share)).await {
            Ok(of_it) => expired.extend(of_it.into_iter().map(|(digest, size)| (project.clone(), digest, size))),
            Err(error) => tracing::warn!(project = &*project.0, %error, "its orphans are charged until the next sweep"),
        }
    }
    Ok(expired)
}

async fn expire_of(
    store: &SqlStore,
    project: &ProjectId,
    before: Timestamp,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(Digest, u64)>> {
    let find = query(
        "SELECT digest FROM blob WHERE project_id = $1 AND orphan_since < $2 AND uncharged_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.project_id = $1 AND pin.digest = blob.digest) \
         ORDER BY orphan_since LIMIT $3",
    );
    let find = find.bind(&*project.0).bind(before.as_millisecond()).bind(limit);
    let digests = store.all(find, |row| row::text(row, "digest")).await?;
    let Some(mut ledger) = open(store, project).await? else { return Ok(Vec::new()) };
    let mut expired = Vec::new();
    for digest in digests {
        // It may have been renewed, or named, since.
        let take = query(
            "UPDATE blob SET orphan_since = NULL, uncharged_at = $4 WHERE project_id = $1 AND digest = $2 \
             AND orphan_since < $3 AND uncharged_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.project_id = $1 AND pin.digest = $2) RETURNING digest, size",
        );
        let take = take.bind(&*project.0).bind(&*digest).bind(before.as_millisecond()).bind(now.as_millisecond());
        let read = |row: &AnyRow| Ok((row::parse(row, "digest", Digest::parse)?, row::size(row, "size")?));
        if let Some((digest, size)) = ledger.write.optional(take, read).await? {
            ledger.uncharge(size);
            expired.push((digest, size));
        }
    }
    ledger.commit().await?;
    Ok(expired)
}

pub(crate) async fn take(
    store: &SqlStore,
    before: Timestamp,
    now: Timestamp,
    until: Timestamp,
    after: Option<&ProjectId>,
) -> Result<Option<Unlinkable>> {
    let mut passed = after.map_or_else(Box::default, |project| project.0.clone());
    let mut is_last_round = after.is_none();
    loop {
        let next = query(concat!(
            "SELECT id FROM project WHERE id > $1 AND EXISTS (SELECT 1 ",
            unlinkable!("project.id"),
            ") ORDER BY id LIMIT 1"
        ));
        let next = next.bind(&*passed).bind(before.as_millisecond()).bind(now.as_millisecond());
        match store.optional(next, |row| Ok(ProjectId(row::boxed(row, "id")?))).await? {
            Some(project) => {
                if let Some(taken) = again(|| take_of(store, &project, before, now, until)).await? {
                    return Ok(Some(taken));
                }
                passed = project.0;
            }
            None if is_last_round => return Ok(None),
            // Behind the last project comes the first one again.
            None => (passed, is_last_round) = (Box::default(), true),
        }
    }
}

async fn take_of(
    store: &SqlStore,
    project: &ProjectId,
    before: Timestamp,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Unlinkable>> {
    // Under the account's row: whoever charges it again sees that it is taken, or has done so before.
    let Some(mut ledger) = open(store, project).await? else { return Ok(None) };
    let take = query(concat!(
        "UPDATE blob SET unlinking_until = $4 WHERE project_id = $1 AND digest = (SELECT blob.digest ",
        unlinkable!("$1"),
        " ORDER BY blob.uncharged_at, blob.digest LIMIT 1) RETURNING digest"
    ));
    let take = take.bind(&*project.0).bind(before.as_millisecond()).bind(now.as_millisecond());
    let take = take.bind(until.as_millisecond());
    let Some(digest) = ledger.write.optional(take, |row| row::parse(row, "digest", Digest::parse)).await? else {
        return Ok(None);
    };
    ledger.commit().await?;
    let holders = query("SELECT repository FROM link WHERE project_id = $1 AND digest = $2 ORDER BY repository");
    let holders = holders.bind(&*project.0).bind(digest.as_str());
    let repositories = store.all(holders, |row| row::parse(row, "repository", RepositoryName::parse)).await?;
    Ok(Some(Unlinkable { project: project.clone(), digest, repositories }))
}

pub(crate) async fn unlinked(store: &SqlStore, project: &ProjectId, digest: &Digest, is_gone: bool) -> Result<()> {
    let sql = if is_gone {
        "DELETE FROM blob WHERE project_id = $1 AND digest = $2 AND uncharged_at IS NOT NULL AND unlinking_until IS NOT NULL \
         RETURNING size"
    } else {
        "UPDATE blob SET unlinking_until = NULL, kept_upstream = 1 \
         WHERE project_id = $1 AND digest = $2 AND uncharged_at IS NOT NULL AND unlinking_until IS NOT NULL RETURNING size"
    };
    let Some(mut ledger) = open(store, project).await? else { return Ok(()) };
    let ended = query(sql).bind(&*project.0).bind(digest.as_str());
    if let Some(size) = ledger.write.optional(ended, |row| row::size(row, "size")).await? {
        ledger.account.waiting = ledger.account.waiting.saturating_sub(size);
    }
    ledger.commit().await.map(|_| ())
}

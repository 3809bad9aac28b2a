//! Reservations: room that is asked for before bytes go upstream, grows and shrinks with them, and ends by what it was for, by its
//! owner or by time.

use super::account::Ledger;
use super::look::Look;
use super::{CHUNK, FEW, placeholders, size};
use crate::gather::again;
use crate::sql::{Query, SqlStore};
use crate::together::Joined;
use crate::{journal, row};
use portcullis_oci::Digest;
use portcullis_tenancy::quota::{Admission, Claim, Lease};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError, Timestamp};
use sqlx::{AssertSqlSafe, query};
use std::fmt::Write as _;

/// Reservations that one sweep releases; the next one goes on.
const SWEEP: i64 = 1000;

pub(crate) async fn reserve(store: &SqlStore, claim: &Claim) -> Result<Admission> {
    let manifest = claim.manifest.as_ref().map(|(digest, _)| digest);
    let look = Look { reservation: Some(&claim.id), manifest, blobs: &claim.pins, ..Look::default() };
    let (mut ledger, found) = Ledger::look(store, &claim.project, false, look).await?;
    // What is being taken away upstream cannot be held on to, and an upload is one node's at a time.
    if found.blobs.values().any(|blob| blob.is_busy(claim.now)) || found.keeps_out(claim) {
        return Ok(Admission::Busy);
    }
    // What is there and not charged takes up no more storage than it does.
    let there = found.blobs.values().fold(0_u64, |sum, blob| sum.saturating_add(blob.waiting()));
    let (brought, unknown) = match claim.manifest {
        Some((_, size)) => {
            let unpaid = found.unpaid(&claim.pins);
            let own = if unpaid.knows_manifest { 0 } else { size };
            (own.saturating_add(unpaid.bytes), unpaid.unknown)
        }
        None => (0, Vec::new()),
    };
    let have = found.held;
    let all = claim.at_least.saturating_add(brought);
    let least = all.saturating_sub(have);
    let upstream = ledger.shortage_upstream(all.max(have), have, there, claim.waiting_percent);
    if let Some(shortage) = ledger.shortage(least, 0).or(upstream) {
        return Ok(Admission::Refused(shortage));
    }
    let wanted = claim.at_most.saturating_add(brought).saturating_sub(have);
    let more = wanted.min(ledger.room(claim.waiting_percent)).max(least);
    let held = have.saturating_add(more);
    let mut statements = vec![put(claim, held)?];
    statements.extend(claim.pins.chunks(CHUNK).map(|chunk| pin(claim, chunk)));
    let mut locked = None;
    if let Some(entry) = &claim.journal {
        statements.push(journal::note(entry));
        if let Some(until) = claim.lock_until {
            match journal::lock_only_tag(entry, until) {
                Some(lock) => statements.push(lock),
                None => locked = Some(journal::lock_tags(&mut ledger.write, entry, until).await?),
            }
        }
    }
    ledger.account.reserved = ledger.account.reserved.saturating_add(more);
    let (account, rows) = ledger.commit_with(statements).await?;
    // Of all that, only the lock on a tag returns a row.
    Ok(Admission::Granted { held, account, locked: locked.unwrap_or(rows > 0), unknown })
}

/// Puts a reservation down that holds so much.
fn put(claim: &Claim, held: u64) -> Result<Query<'_>> {
    let put = query(
        "INSERT INTO reservation (id, project_id, robot_id, bytes, purpose, expires_at, worker, working_until) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes, expires_at = excluded.expires_at, \
         worker = coalesce(excluded.worker, reservation.worker), \
         working_until = coalesce(excluded.working_until, reservation.working_until)",
    );
    Ok(put
        .bind(&*claim.id)
        .bind(&*claim.project.0)
        .bind(claim.robot.as_ref().map(|robot| &*robot.0))
        .bind(size(held)?)
        .bind(claim.purpose.name())
        .bind(claim.expires_at.as_millisecond())
        .bind(claim.lease.as_ref().map(|lease| &*lease.holder))
        .bind(claim.lease.as_ref().map(|lease| lease.until.as_millisecond())))
}

/// Holds on to blobs for as long as it lasts.
fn pin<'q>(claim: &'q Claim, digests: &'q [Digest]) -> Query<'q> {
    let mut sql = String::from("INSERT INTO pin (project_id, reservation_id, digest) VALUES ");
    for place in 0..digests.len() {
        let separator = if place == 0 { "" } else { ", " };
        let _ = write!(sql, "{separator}($1, $2, ${})", place.saturating_add(3));
    }
    sql.push_str(" ON CONFLICT DO NOTHING");
    let pin = query(AssertSqlSafe(sql)).persistent(digests.len() <= FEW).bind(&*claim.project.0).bind(&*claim.id);
    digests.iter().fold(pin, |pin, digest| pin.bind(digest.as_str()))
}

/// Whose reservation it is; none where there is none.
async fn project_of(store: &SqlStore, id: &str) -> Result<Option<ProjectId>> {
    let find = query("SELECT project_id FROM reservation WHERE id = $1").bind(id);
    store.optional(find, |row| Ok(ProjectId(row::boxed(row, "project_id")?))).await
}

/// Nothing where another node has the lease by now.
pub(crate) async fn shrink(store: &SqlStore, id: &str, holder: &str, bytes: u64, expires_at: Timestamp) -> Result<()> {
    let Some(project) = project_of(store, id).await? else { return Ok(()) };
    let mut ledger = Ledger::open(store, &project, true).await?;
    let held = query("SELECT bytes FROM reservation WHERE id = $1 AND (worker IS NULL OR worker = $2)");
    let held = held.bind(id).bind(holder);
    let Some(held) = ledger.write.look(held, |row| row::size(row, "bytes")).await?.pop() else { return Ok(()) };
    let left = held.min(bytes);
    let put = query("UPDATE reservation SET bytes = $2, expires_at = $3 WHERE id = $1");
    ledger.write.execute(put.bind(id).bind(size(left)?).bind(expires_at.as_millisecond())).await?;
    ledger.account.reserved = ledger.account.reserved.saturating_sub(held.saturating_sub(left));
    ledger.commit().await.map(|_| ())
}

pub(crate) async fn release(store: &SqlStore, id: &str) -> Result<()> {
    let Some(project) = project_of(store, id).await? else {
        return journal::strike_out(store, id).await;
    };
    let look = Look { reservation: Some(id), ..Look::default() };
    let (mut ledger, found) = match Ledger::look(store, &project, true, look).await {
        Err(StoreError::Missing) => return Ok(()),
        opened => opened?,
    };
    let end = ledger.end_reservation(id, found.held);
    ledger.commit_with(vec![end, query("DELETE FROM journal WHERE id = $1").bind(id)]).await.map(|_| ())
}

/// Releases what nobody has renewed. What is in the journal too is left to whoever finds out what became of it; an upload's is
/// released with the upload.
pub(crate) async fn sweep(store: &SqlStore, now: Timestamp) -> Result<u64> {
    let ended = query(
        "SELECT id FROM reservation WHERE expires_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.id = reservation.id) \
         AND NOT EXISTS (SELECT 1 FROM upload WHERE upload.id = reservation.id) ORDER BY expires_at LIMIT $2",
    );
    let ended = ended.bind(now.as_millisecond()).bind(SWEEP);
    let mut released = 0_u64;
    for id in store.all(ended, |row| row::boxed(row, "id")).await? {
        released = released.saturating_add(u64::from(again(|| release_ended(store, &id, now)).await?));
    }
    Ok(released)
}

/// Releases a reservation where nobody has renewed it since.
async fn release_ended(store: &SqlStore, id: &str, now: Timestamp) -> Result<bool> {
    let Some(project) = project_of(store, id).await? else { return Ok(false) };
    let look = Look { reservation: Some(id), ..Look::default() };
    let (mut ledger, found) = match Ledger::look(store, &project, true, look).await {
        Err(StoreError::Missing) => return Ok(false),
        opened => opened?,
    };
    let still = query("SELECT 1 AS found FROM reservation WHERE id = $1 AND expires_at < $2");
    if ledger.write.look(still.bind(id).bind(now.as_millisecond()), |_| Ok(())).await?.is_empty() {
        return Ok(false);
    }
    let end = ledger.end_reservation(id, found.held);
    ledger.commit_with(vec![end]).await.map(|_| true)
}

pub(crate) async fn renew(
    store: &SqlStore,
    ids: &[Box<str>],
    now: Timestamp,
    until: Timestamp,
    lease: Option<&Lease>,
) -> Result<()> {
    // Whoever has one of these rows is at work at it, and may be waiting for another one of them: he is not waited for.
    let lock = if store.joined() == Joined::Within { " FOR UPDATE SKIP LOCKED" } else { "" };
    for chunk in ids.chunks(CHUNK) {
        let rows = |set: &str, table: &str, first: usize| {
            let mut sql = format!("UPDATE {table} SET {set} WHERE id IN (SELECT id FROM {table} WHERE id IN (");
            placeholders(&mut sql, first, chunk.len());
            let _ = write!(sql, "){lock})");
            query(AssertSqlSafe(sql)).persistent(chunk.len() <= FEW)
        };
        let set = "expires_at = CASE WHEN expires_at < $1 THEN $1 ELSE expires_at END, \
            working_until = CASE WHEN worker = $2 THEN $3 ELSE working_until END";
        let reservations = rows(set, "reservation", 4)
            .bind(until.as_millisecond())
            .bind(lease.map_or("", |lease| &*lease.holder))
            .bind(lease.map_or(0, |lease| lease.until.as_millisecond()));
        let entries = rows("touched_at = $1", "journal", 2).bind(now.as_millisecond());
        let bound = [reservations, entries].map(|rows| chunk.iter().fold(rows, |rows, id| rows.bind(&**id)));
        store.together(bound.into()).await?;
    }
    Ok(())
}

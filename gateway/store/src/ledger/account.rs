//! A project's account. Whoever changes what a project is charged with holds its row from the first look to the commit: the
//! counters are always the sums of the rows, and no two admissions count the same room.

use super::blob;
use super::look::{Found, Look, Standing, looking, read_look};
use super::size;
use crate::row;
use crate::sql::{Query, SqlStore, Write, bounded};
use portcullis_oci::{Digest, RepositoryName};
use portcullis_tenancy::quota::{Account, Breakdown, Shortage, Total};
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError};
use sqlx::any::AnyRow;
use sqlx::query;

macro_rules! sum {
    ($column:expr) => {
        concat!("CAST(coalesce(sum(", $column, "), 0) AS BIGINT)")
    };
}

/// A sum over all projects, in two parts: all of it may be more than a column takes.
macro_rules! wide_sum {
    ($of:literal) => {
        concat!(
            sum!(concat!($of, "_bytes / 1048576")),
            " AS ",
            $of,
            "_mib, ",
            sum!(concat!($of, "_bytes % 1048576")),
            " AS ",
            $of,
            "_rest"
        )
    };
}

fn read_wide(row: &AnyRow, [mib, rest]: [&str; 2]) -> Result<u64> {
    Ok(row::size(row, mib)?.saturating_mul(1 << 20).saturating_add(row::size(row, rest)?))
}

/// A project's account in a transaction that holds its row.
pub(crate) struct Ledger {
    pub(crate) write: Write,
    project: ProjectId,
    before: Account,
    pub(crate) account: Account,
    /// The cap over all projects and what the others use.
    total: Option<(u64, u64)>,
}

impl Ledger {
    /// Takes the project's account; `Missing` where the project is gone or, unless `any`, deleted.
    pub(crate) async fn open(store: &SqlStore, project: &ProjectId, any: bool) -> Result<Self> {
        Self::look(store, project, any, Look::default()).await.map(|(ledger, _)| ledger)
    }

    /// The same, and looks at more of it on the same way.
    pub(crate) async fn look(
        store: &SqlStore,
        project: &ProjectId,
        any: bool,
        look: Look<'_>,
    ) -> Result<(Self, Found)> {
        let mut write = store.write_ledger(project).await?;
        let (select, further) = looking(project, any, look);
        let rows = write.look(select, read_look).await?;
        let (standing, mut found) = Found::of(rows).ok_or(StoreError::Missing)?;
        let Standing { mut account, cap } = standing;
        if let Some(Account { committed, reserved, waiting, .. }) = write.account_before() {
            account = Account { committed, reserved, waiting, ..account };
        }
        found.blobs.extend(blob::known(&mut write, project, further).await?);
        let total = match cap {
            None => None,
            Some(cap) => {
                let others = query(concat!(
                    "SELECT ",
                    wide_sum!("committed"),
                    ", ",
                    wide_sum!("reserved"),
                    " FROM project WHERE id <> $1"
                ));
                let read = |row: &AnyRow| {
                    Ok(read_wide(row, ["committed_mib", "committed_rest"])?
                        .saturating_add(read_wide(row, ["reserved_mib", "reserved_rest"])?))
                };
                let others = write.look(others.bind(&*project.0), read).await?.pop();
                others.map(|others| (cap, others))
            }
        };
        let ledger = Self { write, project: project.clone(), before: account, account, total };
        Ok((ledger, found))
    }

    /// What is missing for `more` bytes beyond `released` ones, if anything is.
    pub(crate) fn shortage(&self, more: u64, released: u64) -> Option<Shortage> {
        let asked = more.saturating_sub(released);
        let refused = |total| Some(Shortage { account: self.before, asked, total, waits: false });
        if asked > 0 && asked > self.before.room() {
            return refused(None);
        }
        match self.total {
            Some((cap, others)) => {
                let used = others.saturating_add(self.before.used());
                if asked > 0 && asked > cap.saturating_sub(used) { refused(Some((cap, used))) } else { None }
            }
            None => None,
        }
    }

    /// The same where what was deleted and waits upstream may be so many percent of the quota, for a reservation that grows to
    /// `all` bytes of which so many are there already.
    pub(super) fn shortage_upstream(
        &self,
        all: u64,
        held: u64,
        there: u64,
        waiting_percent: Option<u32>,
    ) -> Option<Shortage> {
        let others = Account { reserved: self.before.reserved.saturating_sub(held), ..self.before };
        let free = others.free_upstream(waiting_percent?)?;
        let asked = all.saturating_sub(held.max(there));
        let is_short = asked > 0 && all.saturating_sub(there) > free;
        is_short.then_some(Shortage { account: self.before, asked, total: None, waits: true })
    }

    /// So much is not charged any more, and waits until it is taken away.
    pub(crate) fn uncharge(&mut self, size: u64) {
        self.account.committed = self.account.committed.saturating_sub(size);
        self.account.waiting = self.account.waiting.saturating_add(size);
    }

    /// How many bytes more there is room for.
    pub(super) fn room(&self, waiting_percent: Option<u32>) -> u64 {
        let upstream = waiting_percent.and_then(|percent| self.before.free_upstream(percent));
        let own = self.before.room().min(upstream.unwrap_or(u64::MAX));
        let all = self.total.map(|(cap, others)| cap.saturating_sub(others.saturating_add(self.before.used())));
        own.min(all.unwrap_or(u64::MAX))
    }

    /// Ends a reservation that was looked at and held so much, as one statement of several.
    pub(crate) fn end_reservation<'q>(&mut self, id: &'q str, held: u64) -> Query<'q> {
        self.account.reserved = self.account.reserved.saturating_sub(held);
        query("DELETE FROM reservation WHERE id = $1 AND project_id = $2").bind(id).bind(self.project.0.to_string())
    }

    /// Sees to it that the account is written down, and makes all of it durable.
    pub(crate) async fn commit(self) -> Result<Account> {
        self.commit_with(Vec::new()).await.map(|(account, _)| account)
    }

    /// The same with these statements, which go along in one go. Returns how many rows they return.
    pub(crate) async fn commit_with(mut self, mut statements: Vec<Query<'_>>) -> Result<(Account, usize)> {
        if self.account != self.before {
            // What no column takes is this one's fault, and not its lot's.
            let save = save(&self.project, &self.account)?;
            if !self.write.defer(self.account) {
                statements.insert(0, save);
            }
        }
        let rows = self.write.commit_with(statements).await?;
        Ok((self.account, rows))
    }
}

/// Writes a project's account down.
pub(crate) fn save<'q>(project: &'q ProjectId, account: &Account) -> Result<Query<'q>> {
    let save = query("UPDATE project SET committed_bytes = $2, reserved_bytes = $3, waiting_bytes = $4 WHERE id = $1");
    let save = save.bind(&*project.0).bind(size(account.committed)?).bind(size(account.reserved)?);
    Ok(save.bind(size(account.waiting)?))
}

pub(crate) async fn one(store: &SqlStore, project: &ProjectId) -> Result<Account> {
    let find = query(
        "SELECT quota_bytes, soft_percent, committed_bytes, reserved_bytes, waiting_bytes FROM project WHERE id = $1",
    );
    store.optional(find.bind(&*project.0), read).await?.ok_or(StoreError::Missing)
}

pub(crate) async fn all(store: &SqlStore) -> Result<Vec<(ProjectId, Account)>> {
    let find = query(bounded!(
        "SELECT id, quota_bytes, soft_percent, committed_bytes, reserved_bytes, waiting_bytes FROM project WHERE deleted_at IS NULL ORDER BY name"
    ));
    store.all(find, |row| Ok((ProjectId(row::boxed(row, "id")?), read(row)?))).await
}

pub(crate) async fn set(
    store: &SqlStore,
    project: &ProjectId,
    quota: Option<u64>,
    soft_percent: Option<u8>,
) -> Result<()> {
    let mut write = store.write().await?;
    let set = query("UPDATE project SET quota_bytes = $2, soft_percent = $3 WHERE id = $1 AND deleted_at IS NULL");
    let set = set.bind(&*project.0).bind(quota.map(size).transpose()?).bind(soft_percent.map(i64::from));
    write.must(set).await?;
    write.commit().await
}

pub(crate) async fn total(store: &SqlStore) -> Result<Total> {
    let find = query(concat!(
        "SELECT (SELECT total_bytes FROM house) AS cap, ",
        wide_sum!("committed"),
        ", ",
        wide_sum!("reserved"),
        " FROM project"
    ));
    let read = |row: &AnyRow| {
        Ok(Total {
            cap: row::optional_size(row, "cap")?,
            committed: read_wide(row, ["committed_mib", "committed_rest"])?,
            reserved: read_wide(row, ["reserved_mib", "reserved_rest"])?,
        })
    };
    Ok(store.optional(find, read).await?.unwrap_or_default())
}

pub(crate) async fn set_total(store: &SqlStore, cap: Option<u64>) -> Result<()> {
    store.execute(query("UPDATE house SET total_bytes = $1").bind(cap.map(size).transpose()?)).await.map(|_| ())
}

pub(crate) async fn recount(store: &SqlStore, project: &ProjectId, repair: bool) -> Result<(u64, u64)> {
    let mut ledger = Ledger::open(store, project, true).await?;
    let sum = query(
        "SELECT CAST((SELECT coalesce(sum(size), 0) FROM blob WHERE project_id = $1 AND uncharged_at IS NULL) + \
             (SELECT coalesce(sum(one.size), 0) FROM (SELECT max(size) AS size FROM manifest WHERE project_id = $1 GROUP BY digest) AS one) \
             AS BIGINT) AS used, \
         CAST((SELECT coalesce(sum(size), 0) FROM blob WHERE project_id = $1 AND uncharged_at IS NOT NULL AND kept_upstream = 0) \
             AS BIGINT) AS waiting",
    );
    let counted = ledger.account.committed;
    let read = |row: &AnyRow| Ok((row::size(row, "used")?, row::size(row, "waiting")?));
    let (recorded, waiting) = ledger.write.optional(sum.bind(&*project.0), read).await?.unwrap_or_default();
    // Nothing is refused by it that another sum would let pass for good, and a node of an older version does not keep it.
    if ledger.account.waiting != waiting {
        tracing::warn!(
            project = &*project.0,
            counted = ledger.account.waiting,
            recorded = waiting,
            "what waits to be taken away was counted anew"
        );
        ledger.account.waiting = waiting;
    }
    if repair {
        ledger.account.committed = recorded;
    }
    ledger.commit().await?;
    Ok((counted, recorded))
}

pub(crate) async fn breakdown(store: &SqlStore, project: &ProjectId, limit: u32) -> Result<Breakdown> {
    let reclaimable = query(concat!(
        "SELECT ",
        sum!("size"),
        " AS bytes FROM blob WHERE project_id = $1 AND uncharged_at IS NULL AND orphan_since IS NOT NULL"
    ));
    let reclaimable = store.optional(reclaimable.bind(&*project.0), |row| row::size(row, "bytes")).await?;
    let repositories = query(concat!(
        "SELECT held.repository, ",
        sum!("held.size"),
        " AS bytes FROM (SELECT link.repository, blob.size FROM link \
           JOIN blob ON blob.project_id = link.project_id AND blob.digest = link.digest \
           WHERE link.project_id = $1 AND blob.uncharged_at IS NULL \
         UNION ALL SELECT repository, size FROM manifest WHERE project_id = $1) AS held \
         GROUP BY held.repository ORDER BY bytes DESC, held.repository LIMIT $2"
    ));
    let read = |row: &AnyRow| Ok((row::parse(row, "repository", RepositoryName::parse)?, row::size(row, "bytes")?));
    let repositories = store.all(repositories.bind(&*project.0).bind(i64::from(limit)), read).await?;
    let blobs = query(
        "SELECT digest, size FROM blob WHERE project_id = $1 AND uncharged_at IS NULL ORDER BY size DESC, digest LIMIT $2",
    );
    let read = |row: &AnyRow| Ok((row::parse(row, "digest", Digest::parse)?, row::size(row, "size")?));
    let blobs = store.all(blobs.bind(&*project.0).bind(i64::from(limit)), read).await?;
    Ok(Breakdown { reclaimable: reclaimable.unwrap_or_default(), repositories, blobs })
}

pub(super) fn read(row: &AnyRow) -> Result<Account> {
    let soft_percent = row::optional_size(row, "soft_percent")?;
    Ok(Account {
        quota: row::optional_size(row, "quota_bytes")?,
        soft_percent: soft_percent.map(|percent| row::parsed("soft_percent", percent, u8::try_from)).transpose()?,
        committed: row::size(row, "committed_bytes")?,
        reserved: row::size(row, "reserved_bytes")?,
        waiting: row::size(row, "waiting_bytes")?,
    })
}

//! Writes that have to stand in a row share a transaction: while one lot is made durable, the next ones queue, and all that
//! queue go into the next lot, each behind a savepoint of its own. Nobody hears of a write before its lot is durable, and each
//! sees what those before it have written: one after another, as without it, at the price of one flush for all.
//!
//! On PostgreSQL a savepoint is a way of its own. A write that only looks before it changes all with its last statement goes bare,
//! without one: where it fails or is given up, the lot is undone, and whoever shared it goes again.

use crate::ledger::account::save;
use crate::postgres;
use crate::sql::{DEADLINE, Query, failed, failure};
use crate::together::Joined;
use portcullis_tenancy::quota::Account;
use portcullis_tenancy::store::Result;
use portcullis_tenancy::{ProjectId, StoreError};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Transaction, query, raw_sql};
use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

/// How long the next lot is let grow where the last one was several writes: they share more of what each transaction costs.
/// Nothing is locked in the database meanwhile, and a write that comes later than that does not wait.
const PAUSE: Duration = Duration::from_millis(4);

/// What comes after a member's last statement on SQLite.
pub(crate) const RELEASE: &str = "RELEASE member";

/// How often a write is tried that others drag along.
const TRIES: usize = 3;

/// A lot was undone, and this write with it.
#[derive(Clone, Debug, thiserror::Error)]
enum Undone {
    /// Its end failed: nobody knows whether it is durable.
    #[error("the transaction that it shares with others did not end well: {0}")]
    Failed(String),
    /// It was undone before its end, through another write's fault: nothing of this one is left.
    #[error("it was undone with another write of its transaction")]
    Dragged,
}

/// Carries a call out whose write may be dragged along by another one, and then again.
pub(crate) async fn again<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let is_dragged = |error: &StoreError| match error {
        StoreError::Failed(error) => matches!(error.downcast_ref(), Some(Undone::Dragged)),
        _ => false,
    };
    for _ in 1..TRIES {
        match call().await {
            Err(error) if is_dragged(&error) => {}
            answered => return answered,
        }
    }
    call().await
}

/// Where writes stand in a row. The queue is fair and does not spin, unlike a file's lock.
pub(crate) struct Queue {
    pool: AnyPool,
    begin: &'static str,
    /// Whose account a lot takes before all, where the database has more than one writer.
    project: Option<ProjectId>,
    joined: Joined,
    /// Nobody goes bare until a lot has ended well: the last one was undone.
    is_careful: AtomicBool,
    lot: Arc<Mutex<Option<Lot>>>,
}

/// A transaction under way.
struct Lot {
    tx: Transaction<'static, Any>,
    /// Who waits for its end.
    members: Vec<oneshot::Sender<std::result::Result<(), Undone>>>,
    /// What the account has by now, where a lot is one account's: it is written down once, by the lot's end.
    account: Option<Account>,
    left: Left,
    /// Somebody queues to end it.
    is_ending: bool,
    savepoints: Savepoints,
}

/// What the last member has left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It came to its end, or has not begun.
    Nothing,
    /// What it did since its savepoint, to be undone.
    SinceSavepoint,
    /// A bare statement: all is to be undone.
    Bare,
}

/// The names of the members' savepoints: going back to one that was not reached must fail, and never go back to somebody else's.
enum Savepoints {
    /// One name for all, since it goes along with a prepared statement; none is left when the next one comes.
    Named,
    /// Numbered, and the last one stays until the next one comes: one way less for each.
    Numbered { last: u64, is_left: bool },
}

impl Savepoints {
    fn next(&mut self) -> Cow<'static, str> {
        match self {
            Self::Named => "SAVEPOINT member".into(),
            Self::Numbered { last, is_left } => {
                let before = std::mem::replace(is_left, true).then(|| format!("RELEASE member{last}; "));
                *last = last.saturating_add(1);
                format!("{}SAVEPOINT member{last}", before.unwrap_or_default()).into()
            }
        }
    }

    /// Back to before the last one, which goes.
    fn undo(&mut self) -> Cow<'static, str> {
        match self {
            Self::Named => "ROLLBACK TO member; RELEASE member".into(),
            Self::Numbered { last, is_left } => {
                *is_left = false;
                format!("ROLLBACK TO member{last}; RELEASE member{last}").into()
            }
        }
    }
}

/// A write whose turn it is; undone where it is dropped before its commit.
pub(crate) struct Member {
    queue: Arc<Queue>,
    /// None once it is over.
    turn: Option<OwnedMutexGuard<Option<Lot>>>,
    /// Its savepoint has been asked for.
    is_marked: bool,
    account_after: Option<Account>,
}

impl Queue {
    /// The queue of all who write to a SQLite file. A deferred transaction that wants to write after it has read fails where
    /// another has written meanwhile.
    pub(crate) fn of_file(pool: AnyPool) -> Arc<Self> {
        Self::new(pool, "BEGIN IMMEDIATE", None, Joined::Listed)
    }

    /// The queue of those who write to one project's ledger on PostgreSQL.
    pub(crate) fn of_account(pool: AnyPool, project: ProjectId) -> Arc<Self> {
        Self::new(pool, "BEGIN", Some(project), Joined::Within)
    }

    fn new(pool: AnyPool, begin: &'static str, project: Option<ProjectId>, joined: Joined) -> Arc<Self> {
        Arc::new(Self { pool, begin, project, joined, is_careful: AtomicBool::new(false), lot: Arc::default() })
    }

    /// Closes its connections once their calls are done.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Waits for its turn.
    pub(crate) async fn join(self: &Arc<Self>) -> Result<Member> {
        let mut turn = Arc::clone(&self.lot).lock_owned().await;
        if let Some(lot) = turn.as_mut()
            && let Err(error) = lot.mend().await
        {
            self.undo(turn.take(), &error);
        }
        if turn.is_none() {
            let mut tx = self.pool.begin_with(self.begin).await.map_err(failed)?;
            if let Some(project) = &self.project {
                postgres::take_account(&mut tx, project).await?;
            }
            let savepoints = match self.joined {
                Joined::Listed => Savepoints::Named,
                Joined::Within => Savepoints::Numbered { last: 0, is_left: false },
            };
            *turn =
                Some(Lot { tx, members: Vec::new(), account: None, left: Left::Nothing, is_ending: false, savepoints });
        }
        Ok(Member { queue: Arc::clone(self), turn: Some(turn), is_marked: false, account_after: None })
    }

    /// Undoes a lot, and tells its members that it was not their fault.
    fn undo(&self, lot: Option<Lot>, why: &str) {
        tracing::warn!(why, "a transaction was undone, with all writes in it");
        self.is_careful.store(true, Ordering::Relaxed);
        for member in lot.into_iter().flat_map(|lot| lot.members) {
            let _ = member.send(Err(Undone::Dragged));
        }
    }

    /// Ends the lot, once all have had their turn who waited for it.
    async fn end(self: Arc<Self>) {
        let mut turn = self.lot.lock().await;
        let Some(mut lot) = turn.take() else { return };
        if let Err(error) = lot.mend().await {
            return self.undo(Some(lot), &error);
        }
        let Lot { mut tx, members, account, .. } = lot;
        let ending = async {
            if members.is_empty() {
                return tx.rollback().await.map_err(failed);
            }
            if let Some((project, account)) = self.project.as_ref().zip(account) {
                save(project, &account)?.execute(&mut *tx).await.map_err(failed)?;
            }
            tx.commit().await.map_err(failed)
        };
        let outcome = match tokio::time::timeout(DEADLINE, ending).await {
            Ok(ended) => ended.map_err(|error| Undone::Failed(error.to_string())),
            Err(late) => Err(Undone::Failed(late.to_string())),
        };
        self.is_careful.fetch_and(outcome.is_err(), Ordering::Relaxed);
        let is_dense = outcome.is_ok() && members.len() > 1;
        for member in members {
            // Whoever does not wait any more need not hear of it.
            let _ = member.send(outcome.clone());
        }
        if is_dense {
            // Nobody has his turn meanwhile.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Lot {
    /// Undoes what the last member left behind; where it cannot, says why all has to be undone.
    async fn mend(&mut self) -> std::result::Result<(), String> {
        match self.left {
            Left::Nothing => {}
            Left::Bare => return Err("a write in it failed, or was given up".to_owned()),
            Left::SinceSavepoint => {
                // Where the savepoint was not reached, or the database has undone all by itself, there is none, and this fails.
                let undo = raw_sql(AssertSqlSafe(self.savepoints.undo()));
                let undone = tokio::time::timeout(DEADLINE, undo.execute(&mut *self.tx)).await;
                undone.map_err(|late| late.to_string())?.map_err(|error| error.to_string())?;
                self.left = Left::Nothing;
            }
        }
        Ok(())
    }
}

impl Member {
    /// The connection, for statements.
    pub(crate) async fn connection(&mut self) -> Result<&mut AnyConnection> {
        if let Some(mark) = self.mark()? {
            raw_sql(AssertSqlSafe(mark)).execute(&mut *self.lot()?.tx).await.map_err(failed)?;
        }
        Ok(&mut self.lot()?.tx)
    }

    /// What has to go before its first statement. From here on it is undone where it does not come to its end.
    pub(crate) fn mark(&mut self) -> Result<Option<Cow<'static, str>>> {
        if std::mem::replace(&mut self.is_marked, true) {
            return Ok(None);
        }
        let lot = self.lot()?;
        lot.left = Left::SinceSavepoint;
        Ok(Some(lot.savepoints.next()))
    }

    /// Runs a statement without a savepoint. One that changes something is its last: until its commit, which follows in one go,
    /// its lot is undone where it is given up.
    pub(crate) async fn bare(&mut self, query: Query<'_>, changes: bool) -> Result<Vec<AnyRow>> {
        let lot = self.lot()?;
        lot.left = Left::Bare;
        let rows = query.fetch_all(&mut *lot.tx).await.map_err(failed)?;
        lot.left = if changes { Left::Bare } else { Left::Nothing };
        Ok(rows)
    }

    /// What those before it have made of the account, where it is not written down yet.
    pub(crate) fn account_before(&self) -> Option<Account> {
        self.turn.as_ref()?.as_ref()?.account
    }

    /// Leaves the account, as it is after this write, for its lot's end to write down. Whether lots do that here.
    pub(crate) fn defer(&mut self, account: Account) -> bool {
        self.account_after = self.queue.project.is_some().then_some(account);
        self.account_after.is_some()
    }

    /// Whether its next statement may go without a savepoint.
    pub(crate) fn may_be_bare(&self) -> bool {
        !self.is_marked && self.joined() == Joined::Within && !self.queue.is_careful.load(Ordering::Relaxed)
    }

    /// The connection for a first statement that has the mark before it.
    pub(crate) fn marked(&mut self) -> Result<&mut AnyConnection> {
        Ok(&mut self.lot()?.tx)
    }

    /// How several statements go to it at once.
    pub(crate) fn joined(&self) -> Joined {
        self.queue.joined
    }

    /// Makes it durable, together with others.
    pub(crate) async fn commit(mut self) -> Result<()> {
        if self.is_marked && self.joined() == Joined::Listed {
            query(RELEASE).execute(&mut *self.lot()?.tx).await.map_err(failed)?;
        }
        self.commit_released().await
    }

    /// The same where nothing has to follow its last statement: [`RELEASE`] was that one, or its savepoint stays.
    pub(crate) async fn commit_released(mut self) -> Result<()> {
        let (told, outcome) = oneshot::channel();
        let account = self.account_after;
        let lot = self.lot()?;
        lot.left = Left::Nothing;
        lot.account = account.or(lot.account);
        lot.members.push(told);
        drop(self);
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(undone)) => Err(failure(undone)),
            Err(_) => Err(failure(Undone::Failed("its transaction broke".to_owned()))),
        }
    }

    fn lot(&mut self) -> Result<&mut Lot> {
        let lot = self.turn.as_mut().and_then(|turn| turn.as_mut());
        lot.ok_or_else(|| failure(Undone::Failed("it is over".to_owned())))
    }
}

/// Whoever is next has his turn; behind all that wait already, the lot is ended.
impl Drop for Member {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else { return };
        let Some(lot) = turn.as_mut().filter(|lot| !lot.is_ending) else { return };
        match Handle::try_current() {
            Ok(runtime) => {
                lot.is_ending = true;
                runtime.spawn(Arc::clone(&self.queue).end());
            }
            // Nobody could end it: it is undone.
            Err(_) => *turn = None,
        }
    }
}

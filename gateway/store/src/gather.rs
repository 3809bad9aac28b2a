//! Writes that have to stand in a row share a transaction: while one lot is made durable, the next ones queue, and all that
//! queue go into the next lot, each behind a savepoint of its own. Nobody hears of a write before its lot is durable, and each
//! sees what those before it have written: one after another, as without it, at the price of one flush for all.

use crate::sql::{DEADLINE, failed, failure};
use crate::together::Joined;
use portcullis_tenancy::store::Result;
use sqlx::any::Any;
use sqlx::{AnyConnection, AnyPool, Transaction, query};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

/// What goes before a member's first statement. All have the one name, and none is left when the next one comes: where there is
/// none, going back to it fails, and never goes back to somebody else's.
const MARK: &str = "SAVEPOINT member";
/// What comes after its last one.
pub(crate) const RELEASE: &str = "RELEASE member";

/// A lot was undone, and this write with it.
#[derive(Debug, thiserror::Error)]
#[error("it was undone together with others: {0}")]
struct Undone(String);

/// Where writes stand in a row. The queue is fair and does not spin, unlike a file's lock.
pub(crate) struct Queue {
    pool: AnyPool,
    begin: &'static str,
    joined: Joined,
    lot: Arc<Mutex<Option<Lot>>>,
}

/// A transaction under way.
struct Lot {
    tx: Transaction<'static, Any>,
    /// Who waits for its end.
    members: Vec<oneshot::Sender<std::result::Result<(), String>>>,
    /// The last member has not come to its end: what it did is undone.
    is_torn: bool,
    /// Somebody queues to end it.
    is_ending: bool,
}

/// A write whose turn it is; undone where it is dropped before its commit.
pub(crate) struct Member {
    queue: Arc<Queue>,
    /// None once it is over.
    turn: Option<OwnedMutexGuard<Option<Lot>>>,
    /// Its savepoint has been asked for.
    is_marked: bool,
}

impl Queue {
    /// A queue whose transactions begin like this.
    pub(crate) fn new(pool: AnyPool, begin: &'static str, joined: Joined) -> Arc<Self> {
        Arc::new(Self { pool, begin, joined, lot: Arc::default() })
    }

    /// Waits for its turn.
    pub(crate) async fn join(self: &Arc<Self>) -> Result<Member> {
        let mut turn = Arc::clone(&self.lot).lock_owned().await;
        if let Some(lot) = turn.as_mut()
            && let Err(error) = lot.mend().await
        {
            // Its members are told by its end.
            tracing::warn!(%error, "a transaction was undone, with all writes in it");
            *turn = None;
        }
        if turn.is_none() {
            let tx = self.pool.begin_with(self.begin).await.map_err(failed)?;
            *turn = Some(Lot { tx, members: Vec::new(), is_torn: false, is_ending: false });
        }
        Ok(Member { queue: Arc::clone(self), turn: Some(turn), is_marked: false })
    }

    /// Ends the lot, once all have had their turn who waited for it.
    async fn end(self: Arc<Self>) {
        let mut turn = self.lot.lock().await;
        let Some(mut lot) = turn.take() else { return };
        let members = std::mem::take(&mut lot.members);
        let ending = async {
            lot.mend().await?;
            if members.is_empty() { lot.tx.rollback().await } else { lot.tx.commit().await }
        };
        let outcome = match tokio::time::timeout(DEADLINE, ending).await {
            Ok(ended) => ended.map_err(|error| error.to_string()),
            Err(late) => Err(late.to_string()),
        };
        for member in members {
            // Whoever does not wait any more need not hear of it.
            let _ = member.send(outcome.clone());
        }
    }
}

impl Lot {
    /// Undoes what the last member left behind.
    async fn mend(&mut self) -> sqlx::Result<()> {
        if self.is_torn {
            // Where the savepoint was not reached, or the database has undone all by itself, there is none, and this fails.
            query("ROLLBACK TO member").execute(&mut *self.tx).await?;
            query(RELEASE).execute(&mut *self.tx).await?;
            self.is_torn = false;
        }
        Ok(())
    }
}

impl Member {
    /// The connection, for statements.
    pub(crate) async fn connection(&mut self) -> Result<&mut AnyConnection> {
        if let Some(mark) = self.mark()? {
            query(mark).execute(&mut *self.lot()?.tx).await.map_err(failed)?;
        }
        Ok(&mut self.lot()?.tx)
    }

    /// What has to go before its first statement. From here on it is undone where it does not come to its end.
    pub(crate) fn mark(&mut self) -> Result<Option<&'static str>> {
        self.lot()?.is_torn = true;
        Ok((!std::mem::replace(&mut self.is_marked, true)).then_some(MARK))
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
        if self.is_marked {
            query(RELEASE).execute(&mut *self.lot()?.tx).await.map_err(failed)?;
        }
        self.commit_released().await
    }

    /// The same where [`RELEASE`] was its last statement.
    pub(crate) async fn commit_released(mut self) -> Result<()> {
        let (told, outcome) = oneshot::channel();
        let lot = self.lot()?;
        lot.is_torn = false;
        lot.members.push(told);
        drop(self);
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(failure(Undone(why))),
            Err(_) => Err(failure(Undone("its transaction broke".to_owned()))),
        }
    }

    fn lot(&mut self) -> Result<&mut Lot> {
        let lot = self.turn.as_mut().and_then(|turn| turn.as_mut());
        lot.ok_or_else(|| failure(Undone("it is over".to_owned())))
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

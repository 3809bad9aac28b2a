//! Handshakes take turns: between two of them everything else that a thread has to do gets its own, however many there are.
//!
//! A handshake costs some hundred microseconds of cryptography, a request that stands in line behind a thousand of them half
//! a second. What waits for its client's bytes waits for no turn, so that a client that stops in the middle stops nobody.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::ready;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};

/// Turns in one round. The runtime's rounds have some dozens of tasks, and end where nothing is left to do.
const TURNS: usize = 4;

/// The turnstile of one thread.
pub struct Turnstile {
    turns: Arc<Semaphore>,
    taken: Notify,
}

type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl Turnstile {
    /// All turns of the first round are there.
    pub fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(TURNS)), taken: Notify::new() }
    }

    /// Gives out the turns of each round, as long as it is polled.
    pub async fn turn(&self) {
        loop {
            self.taken.notified().await;
            // Woken behind all that is ready now.
            tokio::task::yield_now().await;
            self.turns.add_permits(TURNS.saturating_sub(self.turns.available_permits()));
        }
    }

    /// Polls this with a turn each time.
    pub async fn pass<T>(&self, handshake: impl Future<Output = T>) -> T {
        let mut handshake = pin!(handshake);
        let mut waiting: Option<Waiting> = None;
        std::future::poll_fn(move |cx| {
            if waiting.is_none()
                && let Ok(turn) = self.turns.try_acquire()
            {
                turn.forget();
            } else {
                let waits = waiting.get_or_insert_with(|| Box::pin(Arc::clone(&self.turns).acquire_owned()));
                if let Ok(turn) = ready!(waits.as_mut().poll(cx)) {
                    turn.forget();
                }
                waiting = None;
            }
            self.taken.notify_one();
            handshake.as_mut().poll(cx)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    /// Ready again at once, so many times: a handshake whose client is fast.
    async fn busy(steps: usize, done: &AtomicUsize) {
        for _ in 0..steps {
            let mut is_polled = false;
            std::future::poll_fn(|cx| {
                done.fetch_add(1, Ordering::Relaxed);
                if std::mem::replace(&mut is_polled, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    #[tokio::test]
    async fn in_one_round_there_are_a_few_turns_however_many_want_one() {
        let turnstile = Arc::new(Turnstile::new());
        let steps = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let turnstile = Arc::clone(&turnstile);
            async move { turnstile.turn().await }
        });
        let all: Vec<_> = (0..200)
            .map(|_| {
                let (turnstile, steps) = (Arc::clone(&turnstile), Arc::clone(&steps));
                tokio::spawn(async move { turnstile.pass(busy(3, &steps)).await })
            })
            .collect();
        let mut rounds = 0_usize;
        while !all.iter().all(tokio::task::JoinHandle::is_finished) {
            let before = steps.load(Ordering::Relaxed);
            tokio::task::yield_now().await;
            // What was left of one round, and the next.
            assert!(steps.load(Ordering::Relaxed) - before <= 2 * TURNS * 3, "in round {rounds}");
            rounds += 1;
        }
        assert!(rounds >= 200 / (2 * TURNS), "{rounds}");
    }

    #[tokio::test]
    async fn who_waits_for_bytes_or_goes_away_keeps_no_turn() {
        let turnstile = Arc::new(Turnstile::new());
        let turning = Arc::clone(&turnstile);
        tokio::spawn(async move { turning.turn().await });
        let stuck: Vec<_> = (0..10 * TURNS)
            .map(|_| {
                let turnstile = Arc::clone(&turnstile);
                tokio::spawn(async move { turnstile.pass(std::future::pending::<()>()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        // Some have had their turn, some wait for one, and all of these go away.
        stuck.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
        let passing = turnstile.pass(async { 7 });
        assert_eq!(tokio::time::timeout(Duration::from_secs(30), passing).await, Ok(7));
        stuck.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

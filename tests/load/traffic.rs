//! Requests at a rate of their own, whatever becomes of the ones before; and how long they took.

use portcullis_tests::http::{Credentials, Http, Response, block_on};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Held by whoever makes load, so that whoever compares times does it while no other test of this program runs.
static ROOM: RwLock<()> = RwLock::new(());

/// For tests that do not mind others.
pub(crate) fn among_others() -> RwLockReadGuard<'static, ()> {
    ROOM.read().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that compare times.
pub(crate) fn by_itself() -> RwLockWriteGuard<'static, ()> {
    ROOM.write().unwrap_or_else(PoisonError::into_inner)
}

/// What one tenant asks for again and again.
#[derive(Clone)]
pub(crate) struct Traffic {
    pub(crate) http: Http,
    pub(crate) path: String,
    pub(crate) who: Credentials,
}

/// What became of requests: each has an answer, and a time from when it was due.
pub(crate) struct Answers(Vec<(u16, Duration)>);

/// Asks so many times a second for so long; a task of its own for each, so that a late answer delays no other. Each answer comes
/// with the time from when it was due to be asked for.
pub(crate) async fn paced<T, F>(per_s: f64, time: Duration, mut ask: impl FnMut() -> F) -> Vec<(T, Duration)>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let begun = tokio::time::Instant::now();
    let mut tasks = Vec::new();
    for number in 0..u32::MAX {
        let offset = Duration::from_secs_f64(f64::from(number) / per_s);
        if offset >= time {
            break;
        }
        let due = begun + offset;
        tokio::time::sleep_until(due).await;
        let asked = ask();
        tasks.push(tokio::spawn(async move { (asked.await, due.elapsed()) }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("every request has an answer"));
    }
    answers
}

/// The time within which 99 of 100 had their answer.
pub(crate) fn p99<T>(answers: &[(T, Duration)]) -> Duration {
    let mut times: Vec<Duration> = answers.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default()
}

impl Traffic {
    async fn once(self) -> Result<Response, String> {
        self.http.get(&self.path).with(&self.who).answer().await
    }

    /// So many requests a second for so long.
    pub(crate) async fn at_rate(self, per_s: f64, time: Duration) -> Answers {
        let ask = || {
            let this = self.clone();
            async move { this.once().await.unwrap_or_else(|error| panic!("no answer: {error}")).status }
        };
        Answers(paced(per_s, time, ask).await)
    }

    /// Requests a second with so many under way at once.
    pub(crate) fn capacity(&self, at_once: usize, time: Duration) -> f64 {
        let begun = Instant::now();
        let counts = block_on(async {
            let workers: Vec<_> = (0..at_once)
                .map(|_| {
                    let this = self.clone();
                    tokio::spawn(async move {
                        let mut count = 0_u32;
                        while begun.elapsed() < time {
                            let answer = this.clone().once().await.unwrap_or_else(|e| panic!("no answer: {e}"));
                            assert_eq!(answer.status, 200, "{answer}");
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            let mut counts = Vec::new();
            for worker in workers {
                counts.push(worker.await.expect("every request has an answer"));
            }
            counts
        });
        f64::from(counts.iter().sum::<u32>()) / begun.elapsed().as_secs_f64()
    }
}

impl Answers {
    /// How many there are with this status.
    pub(crate) fn with(&self, status: u16) -> usize {
        self.0.iter().filter(|(one, _)| *one == status).count()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time within which 99 of 100 had their answer.
    pub(crate) fn p99(&self) -> Duration {
        p99(&self.0)
    }
}

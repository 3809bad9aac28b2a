//! One thread for guests that may not run on the request cores, with a short queue. It yields to every other thread.

mod shares;

use shares::Shares;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Most questions that wait.
const QUEUE: usize = 256;
/// How much it yields (nice(2)).
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped and its queue is empty.
pub struct PolicyThread {
    jobs: SyncSender<Job>,
    shares: Arc<Shares>,
    turned_away: AtomicU64,
}

/// Whose question it is, and how many bytes it holds.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// The project's id.
    pub project: &'a str,
    /// The question's bytes.
    pub bytes: usize,
}

impl PolicyThread {
    /// Starts it.
    pub fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&queue))?;
        Ok(Self { jobs, shares: Arc::default(), turned_away: AtomicU64::new(0) })
    }

    /// Runs something there; none where too much waits already.
    pub async fn run<T: Send + 'static>(&self, load: Load<'_>, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        // Whoever went away does not want the answer any more.
        let job = move || {
            if !sender.is_closed() {
                let _ = sender.send(job());
            }
        };
        self.queue(load, job).then_some(())?;
        answer.await.ok()
    }

    /// The same, with nobody waiting for it.
    pub fn observe(&self, load: Load<'_>, job: impl FnOnce() + Send + 'static) {
        self.queue(load, job);
    }

    /// How often there was no room.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn queue(&self, load: Load<'_>, job: impl FnOnce() + Send + 'static) -> bool {
        let queued = Shares::enter(&self.shares, load).is_some_and(|place| {
            let job = move || {
                job();
                drop(place);
            };
            self.jobs.try_send(Box::new(job)).is_ok()
        });
        if !queued {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        queued
    }
}

fn work(queue: &Receiver<Job>) {
    // On Linux this is the thread's own; where it fails the thread is as good as any other.
    let _ = rustix::process::nice(NICE);
    while let Ok(job) = queue.recv() {
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_projects_flood_leaves_room_for_the_others() {
        let thread = PolicyThread::start("test").unwrap();
        let (go, wait) = channel::<()>();
        let load = |project| Load { project, bytes: 1 };
        thread.observe(load("acme"), move || wait.recv().unwrap());
        let queued = (0..QUEUE).filter(|_| thread.queue(load("acme"), || ())).count();
        assert_eq!(queued, QUEUE / 4 - 1, "with the one that runs");
        let turned_away = thread.turned_away();
        assert!(turned_away > 0);
        assert!(thread.queue(load("globex"), || ()));
        assert_eq!(thread.turned_away(), turned_away);
        go.send(()).unwrap();
        // What is done has left.
        while !thread.queue(load("acme"), || ()) {
            std::thread::yield_now();
        }
    }
}

//! One thread for guests that may not run on the request cores, with a short queue. It yields to every other thread.

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
    turned_away: AtomicU64,
}

impl PolicyThread {
    /// Starts it.
    pub fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&queue))?;
        Ok(Self { jobs, turned_away: AtomicU64::new(0) })
    }

    /// Runs something there; none where too much waits already.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        // Whoever went away does not want the answer any more.
        self.queue(Box::new(move || {
            if !sender.is_closed() {
                let _ = sender.send(job());
            }
        }))
        .then_some(())?;
        answer.await.ok()
    }

    /// The same, with nobody waiting for it.
    pub fn observe(&self, job: impl FnOnce() + Send + 'static) {
        self.queue(Box::new(job));
    }

    /// How often there was no room.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn queue(&self, job: Job) -> bool {
        let queued = self.jobs.try_send(job).is_ok();
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

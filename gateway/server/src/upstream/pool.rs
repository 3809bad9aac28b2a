//! Kept connections of one thread, newest used first, and the places for connections that all threads share.
//!
//! A kept connection holds its place. Whoever waits for one gets a connection that comes back on its own thread, or the
//! place of one that is kept, or comes back, on another.

use super::connect::Connector;
use super::{RequestBody, UpstreamError};
use hyper::client::conn::http1::SendRequest;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a connection may take to find that its last answer is over.
const BREATH: Duration = Duration::from_millis(100);

/// The kept connections of one thread.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Vec<Kept>>,
    /// A connection came back while somebody on this thread waited.
    returned: Notify,
    waiting: AtomicUsize,
    listed: AtomicBool,
}

/// The places for connections to one origin.
pub struct Places {
    count: usize,
    free: Arc<Semaphore>,
    /// Over all threads.
    waiting: AtomicUsize,
    pools: Mutex<Vec<Weak<Pool>>>,
}

/// How the places are used.
pub struct Usage {
    /// How many there are.
    pub most: usize,
    /// Connections that are open, or being opened.
    pub open: usize,
    /// Those of them that nobody uses.
    pub idle: usize,
    /// How many wait for one.
    pub waiting: usize,
}

struct Kept {
    sender: SendRequest<RequestBody>,
    place: OwnedSemaphorePermit,
    since: Instant,
}

/// A connection taken for one exchange. Dropped, it is closed; given back, it is kept.
pub struct Lease {
    pub sender: SendRequest<RequestBody>,
    home: Option<Home>,
}

/// Where a connection belongs.
struct Home {
    pool: Weak<Pool>,
    places: Arc<Places>,
    place: OwnedSemaphorePermit,
}

enum Taken {
    Kept(Kept),
    Place(OwnedSemaphorePermit),
}

impl Pool {
    /// A kept connection that is ready, or a new one; and whether it was used before.
    pub async fn lease(self: &Arc<Self>, connector: &Connector) -> Result<(Lease, bool), UpstreamError> {
        match self.take(connector).await? {
            Taken::Kept(kept) => Ok((self.lend(connector, kept.sender, kept.place), true)),
            Taken::Place(place) => Ok((self.lend(connector, connector.connect().await?, place), false)),
        }
    }

    /// Closes what has not been used for longer than it is kept.
    pub fn close_unused(&self, connector: &Connector) {
        self.locked().retain(|kept| kept.since.elapsed() < connector.pool_idle() && !kept.sender.is_closed());
    }

    async fn take(&self, connector: &Connector) -> Result<Taken, UpstreamError> {
        if let Some(kept) = self.ready(connector).await {
            return Ok(Taken::Kept(kept));
        }
        let places = connector.places();
        if let Ok(place) = Arc::clone(&places.free).try_acquire_owned() {
            return Ok(Taken::Place(place));
        }
        // Counted first: what comes back from now on is either given to whoever waits, or seen by `close_one_kept`.
        let _waiting = Waiting::count(self, places);
        places.close_one_kept();
        let wait = async {
            loop {
                tokio::select! {
                    place = Arc::clone(&places.free).acquire_owned() => {
                        return place.map(Taken::Place).map_err(|_| UpstreamError::Busy);
                    }
                    () = self.returned.notified() => {}
                }
                if let Some(kept) = self.ready(connector).await {
                    return Ok(Taken::Kept(kept));
                }
            }
        };
        timeout(connector.connect_timeout(), wait).await.map_err(|_| UpstreamError::Busy)?
    }

    /// A kept connection that is ready for another request.
    async fn ready(&self, connector: &Connector) -> Option<Kept> {
        while let Some(mut kept) = self.pop(connector) {
            if kept.sender.is_ready() || timeout(BREATH, kept.sender.ready()).await.is_ok_and(|ready| ready.is_ok()) {
                return Some(kept);
            }
        }
        None
    }

    fn lend(
        self: &Arc<Self>,
        connector: &Connector,
        sender: SendRequest<RequestBody>,
        place: OwnedSemaphorePermit,
    ) -> Lease {
        let places = connector.places();
        if !self.listed.swap(true, Ordering::Relaxed) {
            places.locked().push(Arc::downgrade(self));
        }
        Lease { sender, home: Some(Home { pool: Arc::downgrade(self), places: Arc::clone(places), place }) }
    }

    fn pop(&self, connector: &Connector) -> Option<Kept> {
        let mut idle = self.locked();
        while let Some(kept) = idle.pop() {
            if !kept.sender.is_closed() && kept.since.elapsed() < connector.pool_idle() {
                return Some(kept);
            }
        }
        None
    }

    /// Closes the connection that was used longest ago, and frees its place; returns whether there was one.
    fn close_oldest(&self) -> bool {
        let mut idle = self.locked();
        let oldest = if idle.is_empty() { None } else { Some(idle.remove(0)) };
        drop(idle);
        oldest.is_some()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// As many as the configuration allows.
    pub fn new(count: usize) -> Self {
        let free = Arc::new(Semaphore::new(count));
        Self { count, free, waiting: AtomicUsize::new(0), pools: Mutex::default() }
    }

    /// How they are used now.
    pub fn usage(&self) -> Usage {
        let pools: Vec<Arc<Pool>> = self.locked().iter().filter_map(Weak::upgrade).collect();
        Usage {
            most: self.count,
            open: self.count.saturating_sub(self.free.available_permits()),
            idle: pools.iter().map(|pool| pool.locked().len()).sum(),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Closes one kept connection, whichever thread keeps it.
    fn close_one_kept(&self) {
        let pools: Vec<Arc<Pool>> = self.locked().iter().filter_map(Weak::upgrade).collect();
        let _ = pools.iter().any(|pool| pool.close_oldest());
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Weak<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for a connection, for as long as this lives.
struct Waiting<'a>(&'a Pool, &'a Places);

impl<'a> Waiting<'a> {
    fn count(pool: &'a Pool, places: &'a Places) -> Self {
        pool.waiting.fetch_add(1, Ordering::SeqCst);
        places.waiting.fetch_add(1, Ordering::SeqCst);
        Self(pool, places)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.1.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Lease {
    /// A connection outside the pool: used once.
    pub fn once(sender: SendRequest<RequestBody>) -> Self {
        Self { sender, home: None }
    }

    /// Gives the connection back. Only for one whose last request and answer were both complete.
    pub fn give_back(self) {
        let Some(Home { pool, places, place }) = self.home else { return };
        let Some(pool) = pool.upgrade() else { return };
        pool.locked().push(Kept { sender: self.sender, place, since: Instant::now() });
        let here = pool.waiting.load(Ordering::SeqCst);
        if places.waiting.load(Ordering::SeqCst) > here {
            // Another thread cannot use this connection, but its place.
            pool.close_oldest();
        } else if here > 0 {
            pool.returned.notify_one();
        }
    }
}

//! One connection's requests, so that one without any is noticed: HTTP/2 has no deadline of its own.

use crate::crowd::Place;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// A connection without a request for so long is closed, at most twice as late.
const QUIET: Duration = Duration::from_secs(120);

/// One connection's requests.
#[derive(Default)]
pub struct Requests {
    begun: AtomicUsize,
    under_way: AtomicUsize,
}

/// One request, until the last piece of its answer was handed out.
pub struct UnderWay {
    requests: Arc<Requests>,
    _place: Option<Arc<Place>>,
}

impl Requests {
    /// A request has come, and keeps its place.
    pub fn begin(self: &Arc<Self>, place: Option<Arc<Place>>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay { requests: Arc::clone(self), _place: place }
    }

    /// Ends when no request has come within the time for a first one, or for a while after the last.
    pub async fn silence(&self, first: Duration) {
        let mut seen = 0;
        sleep(first).await;
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == seen && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = begun;
            sleep(QUIET).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requests.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

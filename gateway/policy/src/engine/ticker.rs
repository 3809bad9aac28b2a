//! The one thread that advances every engine's epoch while guests run. It ends when its owner is dropped.

use crate::limits::TICK;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Ticks without a guest after which it rests: waking it for each call would cost more than the ticks between calls do.
const LINGER: u32 = 128;

pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Guests that are at work.
    guests: AtomicUsize,
    rests: AtomicBool,
    is_over: Mutex<bool>,
    wake: Condvar,
}

/// While this is kept time passes for guests: without it an endless one is never stopped.
pub(crate) struct AtWork<'a>(&'a Shared);

impl Ticker {
    pub(super) fn start(engines: Vec<wasmtime::Engine>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let ticking = Arc::clone(&shared);
        let thread = Builder::new().name("policy-ticker".to_owned()).spawn(move || ticking.tick(&engines))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn at_work(&self) -> AtWork<'_> {
        self.shared.guests.fetch_add(1, Ordering::SeqCst);
        if self.shared.rests.load(Ordering::SeqCst) {
            self.shared.wake(|_| ());
        }
        AtWork(&self.shared)
    }
}

impl Shared {
    fn tick(&self, engines: &[wasmtime::Engine]) {
        let mut idle = 0_u32;
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_over {
            if self.guests.load(Ordering::SeqCst) > 0 {
                idle = 0;
            } else if idle >= LINGER {
                self.rests.store(true, Ordering::SeqCst);
                // Whoever came before that is counted by now; whoever comes after it sees that this rests, and wakes it.
                let rests_on = |is_over: &mut bool| !*is_over && self.guests.load(Ordering::SeqCst) == 0;
                is_over = self.wake.wait_while(is_over, rests_on).unwrap_or_else(PoisonError::into_inner);
                self.rests.store(false, Ordering::SeqCst);
                idle = 0;
            }
            is_over = self.wake.wait_timeout(is_over, TICK).unwrap_or_else(PoisonError::into_inner).0;
            engines.iter().for_each(wasmtime::Engine::increment_epoch);
            idle = idle.saturating_add(1);
        }
    }

    fn wake(&self, change: impl FnOnce(&mut bool)) {
        change(&mut self.is_over.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.wake(|is_over| *is_over = true);
        if let Some(thread) = self.thread.take() {
            // A ticker that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_rests_while_no_guest_is_at_work_and_wakes_for_the_next_one() {
        let ticker = Ticker::start(Vec::new()).unwrap();
        let becomes = |rests: bool| {
            let begun = Instant::now();
            while ticker.shared.rests.load(Ordering::SeqCst) != rests {
                assert!(begun.elapsed() < Duration::from_secs(60), "it should rest: {rests}");
                std::thread::sleep(TICK);
            }
        };
        becomes(true);
        let at_work = ticker.at_work();
        becomes(false);
        drop(at_work);
        becomes(true);
    }
}

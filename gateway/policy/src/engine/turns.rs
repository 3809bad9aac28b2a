//! Few components are compiled at once on a node. One that takes long leaves a turn to another owner's.

use std::sync::{Condvar, Mutex, PoisonError};

/// Components that are compiled at once.
const AT_ONCE: u32 = 2;

pub(super) struct Turns {
    free: Mutex<u32>,
    freed: Condvar,
}

/// A turn, given back when it is dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(super) fn new() -> Self {
        Self { free: Mutex::new(AT_ONCE), freed: Condvar::new() }
    }

    /// Waits for a turn.
    pub(super) fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_sub(1);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_add(1);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn never_more_than_so_many_at_once() {
        let (turns, under_way) = (Turns::new(), AtomicU32::new(0));
        let work = || {
            let _turn = turns.take();
            assert!(under_way.fetch_add(1, Ordering::SeqCst) < AT_ONCE);
            std::thread::yield_now();
            under_way.fetch_sub(1, Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| work()));
            }
        });
        assert_eq!(*turns.free.lock().unwrap(), AT_ONCE);
    }
}

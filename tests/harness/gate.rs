//! A gate in the way of something: closed until the test opens it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A gate. Nobody stands before it for longer than half a minute, so that a test that fails still ends.
#[derive(Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    /// Waits until it is open.
    pub fn pass(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.1.wait_timeout_while(open, Duration::from_secs(30), |open| !*open);
    }

    /// Opens it for everybody.
    pub fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }
}

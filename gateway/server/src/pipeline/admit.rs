//! Rates and concurrency → [`Admitted`]. No limit is kept yet: this room is where it will be asked.

use super::authorize::Granted;

/// An operation that its limits allow. Only this stage makes one.
pub struct Admitted(Granted);

impl Admitted {
    /// What was granted.
    pub fn granted(&self) -> &Granted {
        &self.0
    }

    pub(super) fn granted_mut(&mut self) -> &mut Granted {
        &mut self.0
    }

    pub(super) fn into_granted(self) -> Granted {
        self.0
    }
}

/// Admits every operation that was granted.
pub fn admit(granted: Granted) -> Admitted {
    Admitted(granted)
}

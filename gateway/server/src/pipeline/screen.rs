//! The policies → [`Screened`]. None can be attached yet: this room is where they will be asked.

use super::inspect::Inspected;

/// An operation that no policy refuses. Only this stage makes one.
pub struct Screened(Inspected);

impl Screened {
    pub(super) fn into_inspected(self) -> Inspected {
        self.0
    }
}

/// Lets every inspected operation pass.
pub fn screen(inspected: Inspected) -> Screened {
    Screened(inspected)
}

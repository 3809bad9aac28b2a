//! Quota for writes → [`Cleared`], the only thing that may be forwarded. No quota is kept yet: this room is where bytes
//! will be reserved.

use super::inspect::Payload;
use super::screen::Screened;

/// An operation that may go upstream. Only this stage makes one.
pub struct Cleared(Screened);

impl Cleared {
    /// What was granted and what goes along with it, to be sent.
    pub fn into_parts(self) -> (super::admit::Admitted, Payload) {
        self.0.into_inspected().into_parts()
    }
}

/// Clears every screened operation.
pub fn reserve(screened: Screened) -> Cleared {
    Cleared(screened)
}

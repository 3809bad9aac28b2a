//! Quota for writes → [`Cleared`], the only thing that may be forwarded. No quota is kept yet: this room is where bytes
//! will be reserved.

use super::admit::Admitted;
use super::inspect::Payload;
use super::screen::{Leave, Screened};

/// An operation that may go upstream. Only this stage makes one.
pub struct Cleared(Screened);

impl Cleared {
    /// What was granted and what goes along with it, to be sent; and what screening leaves for that.
    pub fn into_parts(self) -> (Admitted, Payload, Leave) {
        let (inspected, leave) = self.0.into_parts();
        let (admitted, payload) = inspected.into_parts();
        (admitted, payload, leave)
    }
}

/// Clears every screened operation.
pub fn reserve(screened: Screened) -> Cleared {
    Cleared(screened)
}

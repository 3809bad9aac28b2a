//! Policies under load: while they come, change, break and go, and beside those that are hard to bear.

mod guests;

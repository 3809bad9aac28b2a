//! Policies under load: while they come, change, break and go, and beside those that are hard to bear.
//!
//! What runs each time looks at counts and kinds alone. Times are compared in the long variants, as ratios within one run.

mod attached;
mod neighbours;
mod pools;
mod rollout;
mod traffic;

//! Policies under load: while they come, change, break and go, and beside those that are hard to bear. And the ledger under a load
//! in whose midst the gateway is killed. And attacks, beside whoever behaves.
//!
//! What runs each time looks at counts and kinds alone. Times are compared in the long variants, as ratios within one run.

mod attached;
mod hostile;
mod neighbours;
mod pools;
mod quota_kill;
mod rollout;
mod traffic;

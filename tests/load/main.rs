//! Policies under load: while they come, change, break and go, and beside those that are hard to bear. And the ledger under a load
//! in whose midst the gateway is killed. And attacks, beside whoever behaves.
//!
//! Times are compared as ratios within one run alone: beside attacks each time, everything else in the long variants.

mod attached;
mod hostile;
mod neighbours;
mod pools;
mod quota_kill;
mod rollout;
mod rounds;
mod traffic;

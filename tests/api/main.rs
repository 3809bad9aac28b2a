//! The gateway's interface, topic by topic: the real gateway in front of a real registry.

mod bad_input;
mod faults;
mod hostile;
mod isolation;
mod login;
mod operation;
mod policies;
mod proxying;
mod quota;
mod reconcile;
mod revocation;
mod robots;
mod roles;
mod tags;
mod tokens;
mod uploads;

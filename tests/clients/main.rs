//! Real clients, as people use them, against the real gateway: each one logs in, pushes, pulls, lists, deletes, and is refused where it has no business.

mod containers;
mod ctr;
mod docker;
mod quota;
mod secrets;
mod skopeo;
mod world;

//! How the gateway is run: what it tells of itself, how it takes a new configuration, and how it ends.

mod balancer;
mod doctor;
mod lifecycle;
mod logs;
mod nodes;
mod surfaces;
mod sweeper;
mod telemetry;

//! Portcullis: an authenticating, multi-tenant gateway in front of a container registry.

mod admin;
mod app;
mod body;
mod cli;
mod config;
mod crowd;
mod duration;
mod forwarded;
mod listen;
mod master_key;
mod network;
mod origin;
mod pipeline;
mod policies;
mod quota;
mod serve;
mod sweeper;
mod tag_lock;
mod telemetry;
mod throwaway;
mod tls;
mod token_endpoint;
mod upload_location;
mod upstream;
mod upstream_admin;
mod walk;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}

//! Policies on the real engine: guests as text, hostile and friendly, each with its exact outcome.

#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)] // as in any test

mod cache;
mod chain;
mod guests;
mod hostile;
mod state;

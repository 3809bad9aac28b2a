//! Policies on the real engine: guests as text, hostile and friendly, each with its exact outcome.

mod cache;
mod chain;
mod guests;
mod hostile;
mod state;

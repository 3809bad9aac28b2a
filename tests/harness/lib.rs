//! What integration tests stand on: the real gateway in front of a real registry, with real clients, all owned by the test.
//!
//! Everything fails by panicking with a message that says what was seen. Everything is bounded in time.

pub mod collector;
pub mod command;
pub mod dice;
pub mod faults;
pub mod frames;
pub mod gate;
pub mod gateway;
pub mod guest;
pub mod http;
pub mod image;
pub mod lag;
pub mod ledger;
pub mod machine;
pub mod mint;
pub mod persona;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod redis;
pub mod registry;
pub mod repository;
pub mod scene;
pub mod secrets;
pub mod sql;
pub mod stream;

#[cfg(test)]
mod tests;

//! Policies: how they are written, with components that were really built.

mod authoring;
mod guests;
mod languages;
mod newcomer;

//! The read side.

mod aside;
mod history;
mod laws;
mod lists;
mod oracle;
mod pending;
mod rules;
mod world;

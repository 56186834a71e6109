//! The read side.

mod history;
mod laws;
mod lists;
mod oracle;
mod rules;
mod world;

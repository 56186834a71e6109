//! The read side.

mod aside;
mod history;
mod laws;
mod lists;
mod oracle;
mod rules;
mod run_queue;
mod world;

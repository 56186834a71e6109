//! The read side.

mod aside;
mod bounds;
mod history;
mod laws;
mod lists;
mod offers;
mod oracle;
mod rules;
mod run_queue;
mod world;

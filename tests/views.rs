//! The read side.

mod aside;
mod bounds;
mod fold;
mod history;
mod laws;
mod lists;
mod offers;
mod oracle;
mod rules;
mod run_queue;
mod world;

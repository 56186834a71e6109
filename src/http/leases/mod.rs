//! The API for remote workers: take leases, send heartbeats, acknowledge cancels, finish attempts.
//!
//! Reading order: `token` (the text of a lease in a worker's request), `checks` (checks of fields that several bodies have),
//! `command` (the message that executes a worker's command). Then there is one file for each route: `take`, `heartbeat`,
//! `acknowledge` and `finish`. `finish_item` is one item in the body of `finish`.

mod acknowledge;
mod checks;
mod command;
pub(super) mod docs;
mod finish;
mod finish_item;
mod heartbeat;
mod take;
mod token;

pub use acknowledge::acknowledge;
pub use finish::finish;
pub use heartbeat::heartbeat;
pub use take::take;

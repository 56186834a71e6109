//! The worker's side of the API: take leases, send heartbeats, acknowledge cancels, finish attempts.
//!
//! Reading order: `token` (a lease, as its worker shows it), `checks` (rules that the bodies share), `command` (a worker's
//! command), then one file for each route: `take`, `heartbeat`, `acknowledge`, and `finish` with `finish_item` (one item of
//! its body).

mod acknowledge;
mod checks;
mod command;
mod finish;
mod finish_item;
mod heartbeat;
mod take;
mod token;

pub use acknowledge::acknowledge;
pub use finish::finish;
pub use heartbeat::heartbeat;
pub use take::take;

//! The remote worker: the same handlers in another process, which speaks to a server's HTTP API.
//!
//! Reading order, each file using only those before it: `note` (what a worker tells the application), `wire` (the requests
//! and answers), `http` (one request, and which failures may be retried), `leases` (the leases held, and how long), `outbox`
//! (finishes that wait to be sent), `link` (what the parts share), `heartbeat` (heartbeats and progress), `finish` (how ends
//! are reported), `worker` (the worker: taking leases, and draining).

mod finish;
mod heartbeat;
mod http;
mod leases;
mod link;
mod note;
mod outbox;
mod wire;
mod worker;

pub use note::{Note, RemoteError};
pub use worker::RemoteWorker;

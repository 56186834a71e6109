//! The remote worker: it runs the same handlers in another process and uses the server's HTTP API.
//!
//! Reading order; each file uses only those before it: `event` (the events that a worker sends to the application),
//! `protocol` (the bodies of requests and responses), `token` (the bearer token), `http` (one request, and which failures may be retried), `leases`
//! (the leases that the worker holds, and their deadlines), `outbox` (finishes that wait to be sent), `state` (what the
//! parts of the worker share), `heartbeat` (heartbeats and progress), `finish` (reports about the ends of attempts),
//! `worker` (takes leases, runs attempts, drains).

mod event;
mod finish;
mod heartbeat;
mod http;
mod leases;
mod outbox;
mod protocol;
mod state;
mod token;
mod worker;

pub use event::{RemoteError, WorkerEvent};
pub use worker::RemoteWorker;

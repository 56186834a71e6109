//! THE LOG OVER GRPC: a subset of the EventStoreDB stream protocol, version 1. With it the official clients of any language
//! can read streams and `$all`, and subscribe with filters.
//!
//! One implementation of the protocol (`service`) serves two backends. One backend is Taskbell's own log, read-only (`log`).
//! The other is the stand-in database (`stand_in`), which accepts writes; the tests of the store's cluster variant use it.
//!
//! Reading order: `event` (events and positions), `backend` (the operations of a backend), `access` (who may read), `gate`
//! (looks at each request first), `service` (the methods of the protocol), `request` and `filter` (a read request), `read` and `subscribe` (the two kinds of reads), `append` and `batch`
//! (writes), `cluster` (the members of the cluster and the methods of the server), `refusal` (status and trailers of each
//! error), `server`, `incoming`, `tls` and `connection` (the thread that serves, and its connections), `limits` and `progress`
//! (how many connections there are, and how long a client may do nothing), `log`, `stand_in`.

mod access;
mod append;
mod backend;
mod batch;
mod cluster;
mod connection;
mod event;
mod filter;
mod gate;
mod incoming;
mod limits;
mod log;
mod progress;
mod read;
mod refusal;
mod request;
mod server;
mod service;
#[cfg(feature = "testing")]
pub mod stand_in;
mod subscribe;
mod tls;

mod proto;

pub use access::{LogAccessError, LogAuthenticator, LogReader};
pub use event::{WireEvent, WirePosition};
pub use limits::ConnectionLimits;
pub use log::{ServeOptions, serve};
pub use server::{ServeError, WireServer};

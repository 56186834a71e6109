//! THE LOG OVER GRPC: a subset of the EventStoreDB stream protocol, version 1, so that the official clients of any language
//! can read streams and `$all`, and subscribe with filters.
//!
//! One service ([`streams`]) serves two backends: Taskbell's own log, read-only ([`log`]), and the stand-in database
//! ([`standin`]), which takes writes and is what the cluster variant of the store is tested against.
//!
//! Reading order: [`event`] (what is served), [`backend`] (what a backend does), `read` and `subscribe` (the two kinds of
//! reads), `append` and `batch` (writes), `refusal` (status and trailers of each error), `server` (the thread that
//! serves), `log`, `standin`.

mod append;
mod backend;
mod batch;
mod cluster;
mod connection;
mod event;
mod filter;
mod log;
mod read;
mod refusal;
mod request;
mod server;
mod service;
#[cfg(feature = "testing")]
pub mod standin;
mod subscribe;

mod proto;

pub use event::{WireEvent, WirePosition};
pub use log::serve;
pub use server::{ServeError, Server};

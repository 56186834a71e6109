//! THE WRITER OF THE READ SIDE: it applies the events of the log to the views.
//!
//! Reading order: [`reader`] (access to the views), `waiters` (the requests that wait for the views), [`projector`] (the only writer of the views), [`subscribers`] (the actors
//! that receive the applied events), [`freshness`] (whether the views show the whole log), [`snapshots`] (the views in files), [`replay`] (the views at
//! an earlier position), `refold` (a fold by a client), [`bulk_cancel`] (which tasks a bulk cancel cancels), [`metrics`] (metrics for Prometheus, computed from the same
//! events), [`stop`] (the message that stops an actor).

pub mod bulk_cancel;
pub mod freshness;
pub mod metrics;
pub mod projector;
pub mod reader;
#[cfg(any(feature = "cli", feature = "testing"))]
pub mod refold;
pub mod replay;
pub mod snapshots;
pub mod stop;
pub mod subscribers;
mod waiters;

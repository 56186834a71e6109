//! THE WRITER OF THE READ SIDE: it applies the events of the log to the views.
//!
//! Reading order: [`reader`] (access to the views), [`projector`] (the only writer of the views), [`subscribers`] (the actors
//! that receive the applied events), [`freshness`] (whether the views show the whole log), [`replay`] (the views at an earlier
//! position), [`metrics`] (metrics for Prometheus, computed from the same events).

pub mod freshness;
pub mod metrics;
pub mod projector;
pub mod reader;
pub mod replay;
pub mod subscribers;

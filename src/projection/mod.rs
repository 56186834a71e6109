//! THE READ SIDE'S WRITER: the log becomes views.
//!
//! Reading order: [`reader`] (the handle on the views), [`projector`] (the only writer of the views), [`subscribers`]
//! (which actors receive what it has applied), [`freshness`]
//! (whether the views show the present), [`replay`] (the views as they were), [`metrics`] (figures for Prometheus, a fold of the
//! same events).

pub mod freshness;
pub mod metrics;
pub mod projector;
pub mod reader;
pub mod replay;
pub mod subscribers;

//! A worker and its handlers.
//!
//! The remote worker uses the same files, except `local_reporter` and `local`.
//!
//! Reading order; each file uses only those before it: [`outcome`] (how a handler's run ends), `text` and `output_tail` (text
//! within the limits), `latch` (a flag that is set once), `attempt` (the state that a worker and a handler share),
//! [`context`] (a handler's access to its attempt), [`handler`] (the trait that an application implements), [`registry`] (the
//! handlers by kind), `report` (the contents of reports, and the trait `Reporter`, which sends them), `run_attempt` (runs an
//! attempt from its assignment to its recorded end), [`local_reporter`] (reports as messages inside the process), [`local`]
//! (the worker inside the process).

pub mod context;
pub mod handler;
#[cfg(feature = "server")]
pub mod local;
#[cfg(feature = "server")]
pub mod local_reporter;
pub mod outcome;
pub mod registry;

pub(super) mod attempt;
pub(super) mod latch;
pub(super) mod output_tail;
pub(super) mod report;
pub(super) mod run_attempt;
pub(super) mod text;

//! A worker and its handlers.
//!
//! Reading order; each file uses only those before it: [`outcome`] (how a handler's run ends), `text` and `output`
//! (text within the limits), `attempt` (the state that a worker and a handler share), [`context`] (a handler's access
//! to its attempt), [`handler`] (the trait that an application implements), [`registry`] (the handlers by kind),
//! `report` (the contents of reports, and the trait `Reporter`, which sends them), `drive` (runs an attempt from its
//! assignment to its recorded end), [`channels`] (reports as messages inside the process), [`local`] (the worker inside
//! the process).

#[cfg(feature = "server")]
pub mod channels;
pub mod context;
pub mod handler;
#[cfg(feature = "server")]
pub mod local;
pub mod outcome;
pub mod registry;

pub(super) mod attempt;
pub(super) mod drive;
pub(super) mod output;
pub(super) mod report;
pub(super) mod text;

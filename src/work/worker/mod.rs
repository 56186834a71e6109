//! A worker and its handlers.
//!
//! Reading order: [`handler`] (what an application writes), [`context`] (what a handler is given), [`registry`] (which kinds
//! there are), `attempt` (one attempt, as the worker and its handler share it), `drive` (an attempt from its assignment to
//! its recorded end), `report` (how its end is reported), [`local`] (the worker inside the process).

pub mod context;
pub mod handler;
#[cfg(feature = "server")]
pub mod local;
pub mod registry;

pub(super) mod attempt;
pub(super) mod drive;
pub(super) mod report;
pub(super) mod tail;

//! WHAT MOVES. Who sends what to whom:
//!
//! ```text
//!  http, cli, timers ──Execute──▶ registry ──▶ task ──append──▶ the log
//!                                                                 │ subscription
//!  work ◀──Assign, Direct── dispatcher ◀──Committed── projector ◀─┘
//!    │                                                 │  ▲   └──▶ views (it is their only writer)
//!    ├──Execute (the end of an attempt)                │  │
//!    └──NoteProgress ──────────────────────────────────┼──┘
//!  live sockets ◀──Push── hub ◀──Committed─────────────┤
//!  registry ◀──Execute── cascade ◀──Committed──────────┘
//! ```
//!
//! Reading order: [`messages`], [`registry`] and [`shard`] (find the actor), [`task`] (owns a stream), [`commit`] (decide → append →
//! evolve), [`create`] and [`gate`] (one at a time for each key), [`projector`] (the log becomes views), [`read`] (how the
//! edge reads them), [`hub`] (pushes), [`dispatcher`] (what runs next), [`cascade`] (a parent's cancel asks its children),
//! [`scheduler`] (what comes again and again),
//! [`metrics`] (figures for Prometheus), [`history`] (the views as they were).

pub mod capacity;
pub mod cascade;
pub mod commit;
pub mod create;
pub mod dispatcher;
pub mod frames;
pub mod gate;
pub mod history;
pub mod hub;
pub mod kinds;
pub mod leases;
pub mod messages;
pub mod metrics;
pub mod projector;
pub mod read;
pub mod registry;
pub mod scheduler;
pub mod shard;
pub mod task;

pub use messages::{Execute, ExecuteError, Receipt};
pub use read::ReadSide;
pub use registry::Registry;

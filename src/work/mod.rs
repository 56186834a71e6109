//! THE HANDS: handlers, the built-in kinds, and the workers: inside the process, and over the wire.
//!
//! Reading order: [`handler`] (what one writes), [`context`] (what a handler has of the world), [`registry`] (which kinds
//! there are), `attempt` (one attempt, as the worker and its handler share it), `drive` (an attempt from its assignment to
//! its recorded end), `report` (how its end is told, in whatever way the worker speaks), [`local`] (the worker inside),
//! [`remote`] (the worker outside), [`command`] (any program as a handler), [`distribute`] (the built-in kind).

pub mod bulk_cancel;
pub mod command;
pub mod context;
pub mod distribute;
pub mod handler;
pub mod local;
pub mod registry;
pub mod remote;

mod attempt;
mod drive;
mod report;
mod tail;

pub use bulk_cancel::{BulkCancel, BulkCancelInput};
pub use command::CommandHandler;
pub use context::{Context, Step, StepGuard};
pub use distribute::Distribute;
pub use handler::{Defaults, Done, Failure, Handler};
pub use local::{Doors, Drain, LocalWorker};
pub use registry::{Handlers, NotRegistered};
pub use remote::{Note, RemoteError, RemoteWorker};

use crate::store::now;

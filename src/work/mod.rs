//! WORKERS: handlers, the built-in kinds, and the workers: inside the process, and over the wire.
//!
//! Reading order: [`worker`] (handlers and the worker inside the process), [`remote`] (the same worker elsewhere),
//! [`command`] (any program as a handler), [`kinds`] (the kinds that are built in).

pub mod command;
pub mod kinds;
pub mod remote;
pub mod worker;

pub use command::CommandHandler;
pub use kinds::bulk_cancel::{BulkCancel, BulkCancelInput};
pub use kinds::distribute::Distribute;
pub use remote::{Note, RemoteError, RemoteWorker};
pub use worker::context::{Context, Step, StepGuard};
pub use worker::handler::{Defaults, Done, Failure, Handler};
pub use worker::local::{Doors, Drain, LocalWorker};
pub use worker::registry::{Handlers, NotRegistered};

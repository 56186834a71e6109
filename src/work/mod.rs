//! WORKERS: handlers, the built-in kinds, and the workers: inside the process, and over the wire.
//!
//! Reading order: [`worker`] (handlers and the worker inside the process), [`remote`] (the same worker elsewhere),
//! [`command`] (any program as a handler), [`kinds`] (the kinds that are built in).

#[cfg(feature = "worker")]
pub mod command;
#[cfg(feature = "server")]
pub mod kinds;
#[cfg(feature = "worker")]
pub mod remote;
pub mod worker;

#[cfg(feature = "worker")]
pub use command::CommandHandler;
#[cfg(feature = "server")]
pub use kinds::bulk_cancel::{BulkCancel, BulkCancelInput};
#[cfg(feature = "worker")]
pub use remote::{Note, RemoteError, RemoteWorker};
pub use worker::context::{Context, Step, StepGuard};
pub use worker::handler::{Defaults, Done, Failure, Handler};
#[cfg(feature = "server")]
pub use worker::local::{Doors, Drain, LocalWorker};
pub use worker::registry::{Handlers, NotRegistered};

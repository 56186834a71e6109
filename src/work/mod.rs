//! Workers and handlers: the handlers execute tasks, and the workers run the handlers, in the server's process or in
//! another one.
//!
//! Reading order: [`worker`] (handlers, and the worker inside the server's process), [`remote`] (the worker in a
//! process of its own), [`command`] (a handler that runs any program), [`kinds`] (the handlers of the built-in kinds).

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
pub use remote::{RemoteError, RemoteWorker, WorkerEvent};
pub use worker::context::{Context, Step, StepGuard};
pub use worker::handler::{Defaults, Handler};
#[cfg(feature = "server")]
pub use worker::local::{Drain, LocalWorker};
#[cfg(feature = "server")]
pub use worker::local_reporter::LocalReporter;
pub use worker::outcome::{Done, Failure};
pub use worker::registry::{Handlers, NotRegistered};

//! The events that a remote worker sends to the application that runs it, and the errors of the worker.

use std::sync::Arc;

use crate::task::TaskId;

/// An event of a running worker, for the function that [`RemoteWorker::on_event`](super::RemoteWorker::on_event) sets.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WorkerEvent<'a> {
    /// An attempt begins.
    Begun {
        /// The task.
        task: TaskId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// The task's kind.
        kind: &'a str,
        /// The task's title.
        title: &'a str,
    },
    /// An attempt has ended, and the server has recorded the end.
    Ended {
        /// The task.
        task: TaskId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// `succeeded`, `failed`, `cancelled`, `released`, or `lost` if the lease ended first.
        outcome: &'a str,
        /// The attempt's message or error.
        message: Option<&'a str>,
    },
    /// The server can't be reached. The worker repeats its requests until the server responds.
    Unreachable {
        /// The reason.
        reason: &'a str,
    },
    /// The server has responded to a request after [`Self::Unreachable`].
    Reconnected,
}

/// The application's function that receives the events.
pub(super) type EventCallback = Arc<dyn Fn(&WorkerEvent<'_>) + Send + Sync>;

/// Why a worker did not start, or stopped without a request of the application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The server's address can't be used.
    #[error("{0}")]
    Address(String),
    /// The token can't be sent in a header.
    #[error("the token contains characters that can't be sent")]
    Token,
    /// The file with the token can't be used.
    #[error("the file with the token, {path}, can't be used: {reason}")]
    TokenFile {
        /// The file.
        path: String,
        /// The reason, for example the system's error.
        reason: String,
    },
    /// The file of trusted certificates can't be used.
    #[error("the trusted certificates: {0}")]
    CaFile(String),
    /// The HTTP client can't be built.
    #[error("the HTTP client can't be started: {0}")]
    Client(String),
    /// The worker's name is not valid.
    #[error(
        "{0:?} is not a valid name of a worker: use one line of 1 to 128 bytes; names that begin with local/ are reserved"
    )]
    Name(String),
    /// A queue's name is not valid.
    #[error("{0:?} is not a valid queue: use 1 to 64 of the characters a-z, 0-9, '.', '_', '-'")]
    Queue(String),
    /// There are no handlers.
    #[error("a worker without handlers has nothing to do")]
    NoHandlers,
    /// The server refuses this worker's requests for leases, and a repeated request would be refused too.
    #[error("the server refuses to give leases: {detail} ({status} {code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// The problem's description.
        detail: String,
    },
}

//! What a remote worker tells the application that runs it.

use std::sync::Arc;

use crate::task::TaskId;

/// An event of a running worker, for [`RemoteWorker::watch`](super::RemoteWorker::watch).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Note<'a> {
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
    /// An attempt is over, and the server knows how it ended.
    Ended {
        /// The task.
        task: TaskId,
        /// The attempt's number, from 1.
        attempt: u32,
        /// `succeeded`, `failed`, `cancelled`, `released`, or `lost` if the lease ended first.
        outcome: &'a str,
        /// The attempt's message or error.
        words: Option<&'a str>,
    },
    /// The server can't be reached; the worker tries again until it can.
    Away {
        /// The reason.
        why: &'a str,
    },
    /// The server answers again.
    Back,
}

pub(super) type Watcher = Arc<dyn Fn(&Note<'_>) + Send + Sync>;

/// Why a worker did not start, or stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The server's address can't be used.
    #[error("{0}")]
    Address(String),
    /// The token can't be sent in a header.
    #[error("the token holds characters that can't be sent")]
    Token,
    /// The HTTP client can't be built.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// The worker's name is not valid.
    #[error("{0:?} can't be a worker's name: one line of 1 to 128 bytes is needed, and local/ is the server's own")]
    Name(String),
    /// A queue's name is not valid.
    #[error("{0:?} can't be a queue: 1 to 64 of a-z, 0-9, '.', '_', '-' are needed")]
    Queue(String),
    /// There are no handlers.
    #[error("a worker without handlers has nothing to do")]
    NoHandlers,
    /// The server refuses this worker's requests for leases for good.
    #[error("the server gives no leases: {detail} ({status} {code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// The problem's description.
        detail: String,
    },
}

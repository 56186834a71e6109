//! What is asked of the write side, and what it answers.

use actix::Message;

use crate::store::{AppendError, Meta, ReadError};
use crate::task::{Command, Rejection, Revision, Task, TaskId, Timestamp};

/// Do this to that task: from any edge to the actor that owns the stream.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Receipt, ExecuteError>")]
pub struct Execute {
    /// Which task.
    pub task: TaskId,
    /// What.
    pub command: Command,
    /// When it was asked.
    pub at: Timestamp,
    /// Who asks, and why.
    pub meta: Meta,
}

/// Many of them at once: they are decided side by side, and the log makes them durable together.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Vec<Result<Receipt, ExecuteError>>")]
pub struct ExecuteMany(pub Vec<Execute>);

/// It is decided, and whatever it led to is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Last event of the stream.
    pub revision: Revision,
    /// How many events the command led to; 0: there was nothing left to do.
    pub appended: usize,
    /// The task afterwards.
    pub task: Task,
}

/// Nothing was done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExecuteError {
    /// The rules said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The log could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Others wrote to the same stream all the time, or the process is stopping.
    #[error("too much is going on at once: {0}")]
    Busy(&'static str),
}

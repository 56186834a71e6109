//! What the write side is asked to do, and what it answers.

use actix::Message;

use crate::store::{AppendError, Meta, NewEvent, ReadError};
use crate::task::{Command, Rejection, Revision, Task, TaskId, Timestamp};

/// A command on one task, from any edge to the task's actor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Receipt, ExecuteError>")]
pub struct Execute {
    /// Which task.
    pub task: TaskId,
    /// What it is asked to do.
    pub command: Command,
    /// When the request was received.
    pub at: Timestamp,
    /// Who asks, by which way, and as part of what.
    pub meta: Meta,
}

/// The begin of a run, decided before its keys were claimed: the task's actor appends these events as they are.
///
/// Where they are in the stream already at this place, nothing is written and the answer is the same. The answer is
/// [`AppendError::WrongExpectedRevision`] where the stream has other events there.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Receipt, ExecuteError>")]
pub struct Begin {
    /// The task.
    pub task: TaskId,
    /// The last revision of the task's stream before the run; none where the run creates the task.
    pub expected: Option<Revision>,
    /// At least one event: `Created` or `Retried`.
    pub events: Vec<NewEvent>,
}

/// The command was decided, and every event that it led to is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Last event of the stream.
    pub revision: Revision,
    /// How many events the command led to; 0: there was nothing left to do.
    pub appended: usize,
    /// The task afterwards.
    pub task: Task,
}

/// What became of a request for a piece of work.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// A new task; durable.
    New(TaskId, Box<Receipt>),
    /// The task that the same request has led to already.
    Known(TaskId),
    /// The task that holds the unique key; nothing was written.
    Held(TaskId),
}

/// The command has no receipt. Nothing was written, except where the outcome is unknown: after [`AppendError::ReadOnly`] and
/// [`AppendError::Unknown`], and after [`ExecuteError::Busy`] from an actor that has died or a process that stops. The log
/// knows, and so does the next command on the stream.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExecuteError {
    /// The rules refuse the command.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The log could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Other writers overtook every try, the actor's backlog is full, or the process is stopping.
    #[error("too much is going on at once: {0}")]
    Busy(&'static str),
}

//! The messages to the write side, and its answers.

use actix::Message;

use crate::store::{AppendError, Meta, NewEvent, ReadError};
use crate::task::{Command, Rejection, Revision, Task, TaskId, Timestamp};

/// A command on one task, for the task's actor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Receipt, ExecuteError>")]
pub struct Execute {
    /// The task.
    pub task: TaskId,
    /// The command.
    pub command: Command,
    /// When the request was received.
    pub at: Timestamp,
    /// Who sends the command, through which interface, and which request or event it follows from.
    pub meta: Meta,
}

/// The events that begin a run of a task. They were decided before the run's keys were claimed, and the task's actor appends
/// them unchanged.
///
/// If the stream already holds these events after the expected revision, nothing is written and the answer is the same. If
/// it holds other events there, the answer is [`AppendError::WrongExpectedRevision`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Receipt, ExecuteError>")]
pub struct BeginRun {
    /// The task.
    pub task: TaskId,
    /// The last revision of the task's stream before the run; none if the run creates the task.
    pub expected: Option<Revision>,
    /// At least one event. The first is `Created` or `Retried`.
    pub events: Vec<NewEvent>,
}

/// The command was decided, and every event that it led to is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The revision of the stream's last event.
    pub revision: Revision,
    /// The number of events that the command led to. 0 if the task was already in the wanted state.
    pub appended: usize,
    /// The task after these events.
    pub task: Task,
}

/// The outcome of a request to create a task.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// A new task was created, and its events are durable.
    New(TaskId, Box<Receipt>),
    /// A request with the same idempotency key and body has created this task before.
    Repeated(TaskId),
    /// This task holds the unique key. Nothing was written.
    KeyHeld(TaskId),
}

/// The command has no receipt.
///
/// In most cases nothing was written. The outcome is unknown after [`AppendError::ReadOnly`] and [`AppendError::Unknown`], and
/// after [`ExecuteError::Busy`] if the actor has panicked or the process is stopping. Then the events may be in the log. The
/// next command on the stream reads the log, and is decided on what it holds.
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
    /// Other writers were faster at every try, the actor's backlog is full, or the process is stopping.
    #[error("too much is going on at once: {0}")]
    Busy(&'static str),
}

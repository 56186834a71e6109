//! Every message that one actor sends another, and what it answers.

use std::sync::Arc;

use actix::{Message, Recipient};

use crate::store::{AppendError, Meta, ReadError};
use crate::task::event::{Created, Progress};
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

/// From the dispatcher to the worker inside the process: execute this attempt.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Assign {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// The request.
    pub created: Arc<Created>,
}

/// From the dispatcher to the worker inside the process, about an attempt that it executes.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Direct {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// What it is to do.
    pub directive: Directive,
}

/// What a worker is told about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// Somebody asked for it to stop.
    Cancel,
    /// Stop now: the handler's future is dropped at its next await.
    Interrupt,
    /// The lease is no longer yours: stop, report nothing.
    Lost,
}

/// From the worker inside the process to the dispatcher: none of this attempt's code runs any more, and its end is recorded.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stopped {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
}

/// From the worker inside the process to the dispatcher, first of all: what it can execute; and on its way out: that it
/// has no slots any more.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Offer {
    /// Its name, `local/<server>/<boot>`.
    pub worker: String,
    /// The kinds that it has handlers for.
    pub kinds: Vec<String>,
    /// How many attempts it executes at once.
    pub slots: usize,
    /// Where attempts go.
    pub assign: Recipient<Assign>,
    /// Where directives go.
    pub direct: Recipient<Direct>,
}

/// To an actor that nobody needs any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// From a worker to the projector: a passing remark, shown while the attempt runs; not in the log.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NoteProgress {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// How far it has come.
    pub progress: Progress,
}

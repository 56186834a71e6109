//! The commands on a task, and the reasons for which the rules reject a command.

use std::sync::Arc;

use super::event::{CancelLadder, Created, OutputKept, Progress, QueuedReason, ReleasedReason, Rung, TaskError};
use super::ids::{Position, TaskId};
use super::json::JsonText;
use super::limits::Invalid;
use super::time::Timestamp;

/// A command on a task. The sender and the time are not part of it: `streams::messages::Execute` contains them.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// From a client: create the task.
    Create(Arc<Created>),
    /// From a timer: the time for which the task waited is reached.
    Enqueue {
        /// The time for which the task waited.
        reason: QueuedReason,
    },
    /// From the dispatcher: start an attempt of the task on this worker.
    Start {
        /// The name of the worker.
        worker: String,
        /// BLAKE3 of the lease's secret, in hexadecimal.
        lease_hash: String,
    },
    /// From a client: cancel the task.
    RequestCancel {
        /// The reason, for people.
        reason: Option<String>,
        /// The cancel ladder of the task's kind.
        policy: CancelLadder,
    },
    /// From the worker: it has received the request to cancel.
    AcknowledgeCancel {
        /// The number of the worker's attempt.
        attempt: u32,
        /// BLAKE3 of the secret that the worker sent, in hexadecimal. The worker inside the process sends no secret: `None`.
        lease_hash: Option<String>,
        /// The step that can't be interrupted; the worker stops after it. `None` if the worker stops at once.
        stopping_after: Option<String>,
        /// When that step is expected to end.
        expected_end: Option<Timestamp>,
    },
    /// From an operator or a timer: go on to a higher rung of the cancel ladder.
    Escalate {
        /// The rung to go to.
        rung: Rung,
        /// The reason, for people.
        reason: Option<String>,
        /// The number of the attempt for which a timer was set. If that attempt is over, the command does nothing. `None` if an
        /// operator sends the command: then it applies to the running attempt.
        attempt: Option<u32>,
    },
    /// From the worker: the attempt is over.
    Finish {
        /// The number of the worker's attempt.
        attempt: u32,
        /// BLAKE3 of the secret that the worker sent, in hexadecimal. The worker inside the process sends no secret: `None`.
        lease_hash: Option<String>,
        /// How the attempt ended.
        end: AttemptEnd,
        /// The last progress report of the attempt.
        progress: Option<Progress>,
        /// The tail of the attempt's output.
        output: Option<OutputKept>,
    },
    /// From the server: end the attempt without a report of its worker, because the lease expired, the server was restarted or
    /// the attempt took too long. If the attempt is over, the command does nothing.
    LoseAttempt {
        /// The number of the attempt.
        attempt: u32,
        /// The error; its code is one of [`SYSTEM_ERROR_CODES`](super::event::SYSTEM_ERROR_CODES).
        error: TaskError,
        /// The last progress report of the attempt.
        progress: Option<Progress>,
    },
    /// From a client: run a final task once more. This begins a new run. (The next attempt of the same run needs no command
    /// of a client; see [`Event::AttemptFailed`](super::Event::AttemptFailed).)
    Retry {
        /// The reason, for people.
        reason: Option<String>,
    },
}

/// How an attempt ended, as its worker reports it.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEnd {
    /// The work is done.
    Succeeded {
        /// One line for people.
        message: Option<String>,
        /// The result of the work.
        result: Option<JsonText>,
    },
    /// The work could not be done.
    Failed {
        /// Why it could not be done.
        error: TaskError,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The work was stopped on request.
    Cancelled {
        /// One line for people: which part of the work was done, and which was not.
        message: Option<String>,
        /// The result of the part that was done.
        result: Option<JsonText>,
    },
    /// The worker releases the attempt without a result. The attempt doesn't count towards `max_attempts`.
    Released(ReleasedReason),
}

/// Why the rules reject a command.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// There is no such task.
    #[error("there is no such task")]
    NotFound,
    /// A task with this id exists already.
    #[error("a task with this id exists already")]
    AlreadyExists,
    /// Some fields are invalid.
    #[error("some fields are invalid")]
    Invalid(Vec<Invalid>),
    /// The task is not queued, or not queued any more.
    #[error("the task is not queued")]
    NotQueued,
    /// Only a final task can run again.
    #[error("the task is not final yet, so it can't run again")]
    NotFinal,
    /// The task is not being cancelled.
    #[error("no cancel of this task was requested")]
    NotCancelling,
    /// The attempt is over, or the secret belongs to another lease.
    #[error("the lease is lost: this attempt is over")]
    LeaseLost,
    /// Another task that is not final has its unique key.
    #[error("task {0} has the same unique key and is not final yet")]
    UniqueKeyTaken(TaskId),
    /// The idempotency key was sent before with another body.
    #[error("this Idempotency-Key was already used with another body")]
    IdempotencyKeyReused,
    /// The position is after the last event of the log.
    #[error("position {position} is after the last event of the log ({head})")]
    BeyondHead {
        /// The position in the command.
        position: Position,
        /// The last position of the log.
        head: Position,
    },
}

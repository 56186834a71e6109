//! What can be requested of a task, in the imperative, and the reasons for which the rules reject it.

use std::sync::Arc;

use super::event::{CancelPolicy, Created, OutputKept, Progress, QueuedReason, ReleasedReason, Rung, TaskError};
use super::ids::{Position, TaskId};
use super::json::JsonText;
use super::limits::Invalid;
use super::time::Timestamp;

/// One command. Its subject and its time are passed beside it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// From a client: create the task.
    Create(Arc<Created>),
    /// From a timer: the time that the task waited for has come.
    Enqueue {
        /// What the task waited for.
        reason: QueuedReason,
    },
    /// From the dispatcher: this worker executes the task now.
    Start {
        /// The name of the worker.
        worker: String,
        /// BLAKE3 of the lease's secret, in hexadecimal.
        lease: String,
    },
    /// From a client: stop the task.
    RequestCancel {
        /// The reason, for people.
        reason: Option<String>,
        /// The cancel ladder of the task's kind.
        policy: CancelPolicy,
    },
    /// From the worker: the request to cancel has arrived.
    AcknowledgeCancel {
        /// The attempt of the worker.
        attempt: u32,
        /// BLAKE3 of the secret that the worker sent; none from the worker inside the process.
        lease: Option<String>,
        /// The step that can't be interrupted; none if the worker stops at once.
        stopping_after: Option<String>,
        /// When that step is expected to end.
        expected_end: Option<Timestamp>,
    },
    /// From an operator or a timer: climb the cancel ladder.
    Escalate {
        /// To this rung.
        rung: Rung,
        /// The reason, for people.
        reason: Option<String>,
        /// From a timer: the attempt for which it was set; the command does nothing once that is over. From an operator:
        /// none.
        attempt: Option<u32>,
    },
    /// From the worker: the attempt is over.
    Finish {
        /// The attempt of the worker.
        attempt: u32,
        /// BLAKE3 of the secret that the worker sent; none from the worker inside the process.
        lease: Option<String>,
        /// How it ended.
        end: End,
        /// The last progress report.
        progress: Option<Progress>,
        /// The end of its output.
        output: Option<OutputKept>,
    },
    /// From the system: the worker is lost or the attempt took too long. Does nothing if the attempt is over.
    LoseAttempt {
        /// The number of the attempt.
        attempt: u32,
        /// The code `lease_expired`, `timed_out` or `server_restarted`, with its message.
        error: TaskError,
        /// The last progress report.
        progress: Option<Progress>,
    },
    /// From a client: run a final task once more.
    Retry {
        /// The reason, for people.
        reason: Option<String>,
    },
}

/// How an attempt ended, as its worker reports it.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The work is done.
    Succeeded {
        /// One line for people.
        message: Option<String>,
        /// The result of the work.
        result: Option<JsonText>,
    },
    /// The work is not done.
    Failed {
        /// The error.
        error: TaskError,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The work was stopped on request.
    Cancelled {
        /// One line for people: which part was done, and which was not.
        message: Option<String>,
        /// The result up to that point.
        result: Option<JsonText>,
    },
    /// The attempt was handed back; it doesn't count.
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
    #[error("some fields can't be what they are")]
    Invalid(Vec<Invalid>),
    /// The task is not queued, or no longer.
    #[error("the task does not wait for a worker")]
    NotQueued,
    /// Only a final task can run again.
    #[error("the task is not final yet, so it can't run again")]
    NotFinal,
    /// The task is not being cancelled.
    #[error("nobody asked for this task to be cancelled")]
    NotCancelling,
    /// The attempt is over, or it has another lease.
    #[error("the lease is lost: this attempt is over")]
    LeaseLost,
    /// Another task that is not final has its unique key.
    #[error("task {0} has the same unique key and is not final yet")]
    UniqueKeyTaken(TaskId),
    /// The idempotency key was sent before with another body.
    #[error("this Idempotency-Key stands for a request with another body")]
    IdempotencyKeyReused,
    /// The position lies after the end of the log.
    #[error("position {position} lies beyond the head of the log, {head}")]
    BeyondHead {
        /// The position in the command.
        position: Position,
        /// The last position of the log.
        head: Position,
    },
}

//! What may be asked of a task, in the imperative, and how the rules say no.

use serde_json::Value;

use super::event::{CancelPolicy, Created, OutputKept, Progress, QueuedReason, ReleasedReason, Rung, TaskError};
use super::ids::{Position, TaskId};
use super::limits::Invalid;
use super::time::Timestamp;

/// One wish. Who wishes it, and when, travels beside it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Take on a piece of work.
    Create(Box<Created>),
    /// A timer's: what the task waited for has come.
    Enqueue {
        /// What it waited for.
        reason: QueuedReason,
    },
    /// The dispatcher's: this worker executes it now.
    Start {
        /// Who.
        worker: String,
        /// BLAKE3 of the lease's secret, in hexadecimal.
        lease: String,
    },
    /// A person's: stop it.
    RequestCancel {
        /// Why.
        reason: Option<String>,
        /// The ladder of its kind.
        policy: CancelPolicy,
    },
    /// The worker's: I heard the request.
    AcknowledgeCancel {
        /// Its attempt.
        attempt: u32,
        /// BLAKE3 of the secret that it shows; a worker inside the process needs none.
        lease: Option<String>,
        /// The step that can't be interrupted.
        stopping_after: Option<String>,
        /// When that step is expected to be over.
        expected_end: Option<Timestamp>,
    },
    /// An operator's, or a timer's: the next rung of the ladder.
    Escalate {
        /// Which.
        rung: Rung,
        /// Why.
        reason: Option<String>,
        /// A timer names the attempt that it was set for and does nothing when that is over; an operator names none.
        attempt: Option<u32>,
    },
    /// The worker's: the attempt is over, and this is how.
    Finish {
        /// Its attempt.
        attempt: u32,
        /// BLAKE3 of the secret that it shows; a worker inside the process needs none.
        lease: Option<String>,
        /// How.
        end: End,
        /// The last progress that is known.
        progress: Option<Progress>,
        /// What it wrote.
        output: Option<OutputKept>,
    },
    /// The system's: the worker is lost or the attempt took too long. Does nothing when the attempt is over.
    LoseAttempt {
        /// Which attempt.
        attempt: u32,
        /// `lease_expired`, `timed_out` or `server_restarted`, and the words for it.
        error: TaskError,
        /// The last progress that is known.
        progress: Option<Progress>,
    },
    /// A person's: run a final task once more.
    Retry {
        /// Why.
        reason: Option<String>,
    },
}

/// How a worker says that its attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Done.
    Succeeded {
        /// One line for people.
        message: Option<String>,
        /// What the work gave.
        result: Option<Value>,
    },
    /// Not done.
    Failed {
        /// Why.
        error: TaskError,
        /// Whether another attempt may do better.
        retryable: bool,
    },
    /// Stopped, because it was asked to.
    Cancelled {
        /// One line for people: what was done, what was not.
        message: Option<String>,
        /// What the work gave up to there.
        result: Option<Value>,
    },
    /// Handed back; it doesn't count as an attempt.
    Released(ReleasedReason),
}

/// The rules said no: a value, not an accident.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// There is no such task.
    #[error("there is no such task")]
    NotFound,
    /// A task with this id exists already.
    #[error("a task with this id exists already")]
    AlreadyExists,
    /// Some fields can't be what they are.
    #[error("some fields can't be what they are")]
    Invalid(Vec<Invalid>),
    /// The task doesn't wait for a worker (any more).
    #[error("the task does not wait for a worker")]
    NotQueued,
    /// Only a final task can run again.
    #[error("the task is not final yet, so it can't run again")]
    NotFinal,
    /// Nobody asked for the task to stop.
    #[error("nobody asked for this task to be cancelled")]
    NotCancelling,
    /// The attempt is over, or was never this worker's.
    #[error("the lease is lost: this attempt is over")]
    LeaseLost,
    /// Another task that is not final has its unique key.
    #[error("task {0} has the same unique key and is not final yet")]
    UniqueKeyTaken(TaskId),
    /// A place in the log that is not there yet.
    #[error("position {asked} lies beyond the head of the log, {head}")]
    BeyondHead {
        /// What was named.
        asked: Position,
        /// Where the log ends.
        head: Position,
    },
}

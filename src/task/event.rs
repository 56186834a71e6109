//! The events of a task: what has happened to it. Each event type has a folder with its schemas in `events/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::TaskId;
use super::json::JsonText;
use super::time::Timestamp;

/// An event in the stream of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The task was accepted.
    Created(Arc<Created>),
    /// The task waited for a time (`run_at` or `retry_at`). That time is reached, and the task is ready. A task that is ready at
    /// once has no such event.
    Queued(Queued),
    /// A worker has taken the task, and an attempt begins.
    Started(Started),
    /// A client requested that the task be cancelled.
    CancelRequested(CancelRequested),
    /// The worker acknowledged the request to cancel.
    CancelAcknowledged(CancelAcknowledged),
    /// The cancel has reached a higher rung of its ladder.
    CancelEscalated(CancelEscalated),
    /// An attempt failed, and another attempt follows.
    AttemptFailed(AttemptFailed),
    /// The attempt was released without a result, and the task is queued again. The attempt doesn't count towards
    /// `max_attempts`.
    Released(Released),
    /// The log has stored the tail of an attempt's output. The event that ends the attempt follows in the same append.
    OutputKept(OutputKept),
    /// The run is over.
    Completed(Completed),
    /// A client requested one more run of a final task.
    Retried(Retried),
}

/// The request for a task, with all defaults filled in. The event `Created` records it. Before that event, the same type
/// carries the checked request to the task's actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// The kind of work; it chooses the handler.
    pub kind: String,
    /// The title, for people.
    pub title: String,
    /// The subject who sees the task.
    pub owner: String,
    /// The input of the handler.
    pub input: JsonText,
    /// The queue in which the task waits.
    pub queue: String,
    /// The priority: the higher one starts first.
    pub priority: i32,
    /// The earliest time at which the task may start; null if the task is ready at once.
    pub run_at: Option<Timestamp>,
    /// How many attempts one run may have.
    pub max_attempts: u32,
    /// How long one attempt may take, in seconds.
    pub timeout_s: Option<u64>,
    /// Keys and values that the client chooses. Lists can be filtered by them.
    pub labels: BTreeMap<String, String>,
    /// The parent of the task; null if the task has no parent.
    pub parent: Option<TaskId>,
    /// An owner has at most one task with this key that is not final.
    pub unique_key: Option<String>,
    /// A limit bounds how many tasks with this key run at the same time.
    pub concurrency_key: Option<String>,
    /// The schedule that created the task; null if a client created it.
    pub schedule: Option<Uuid>,
    /// The idempotency key of the request. A repeated request with the same key gets this task.
    pub idempotency: Option<Idempotency>,
}

/// The idempotency key that the caller chose for a request, and the hash of the request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// The key, as the caller sent it.
    pub key: String,
    /// The hash of the body. `2:` and BLAKE3 in hexadecimal: numbers are hashed as they are written. BLAKE3 alone: as
    /// `serde_json` rounds them.
    pub body_hash: String,
}

/// The time for which a task waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueuedReason {
    /// The task waited for its `run_at`.
    RunAt,
    /// The task waited for its `retry_at`, the end of the pause before the next attempt.
    RetryAt,
}

/// See [`Event::Queued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    /// The time for which the task waited.
    pub reason: QueuedReason,
}

/// See [`Event::Started`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The number of the attempt. The first attempt of the first run has number 1; a retry of the task goes on counting.
    pub attempt: u32,
    /// The name of the worker. A worker inside a server's process is named `local/<host name>/<id>`, with a
    /// new id for each start of the process.
    pub worker: String,
    /// BLAKE3 of the lease's secret, in hexadecimal. The log doesn't contain the secret itself. In JSON the field is `lease`.
    #[serde(rename = "lease")]
    pub lease_hash: String,
}

/// The cancel ladder: how long each rung lasts, in milliseconds. Null means that no timer ends the rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelLadder {
    /// The time from the request to cancel until the worker is interrupted.
    pub ask_for_ms: Option<u64>,
    /// The time from the interrupt until the lease is revoked.
    pub interrupt_for_ms: Option<u64>,
}

/// See [`Event::CancelRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequested {
    /// The reason, as the client gave it.
    pub reason: Option<String>,
    /// The cancel ladder of this request.
    pub policy: CancelLadder,
}

/// See [`Event::CancelAcknowledged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelAcknowledged {
    /// The attempt whose worker acknowledged the request.
    pub attempt: u32,
    /// The step that can't be interrupted; the worker stops after it. Null if the worker stops at once.
    pub stopping_after: Option<String>,
    /// When that step is expected to end.
    pub expected_end: Option<Timestamp>,
}

/// A rung of the cancel ladder. A later rung of this list is higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The worker is requested to stop when it can.
    Ask,
    /// The worker is requested to stop immediately.
    Interrupt,
    /// The lease ends, even if the code has not stopped.
    Revoke,
}

/// See [`Event::CancelEscalated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelEscalated {
    /// The rung that was reached.
    pub rung: Rung,
    /// The reason, for people.
    pub reason: Option<String>,
}

/// An error of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskError {
    /// A stable code for programs, in `snake_case`.
    pub code: String,
    /// A message for people.
    pub message: String,
}

/// The codes of the errors with which the system ends an attempt: the lease expired, the attempt took too long, or the server
/// was restarted. A worker in another process can't report these codes.
pub const SYSTEM_ERROR_CODES: [&str; 3] = ["lease_expired", "timed_out", "server_restarted"];

/// Whether the error's code is one of [`SYSTEM_ERROR_CODES`]: the system ended the attempt, and not its worker.
#[must_use]
pub fn is_system_error(error: &TaskError) -> bool {
    SYSTEM_ERROR_CODES.contains(&error.code.as_str())
}

/// The progress of an attempt, as its worker reported it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The part of the work that is done, from 0 to 1; null if the worker doesn't know it.
    pub fraction: Option<f64>,
    /// A message for people.
    pub message: Option<String>,
    /// When the worker reported it.
    pub at: Timestamp,
}

/// See [`Event::AttemptFailed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptFailed {
    /// The number of the attempt.
    pub attempt: u32,
    /// The error.
    pub error: TaskError,
    /// When the next attempt may start.
    pub retry_at: Timestamp,
    /// The last progress report of the attempt.
    pub progress: Option<Progress>,
}

/// Why an attempt was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleasedReason {
    /// The worker did not receive the lease.
    NotDelivered,
    /// The worker released the attempt, because the worker drains or has no handler for the task.
    HandedBack,
}

/// See [`Event::Released`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// The number of the attempt.
    pub attempt: u32,
    /// Why the attempt was released.
    pub reason: ReleasedReason,
}

/// See [`Event::OutputKept`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputKept {
    /// The attempt that wrote the output.
    pub attempt: u32,
    /// The tail of the output; at most 65,536 bytes.
    pub tail: String,
    /// How many bytes of output before the tail were dropped.
    pub dropped_bytes: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The work is done.
    Succeeded,
    /// The work could not be done.
    Failed,
    /// The work was stopped on request.
    Cancelled,
}

/// See [`Event::Completed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completed {
    /// How the run ended.
    pub outcome: Outcome,
    /// The number of the attempt that ended with the run; null if no attempt was running.
    pub attempt: Option<u32>,
    /// One line for people.
    pub message: Option<String>,
    /// The result of the work.
    pub result: Option<JsonText>,
    /// Why the run failed, or why the system ended it by force.
    pub error: Option<TaskError>,
    /// True if the system ended the run by force. Then it is not known whether the code has stopped.
    pub forced: bool,
    /// The last progress report of the attempt.
    pub progress: Option<Progress>,
}

/// See [`Event::Retried`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retried {
    /// The reason, as the client gave it.
    pub reason: Option<String>,
}

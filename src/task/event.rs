//! What has happened to a task, in the past tense. Each variant has a folder in `events/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::TaskId;
use super::json::JsonText;
use super::time::Timestamp;

/// One fact of a task's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The task was accepted.
    Created(Arc<Created>),
    /// The task had to wait for a time and is ready now.
    Queued(Queued),
    /// A worker took the task: an attempt begins.
    Started(Started),
    /// A client requested that the task be cancelled.
    CancelRequested(CancelRequested),
    /// The worker acknowledged the request to cancel.
    CancelAcknowledged(CancelAcknowledged),
    /// The cancel ladder was climbed to a higher rung.
    CancelEscalated(CancelEscalated),
    /// An attempt failed, and another follows.
    AttemptFailed(AttemptFailed),
    /// An attempt was handed back; it doesn't count.
    Released(Released),
    /// The end of the attempt's output; the end of the attempt follows in the same append.
    OutputKept(OutputKept),
    /// The run is over.
    Completed(Completed),
    /// A client requested one more run of a final task.
    Retried(Retried),
}

/// The request for a task, as it was accepted.
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
    /// When the task may start at the earliest; null where it was ready at once.
    pub run_at: Option<Timestamp>,
    /// How many attempts one run may have.
    pub max_attempts: u32,
    /// How long one attempt may take, in seconds.
    pub timeout_s: Option<u64>,
    /// Free keys and values to filter by.
    pub labels: BTreeMap<String, String>,
    /// The task that created this one as its child.
    pub parent: Option<TaskId>,
    /// At most one task of the owner with this key is not final.
    pub unique_key: Option<String>,
    /// Tasks with this key share a limit.
    pub concurrency_key: Option<String>,
    /// The schedule that created the task.
    pub schedule: Option<Uuid>,
    /// By which a repeated request finds this task.
    pub idempotency: Option<Idempotency>,
}

/// The caller's own key of a request, and the request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// The key, as the caller sent it.
    pub key: String,
    /// The hash of the body. `2:` and BLAKE3 in hexadecimal: numbers are hashed as they are written. BLAKE3 alone: as
    /// `serde_json` rounds them.
    pub body_hash: String,
}

/// What a task waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueuedReason {
    /// The time for which it was scheduled has come.
    RunAt,
    /// The pause before the next attempt is over.
    RetryAt,
}

/// See [`Event::Queued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    /// What the task had waited for.
    pub reason: QueuedReason,
}

/// See [`Event::Started`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The number of the attempt, from 1, over all runs.
    pub attempt: u32,
    /// The name of the worker; `local/<server>/<boot>` inside the server's process.
    pub worker: String,
    /// BLAKE3 of the lease's secret, in hexadecimal; the secret itself is not in the log.
    pub lease: String,
}

/// The cancel ladder: how long each rung lasts, in milliseconds; null is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelPolicy {
    /// How long the request stands before the worker is interrupted.
    pub ask_for_ms: Option<u64>,
    /// How long the interrupt stands before the lease is revoked.
    pub interrupt_for_ms: Option<u64>,
}

/// See [`Event::CancelRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequested {
    /// The reason, as the client gave it.
    pub reason: Option<String>,
    /// The cancel ladder of this request.
    pub policy: CancelPolicy,
}

/// See [`Event::CancelAcknowledged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelAcknowledged {
    /// The attempt whose worker acknowledged it.
    pub attempt: u32,
    /// The step that can't be interrupted; null where the worker stops at once.
    pub stopping_after: Option<String>,
    /// When that step is expected to end.
    pub expected_end: Option<Timestamp>,
}

/// A rung of the cancel ladder, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The worker was asked to stop when it can.
    Ask,
    /// The worker was told to stop now.
    Interrupt,
    /// The lease has ended, whether or not the code has stopped.
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

/// An error: a stable code for programs, a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskError {
    /// A stable code, in `snake_case`.
    pub code: String,
    /// A message for people.
    pub message: String,
}

/// The error codes with which the system ends an attempt whose end its worker didn't report.
pub const SYSTEM_ERROR_CODES: [&str; 3] = ["lease_expired", "timed_out", "server_restarted"];

/// Whether the system, and not the worker, ended the attempt with this error.
#[must_use]
pub fn is_system_error(error: &TaskError) -> bool {
    SYSTEM_ERROR_CODES.contains(&error.code.as_str())
}

/// The progress of an attempt, as its worker reported it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// From 0 to 1; null where it is not known.
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

/// Why an attempt was handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleasedReason {
    /// The lease never reached its worker.
    NotDelivered,
    /// The worker handed it back: it drains, or doesn't execute it.
    HandedBack,
}

/// See [`Event::Released`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// The number of the attempt.
    pub attempt: u32,
    /// The reason.
    pub reason: ReleasedReason,
}

/// See [`Event::OutputKept`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputKept {
    /// The attempt that wrote the output.
    pub attempt: u32,
    /// The end of the output; at most 65,536 bytes.
    pub tail: String,
    /// How many bytes before the tail were dropped.
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
    /// The attempt that ended with the run; null where none ran.
    pub attempt: Option<u32>,
    /// One line for people.
    pub message: Option<String>,
    /// The result of the work.
    pub result: Option<JsonText>,
    /// Why the run failed, or what ended it by force.
    pub error: Option<TaskError>,
    /// True where it is not known whether the code has stopped.
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

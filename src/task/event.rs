//! What has happened to a task, in the past tense. One variant for each folder in `events/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::ids::TaskId;
use super::time::Timestamp;

/// One fact of a task's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody asked for the work.
    Created(Box<Created>),
    /// It had to wait and is ready now.
    Queued(Queued),
    /// A worker took it: one attempt begins.
    Started(Started),
    /// Somebody asked for it to stop.
    CancelRequested(CancelRequested),
    /// The worker heard the request.
    CancelAcknowledged(CancelAcknowledged),
    /// The request became a demand.
    CancelEscalated(CancelEscalated),
    /// An attempt ended in failure and another follows.
    AttemptFailed(AttemptFailed),
    /// An attempt was handed back: it doesn't count.
    Released(Released),
    /// What the attempt that ends with it has written.
    OutputKept(OutputKept),
    /// The run is over.
    Completed(Completed),
    /// A person asked for one more run of a final task.
    Retried(Retried),
}

/// The request for a piece of background work, as it was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// What sort of work; chooses the handler.
    pub kind: String,
    /// What people read.
    pub title: String,
    /// The subject who sees it.
    pub owner: String,
    /// What the handler gets.
    pub input: Value,
    /// Where it waits.
    pub queue: String,
    /// Higher goes first.
    pub priority: i32,
    /// Not before this; null where it was ready at once.
    pub run_at: Option<Timestamp>,
    /// How many attempts one run may take.
    pub max_attempts: u32,
    /// Bound on one attempt, in seconds.
    pub timeout_s: Option<u64>,
    /// Free words to filter by.
    pub labels: BTreeMap<String, String>,
    /// The task that asked for this one.
    pub parent: Option<TaskId>,
    /// At most one task with this key is not final.
    pub unique_key: Option<String>,
    /// Tasks with this key share a limit.
    pub concurrency_key: Option<String>,
    /// The schedule that made it.
    pub schedule: Option<Uuid>,
    /// How a repeated request finds this one.
    pub idempotency: Option<Idempotency>,
}

/// The caller's own key of a request, and what it stood for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// As the caller sent it.
    pub key: String,
    /// BLAKE3 of the parsed body, in hexadecimal.
    pub body_hash: String,
}

/// What a task waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueuedReason {
    /// The time it was scheduled for has come.
    RunAt,
    /// The pause before the next attempt is over.
    RetryAt,
}

/// See [`Event::Queued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    /// What it had waited for.
    pub reason: QueuedReason,
}

/// See [`Event::Started`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Numbered from 1, over all runs.
    pub attempt: u32,
    /// Who executes it; `local/<server>/<boot>` inside the process.
    pub worker: String,
    /// BLAKE3 of the lease's secret, in hexadecimal; never the secret.
    pub lease: String,
}

/// How long each rung of the ladder is given; null is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelPolicy {
    /// How long the worker is asked before it is interrupted.
    pub ask_for_ms: Option<u64>,
    /// How long the interrupt is given before the lease is revoked.
    pub interrupt_for_ms: Option<u64>,
}

/// See [`Event::CancelRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequested {
    /// Why, in the words of who asked.
    pub reason: Option<String>,
    /// The ladder in force for this request.
    pub policy: CancelPolicy,
}

/// See [`Event::CancelAcknowledged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelAcknowledged {
    /// The attempt that heard it.
    pub attempt: u32,
    /// The step that can't be interrupted; null where it stops at once.
    pub stopping_after: Option<String>,
    /// When that step is expected to be over.
    pub expected_end: Option<Timestamp>,
}

/// A rung of the ladder above asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The request stands; the worker stops when it can.
    Ask,
    /// Stop now.
    Interrupt,
    /// The lease ends, whatever the code does.
    Revoke,
}

/// See [`Event::CancelEscalated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelEscalated {
    /// The rung that was reached.
    pub rung: Rung,
    /// Why.
    pub reason: Option<String>,
}

/// What went wrong: a stable code for programs, a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskError {
    /// Stable, in `snake_case`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The codes with which the system ends an attempt that its worker didn't end.
pub const VERDICTS_OF_THE_SYSTEM: [&str; 3] = ["lease_expired", "timed_out", "server_restarted"];

/// Whether the system ended the attempt with this error, and not its worker.
#[must_use]
pub fn is_verdict_of_the_system(error: &TaskError) -> bool {
    VERDICTS_OF_THE_SYSTEM.contains(&error.code.as_str())
}

/// How far an attempt has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// 0 to 1, where it is known.
    pub fraction: Option<f64>,
    /// For people.
    pub message: Option<String>,
    /// When it was said.
    pub at: Timestamp,
}

/// See [`Event::AttemptFailed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptFailed {
    /// Which one.
    pub attempt: u32,
    /// Why.
    pub error: TaskError,
    /// When the next one may start.
    pub retry_at: Timestamp,
    /// The last that was known of it.
    pub progress: Option<Progress>,
}

/// Why an attempt was handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleasedReason {
    /// The lease never reached its worker.
    NotDelivered,
    /// The worker gave it back: it drains, or doesn't want it.
    HandedBack,
}

/// See [`Event::Released`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// Which one.
    pub attempt: u32,
    /// Why.
    pub reason: ReleasedReason,
}

/// See [`Event::OutputKept`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputKept {
    /// Which attempt wrote it.
    pub attempt: u32,
    /// The end of what it wrote; at most 65,536 bytes.
    pub tail: String,
    /// How many bytes came before that and were not kept.
    pub dropped_bytes: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The work is done.
    Succeeded,
    /// It could not be done.
    Failed,
    /// It was stopped because somebody asked.
    Cancelled,
}

/// See [`Event::Completed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completed {
    /// How.
    pub outcome: Outcome,
    /// The attempt that it ended; null where none ran.
    pub attempt: Option<u32>,
    /// One line for people.
    pub message: Option<String>,
    /// What the work gave.
    pub result: Option<Value>,
    /// Why it failed, or what ended it by force.
    pub error: Option<TaskError>,
    /// True where nobody saw the code stop.
    pub forced: bool,
    /// The last that was known of the attempt.
    pub progress: Option<Progress>,
}

/// See [`Event::Retried`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retried {
    /// Why, in the words of who asked.
    pub reason: Option<String>,
}

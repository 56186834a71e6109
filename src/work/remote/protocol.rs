//! The bodies of the requests and responses of the lease protocol. Unknown fields of a response are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::task::command::AttemptEnd;
use crate::task::event::{Created, OutputKept, Progress, TaskError};
use crate::task::{JsonText, TaskId, Timestamp};

pub(super) const TAKE_PATH: &str = "/v1/leases";
pub(super) const HEARTBEAT_PATH: &str = "/v1/leases/heartbeat";
pub(super) const ACKNOWLEDGE_PATH: &str = "/v1/leases/cancel-ack";
pub(super) const FINISH_PATH: &str = "/v1/leases/finish";

#[derive(Serialize)]
pub(super) struct TakeRequest<'a> {
    pub worker: &'a str,
    pub kinds: Vec<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub queues: &'a [String],
    pub max: usize,
    pub wait_s: u64,
}

#[derive(Deserialize)]
pub(super) struct TakeResponse {
    pub leases: Vec<GrantedLease>,
}

#[derive(Deserialize)]
pub(super) struct GrantedLease {
    /// The text of the lease, `<task>.<attempt>.<secret>`. Whoever has it may report about the attempt.
    pub lease: String,
    pub task_id: TaskId,
    pub attempt: u32,
    /// Milliseconds until the lease ends, counted from the moment when the server sent the response.
    pub left_ms: u64,
    kind: String,
    title: String,
    owner: String,
    input: JsonText,
    labels: BTreeMap<String, String>,
}

impl GrantedLease {
    /// The task's `Created` event with the fields that a lease has. `timeout_s` is `None`, because the server enforces the
    /// timeout with the directive `lost`.
    pub fn into_created(self) -> Created {
        Created {
            kind: self.kind,
            title: self.title,
            owner: self.owner,
            input: self.input,
            labels: self.labels,
            queue: String::new(),
            priority: 0,
            run_at: None,
            max_attempts: 1,
            timeout_s: None,
            parent: None,
            unique_key: None,
            concurrency_key: None,
            schedule: None,
            idempotency: None,
        }
    }
}

#[derive(Serialize)]
pub(super) struct HeartbeatRequest<'a> {
    pub worker: &'a str,
    pub leases: &'a [HeartbeatItem],
    pub wait_s: f64,
}

#[derive(Serialize)]
pub(super) struct HeartbeatItem {
    pub lease: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressDoc>,
    /// The last directive that the worker has received for the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ProgressDoc {
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl From<Progress> for ProgressDoc {
    fn from(Progress { fraction, message, .. }: Progress) -> Self {
        Self { fraction, message }
    }
}

#[derive(Deserialize)]
pub(super) struct HeartbeatResponse {
    pub directives: Vec<LeaseDirective>,
    /// Milliseconds until the first of the leases ends, counted from the moment when the server sent the response. `None` if
    /// the worker holds none of the leases.
    pub left_ms: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct LeaseDirective {
    pub lease: String,
    pub directive: String,
}

#[derive(Serialize)]
pub(super) struct AcknowledgeRequest<'a> {
    pub lease: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping_after: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_end: Option<Timestamp>,
}

#[derive(Serialize)]
pub(super) struct FinishRequestItem<'a> {
    lease: &'a str,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a JsonText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a TaskError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<OutputDoc<'a>>,
}

#[derive(Serialize)]
struct OutputDoc<'a> {
    tail: &'a str,
    dropped_bytes: u64,
}

impl<'a> FinishRequestItem<'a> {
    pub fn new(lease: &'a str, end: &'a AttemptEnd, output: Option<&'a OutputKept>) -> Self {
        let output = output.map(|kept| OutputDoc { tail: &kept.tail, dropped_bytes: kept.dropped_bytes });
        let item = Self { lease, outcome: "", message: None, result: None, error: None, retryable: None, output };
        match end {
            AttemptEnd::Succeeded { message, result } => {
                Self { outcome: "succeeded", message: message.as_deref(), result: result.as_ref(), ..item }
            }
            AttemptEnd::Failed { error, retryable } => {
                Self { outcome: "failed", error: Some(error), retryable: Some(*retryable), ..item }
            }
            AttemptEnd::Cancelled { message, result } => {
                Self { outcome: "cancelled", message: message.as_deref(), result: result.as_ref(), ..item }
            }
            AttemptEnd::Released(_) => Self { outcome: "released", ..item },
        }
    }

    /// The error or the message, in one line.
    pub fn description(&self) -> Option<String> {
        let error = self.error.map(|error| format!("{}: {}", error.code, error.message));
        error.or_else(|| self.message.map(str::to_owned))
    }
}

#[derive(Serialize)]
pub(super) struct FinishRequest<'a> {
    pub items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct FinishResponse {
    pub items: Vec<FinishResult>,
}

#[derive(Deserialize)]
pub(super) struct FinishResult {
    #[serde(default)]
    pub problem: Option<ServerProblem>,
}

/// A problem document (RFC 9457), with the fields that a worker needs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServerProblem {
    pub code: String,
    #[serde(default)]
    pub detail: String,
    /// Whether the same request may succeed later; `None` if the response doesn't have this field.
    #[serde(default)]
    pub retryable: Option<bool>,
}

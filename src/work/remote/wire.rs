//! The lease protocol, as it is written on the wire. What an answer holds beyond this is passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::task::command::End;
use crate::task::event::{Created, OutputKept, Progress, TaskError};
use crate::task::{TaskId, Timestamp};

pub(super) const TAKE: &str = "/v1/leases";
pub(super) const BEAT: &str = "/v1/leases/heartbeat";
pub(super) const ACK: &str = "/v1/leases/cancel-ack";
pub(super) const FINISH: &str = "/v1/leases/finish";

#[derive(Serialize)]
pub(super) struct Take<'a> {
    pub worker: &'a str,
    pub kinds: Vec<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub queues: &'a [String],
    pub max: usize,
    pub wait_s: u64,
}

#[derive(Deserialize)]
pub(super) struct Taken {
    pub leases: Vec<Granted>,
}

#[derive(Deserialize)]
pub(super) struct Granted {
    pub lease: String,
    pub task_id: TaskId,
    pub attempt: u32,
    pub deadline: Timestamp,
    kind: String,
    title: String,
    owner: String,
    input: Value,
    labels: BTreeMap<String, String>,
}

impl Granted {
    /// The request as far as a worker is told of it. The server bounds the attempt's time: it says `lost`.
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
pub(super) struct Beat<'a> {
    pub worker: &'a str,
    pub leases: &'a [BeatOf],
    pub wait_s: f64,
}

#[derive(Serialize)]
pub(super) struct BeatOf {
    pub lease: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Said>,
    /// The last directive that was heard for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl From<Progress> for Said {
    fn from(Progress { fraction, message, .. }: Progress) -> Self {
        Self { fraction, message }
    }
}

#[derive(Deserialize)]
pub(super) struct Beaten {
    pub directives: Vec<Directed>,
    pub deadline: Option<Timestamp>,
}

#[derive(Deserialize)]
pub(super) struct Directed {
    pub lease: String,
    pub directive: String,
}

#[derive(Serialize)]
pub(super) struct Ack<'a> {
    pub lease: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping_after: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_end: Option<Timestamp>,
}

#[derive(Serialize)]
pub(super) struct Item<'a> {
    lease: &'a str,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a TaskError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    tail: &'a str,
    dropped_bytes: u64,
}

impl<'a> Item<'a> {
    pub fn of(lease: &'a str, end: &'a End, output: Option<&'a OutputKept>) -> Self {
        let output = output.map(|kept| Output { tail: &kept.tail, dropped_bytes: kept.dropped_bytes });
        let item = Self { lease, outcome: "", message: None, result: None, error: None, retryable: None, output };
        match end {
            End::Succeeded { message, result } => {
                Self { outcome: "succeeded", message: message.as_deref(), result: result.as_ref(), ..item }
            }
            End::Failed { error, retryable } => {
                Self { outcome: "failed", error: Some(error), retryable: Some(*retryable), ..item }
            }
            End::Cancelled { message, result } => {
                Self { outcome: "cancelled", message: message.as_deref(), result: result.as_ref(), ..item }
            }
            End::Released(_) => Self { outcome: "released", ..item },
        }
    }

    /// What there is to say about it in one line.
    pub fn words(&self) -> Option<String> {
        let error = self.error.map(|error| format!("{}: {}", error.code, error.message));
        error.or_else(|| self.message.map(str::to_owned))
    }
}

#[derive(Deserialize)]
pub(super) struct Finished {
    pub items: Vec<ItemAnswer>,
}

#[derive(Deserialize)]
pub(super) struct ItemAnswer {
    #[serde(default)]
    pub problem: Option<Problem>,
}

/// The server's no (RFC 9457), as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Problem {
    pub code: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub retryable: bool,
}

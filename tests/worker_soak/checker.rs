//! Checks a log line by line. The checker is written from the contract alone and shares no code with the server.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Checks a log event by event. It asserts that no event is missing, that the chain of hashes is correct, that each
/// change of status is in the contract's table, that each attempt and each run has at most one end, and that no attempt
/// starts after a request to cancel.
#[derive(Default)]
pub struct Checker {
    /// The state of each task, by id.
    pub tasks: HashMap<String, TaskHistory>,
    /// The number of events so far.
    pub events: u64,
    /// The number of events by type, for some types also by outcome or reason.
    pub event_counts: std::collections::BTreeMap<String, u64>,
    hash: [u8; 32],
    /// The hashes of all leases so far. No two may be equal.
    leases: HashSet<String>,
}

/// The history of one task so far.
#[derive(Default)]
pub struct TaskHistory {
    /// Its status after each of its events.
    pub statuses: Vec<&'static str>,
    /// The end of each attempt, by its number.
    pub ends: HashMap<u64, End>,
    max_attempts: u64,
    attempt: u64,
    /// The number of attempts in this run, without released ones.
    counted_attempts: u64,
    /// Whether a cancel was requested in this run.
    cancel_requested: bool,
}

/// How an attempt ended.
pub struct End {
    /// The task's status from then on.
    pub status: &'static str,
    /// Whether the worker reported the end.
    pub by_worker: bool,
    /// The actor of the event.
    pub actor: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    stream: String,
    revision: u64,
    position: u64,
    #[serde(rename = "type")]
    kind: String,
    version: u32,
    time: String,
    #[serde(borrow)]
    meta: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    hash: String,
}

impl Checker {
    /// Checks the body of `GET /v1/log`.
    pub fn check_log(text: &str) -> Self {
        Self::check_each(text, |_, _| {})
    }

    /// Checks the body of `GET /v1/log`, and calls `check` after each line.
    pub fn check_each(text: &str, mut check: impl FnMut(&Self, &str)) -> Self {
        let mut checker = Self::default();
        for text in text.lines() {
            let line: Line<'_> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            checker.add(&line);
            check(&checker, text);
        }
        checker
    }

    /// The number of tasks in each status.
    pub fn counts(&self) -> HashMap<&'static str, u64> {
        let mut counts = HashMap::new();
        for task in self.tasks.values() {
            *counts.entry(task.status()).or_default() += 1;
        }
        counts
    }

    /// The hash of the log so far, in hexadecimal.
    pub fn hash(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_hex().to_string()
    }

    /// Checks the next line.
    fn add(&mut self, line: &Line<'_>) {
        self.events += 1;
        assert_eq!(line.position, self.events, "positions have no gap");
        self.check_hash(line);
        let Some(id) = line.stream.strip_prefix("task-") else { return };
        let data: Value = serde_json::from_str(line.data.get()).unwrap();
        let meta: Value = serde_json::from_str(line.meta.get()).unwrap();
        self.count_event(&line.kind, &data);
        if line.kind == "Started" {
            assert!(self.leases.insert(data["lease"].as_str().unwrap().to_owned()), "two leases are equal: {data}");
        }
        let task = self.tasks.entry(id.to_owned()).or_default();
        assert_eq!(line.revision, task.statuses.len() as u64, "revisions of {id} have no gap");
        let context = || format!("event {} of {id}, {} {data} after {:?}", line.position, line.kind, task.statuses);
        let after =
            next_status(task.statuses.last().copied(), &line.kind, &data).unwrap_or_else(|| panic!("{}", context()));
        if let Some(rule) = task.broken_rule(&line.kind, &data) {
            panic!("{rule}: {}", context());
        }
        task.apply(&line.kind, &data, &meta, after);
        task.statuses.push(after);
    }

    /// Computes the hash of the event as the server's documentation describes it, and compares it with the line.
    fn check_hash(&mut self, line: &Line<'_>) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash);
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        field(line.stream.as_bytes());
        field(&line.revision.to_be_bytes());
        field(line.id.parse::<uuid::Uuid>().unwrap().as_bytes());
        field(line.kind.as_bytes());
        field(&line.version.to_be_bytes());
        field(&line.time.parse::<jiff::Timestamp>().unwrap().as_microsecond().to_be_bytes());
        field(line.meta.get().as_bytes());
        field(line.data.get().as_bytes());
        self.hash = *hasher.finalize().as_bytes();
        assert_eq!(line.hash, self.hash(), "event {} continues the chain", line.position);
    }

    /// Adds the event to the counts.
    fn count_event(&mut self, kind: &str, data: &Value) {
        let detail = match kind {
            "AttemptFailed" => data["error"]["code"].as_str(),
            "Completed" if data["forced"] == true => Some("forced"),
            "Completed" => data["outcome"].as_str(),
            "Released" => data["reason"].as_str(),
            "CancelEscalated" => data["rung"].as_str(),
            _ => None,
        };
        let name = detail.map_or(kind.to_owned(), |detail| format!("{kind} {detail}"));
        *self.event_counts.entry(name).or_default() += 1;
    }
}

impl TaskHistory {
    /// The present status.
    pub fn status(&self) -> &'static str {
        self.statuses.last().unwrap()
    }

    /// The rule that the event breaks, apart from the table of statuses.
    fn broken_rule(&self, kind: &str, data: &Value) -> Option<&'static str> {
        let attempt = data["attempt"].as_u64();
        let ends = matches!(kind, "AttemptFailed" | "Released" | "Completed") && attempt.is_some();
        if (ends || kind == "CancelAcknowledged" || kind == "OutputKept") && attempt != Some(self.attempt) {
            return Some("an attempt that doesn't run");
        }
        if ends && self.ends.contains_key(&self.attempt) {
            return Some("an attempt ends twice");
        }
        let active = matches!(self.statuses.last(), Some(&("running" | "cancelling")));
        match kind {
            "Completed" if active && !ends => Some("the attempt that runs has no end"),
            "Completed" if !active && ends => Some("no attempt runs"),
            "Started" if attempt != Some(self.attempt + 1) => Some("attempts count up"),
            "Started" if self.counted_attempts >= self.max_attempts => Some("more attempts than the request allows"),
            "Started" | "AttemptFailed" | "Released" if self.cancel_requested => {
                Some("nothing is tried again after a request")
            }
            "CancelRequested" if self.cancel_requested => Some("one request for each run"),
            "CancelAcknowledged" | "CancelEscalated" if !self.cancel_requested => Some("no cancel is requested"),
            "AttemptFailed" if self.counted_attempts >= self.max_attempts => Some("no attempt is left"),
            "AttemptFailed" if data["retry_at"].is_null() => Some("retry_at is never null"),
            _ => None,
        }
    }

    fn apply(&mut self, kind: &str, data: &Value, meta: &Value, after: &'static str) {
        match kind {
            "Created" => self.max_attempts = data["max_attempts"].as_u64().unwrap(),
            "Started" => {
                self.attempt += 1;
                self.counted_attempts += 1;
            }
            "Released" => self.counted_attempts -= 1,
            "CancelRequested" => self.cancel_requested = true,
            "Retried" => {
                self.counted_attempts = 0;
                self.cancel_requested = false;
            }
            _ => {}
        }
        let ends = matches!(kind, "AttemptFailed" | "Released" | "Completed");
        if let Some(attempt) = data["attempt"].as_u64().filter(|_| ends) {
            let actor = meta["actor"].as_str().unwrap().to_owned();
            self.ends.insert(attempt, End { status: after, by_worker: meta["via"] == "worker", actor });
        }
    }

    /// Why the task or one of its attempts has not ended; `None` if all have.
    pub fn why_not_ended(&self) -> Option<String> {
        if !matches!(self.status(), "succeeded" | "failed" | "cancelled") {
            return Some(format!("it is {}", self.status()));
        }
        (1..=self.attempt).find(|n| !self.ends.contains_key(n)).map(|n| format!("attempt {n} has no end"))
    }
}

/// The status after the event, by the contract's table; `None` if the event is not legal.
fn next_status(before: Option<&'static str>, kind: &str, data: &Value) -> Option<&'static str> {
    Some(match (before, kind) {
        (None, "Created") if data["run_at"].is_null() => "queued",
        (None, "Created") => "scheduled",
        (Some("scheduled" | "retrying"), "Queued")
        | (Some("running"), "Released")
        | (Some("succeeded" | "failed" | "cancelled"), "Retried") => "queued",
        (Some("queued"), "Started") => "running",
        (Some("running"), "AttemptFailed") => "retrying",
        (Some(waiting @ ("scheduled" | "queued" | "retrying")), "CancelRequested") => waiting,
        (Some("running"), "CancelRequested") | (Some("cancelling"), "CancelAcknowledged" | "CancelEscalated") => {
            "cancelling"
        }
        (Some(active @ ("running" | "cancelling")), "OutputKept") => active,
        (Some("running" | "cancelling"), "Completed") => match data["outcome"].as_str()? {
            "succeeded" => "succeeded",
            "failed" => "failed",
            "cancelled" => "cancelled",
            _ => return None,
        },
        (Some("scheduled" | "queued" | "retrying"), "Completed") if data["outcome"] == "cancelled" => "cancelled",
        _ => return None,
    })
}

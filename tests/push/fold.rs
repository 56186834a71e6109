//! Folds `/v1/log` into tasks and counters. It is written from the contract alone and shares no code with the server,
//! so that it doesn't contain the same faults.

use std::collections::HashMap;

use serde_json::{Value, json};

pub const STATUSES: [&str; 8] =
    ["scheduled", "queued", "running", "cancelling", "retrying", "succeeded", "failed", "cancelled"];

/// The result of folding a log event by event. Folding asserts that positions and revisions have no gap, that every
/// change of status is in the contract's table, and that no attempt starts or ends twice.
pub struct Fold {
    /// Whose bell is folded: the owner's, or that of everyone as this subject sees it.
    owner: String,
    is_everyone: bool,
    /// The expected document of each task at each revision, by id.
    pub tasks: HashMap<String, Vec<Value>>,
    /// The bell at each position, from 0.
    bells: Vec<Value>,
    /// The last revision of each bell, by owner.
    bell_revisions: HashMap<String, u64>,
    /// The number of the bell's tasks in each status, in the order of [`STATUSES`].
    counts: [u64; 8],
    /// The position up to which the owner has seen the bell.
    seen: u64,
    /// For each final task of the bell, its status and the position of its last `Completed` event.
    ended: HashMap<String, (usize, u64)>,
    /// The number of these tasks whose position is after `seen`, by status.
    unseen: [u64; 8],
    /// All events in the order of the log.
    pub events: Vec<Value>,
}

impl Fold {
    /// Folds the body of `GET /v1/log`, with the bell of this owner.
    pub fn of(text: &str, owner: &str) -> Self {
        Self::with_bell(text, owner, false)
    }

    /// Folds the body of `GET /v1/log`, with the bell of everyone as this subject sees it.
    pub fn of_everyone(text: &str, viewer: &str) -> Self {
        Self::with_bell(text, viewer, true)
    }

    fn with_bell(text: &str, owner: &str, is_everyone: bool) -> Self {
        let mut fold = Self {
            owner: owner.to_owned(),
            is_everyone,
            tasks: HashMap::new(),
            bells: Vec::new(),
            bell_revisions: HashMap::new(),
            counts: [0; 8],
            seen: 0,
            ended: HashMap::new(),
            unseen: [0; 8],
            events: Vec::new(),
        };
        fold.store_bell();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).expect("a line of the log is JSON");
            assert_eq!(event["position"], fold.bells.len(), "positions have no gap");
            fold.add(&event);
            fold.store_bell();
            fold.events.push(event);
        }
        for (id, docs) in &fold.tasks {
            let last = docs.last().unwrap();
            assert!(
                may_have_cancel(last) || last["cancel"].is_null(),
                "{id}: a task that doesn't run is cancelled at once"
            );
        }
        fold
    }

    /// The position of the last event.
    pub fn head(&self) -> u64 {
        self.bells.len() as u64 - 1
    }

    /// The bell at this position: `counts`, `unseen`, `seen`.
    pub fn bell(&self, position: u64) -> &Value {
        self.bells.get(usize::try_from(position).unwrap()).expect("a position that the log has")
    }

    /// A description of the first field in which the shown task differs from the log at the same revision; `None` if
    /// all are equal.
    pub fn difference(&self, shown: &Value) -> Option<String> {
        let id = shown["id"].as_str().unwrap();
        let revision = usize::try_from(shown["revision"].as_u64().unwrap()).unwrap();
        let Some(doc) = self.tasks.get(id).and_then(|docs| docs.get(revision)) else {
            return Some(format!("{id} has no revision {revision}"));
        };
        let running = matches!(doc["status"].as_str(), Some("running" | "cancelling"));
        for (field, expected) in doc.as_object().unwrap() {
            let is_live = field == "progress" && running;
            if !is_live && shown[field] != *expected {
                return Some(format!("{id} at revision {revision}: {field} is {}, should be {expected}", shown[field]));
            }
        }
        let waiting = &shown["waiting_for"];
        let is_right = match doc["status"].as_str().unwrap() {
            "scheduled" => waiting == "run_at",
            "retrying" => waiting == "retry_at",
            "queued" => waiting.is_null() || waiting == "worker" || waiting == "limit",
            _ => waiting.is_null(),
        };
        (!is_right).then(|| format!("{id} at revision {revision}: waits for {waiting}"))
    }

    /// Stores the present state of the bell for the last position.
    fn store_bell(&mut self) {
        let counts: serde_json::Map<_, _> =
            STATUSES.iter().zip(self.counts).map(|(name, n)| ((*name).to_owned(), json!(n))).collect();
        let [.., succeeded, failed, cancelled] = self.unseen;
        let unseen = json!({"succeeded": succeeded, "failed": failed, "cancelled": cancelled});
        self.bells.push(json!({"counts": counts, "unseen": unseen, "seen": self.seen}));
    }

    /// Folds one event.
    fn add(&mut self, event: &Value) {
        let stream = event["stream"].as_str().unwrap();
        if let Some(owner) = stream.strip_prefix("bell-") {
            let next = self.bell_revisions.get(owner).map_or(0, |last| last + 1);
            assert_eq!(event["revision"], next, "revisions of {stream} have no gap");
            self.bell_revisions.insert(owner.to_owned(), next);
            if owner == self.owner {
                let seen = event["data"]["position"].as_u64().unwrap();
                assert!(seen > self.seen, "seen only grows");
                self.seen = seen;
                self.unseen = [0; 8];
                for (status, _) in self.ended.values().filter(|(_, position)| *position > seen) {
                    self.unseen[*status] += 1;
                }
            }
            return;
        }
        let id = stream.strip_prefix("task-").expect("a stream of a task or a bell").to_owned();
        let docs = self.tasks.entry(id.clone()).or_default();
        assert_eq!(event["revision"], docs.len(), "revisions of {stream} have no gap");
        let before = docs.last().cloned();
        let mut after = match &before {
            None => created_doc(&id, event),
            Some(doc) => doc_after(doc.clone(), event),
        };
        after["revision"] = event["revision"].clone();
        after["position"] = event["position"].clone();
        if self.is_everyone || after["owner"] == *self.owner {
            if let Some(before) = &before {
                self.counts[status_of(before)] -= 1;
            }
            self.counts[status_of(&after)] += 1;
            let end = is_final(&after).then(|| (status_of(&after), event["position"].as_u64().unwrap()));
            let old_end = self.ended.remove(&id).filter(|(_, position)| *position > self.seen);
            if let Some((status, _)) = old_end {
                self.unseen[status] -= 1;
            }
            if let Some(end) = end {
                self.unseen[end.0] += 1;
                self.ended.insert(id, end);
            }
        }
        docs.push(after);
    }
}

fn status_of(doc: &Value) -> usize {
    STATUSES.iter().position(|name| doc["status"] == *name).expect("a status of the contract")
}

pub fn is_final(doc: &Value) -> bool {
    status_of(doc) >= 5
}

/// Whether a task in this status may have a request to cancel. Any other task is cancelled in the same append as the
/// request.
fn may_have_cancel(doc: &Value) -> bool {
    is_final(doc) || doc["status"] == "cancelling"
}

/// The document of a task after its `Created` event.
fn created_doc(id: &str, event: &Value) -> Value {
    assert_eq!(event["type"], "Created", "{event}");
    let data = &event["data"];
    let mut doc = json!({
        "id": id, "created_at": event["time"], "attempt": 0, "worker": null, "started_at": null, "finished_at": null,
        "duration_ms": null, "retry_at": null, "progress": null, "outcome": null, "cancel": null,
        "status": if data["run_at"].is_null() { "queued" } else { "scheduled" },
    });
    for field in
        ["kind", "title", "owner", "queue", "priority", "labels", "parent", "run_at", "max_attempts", "timeout_s"]
    {
        doc[field] = data[field].clone();
    }
    doc
}

/// The document of a task after a later event.
fn doc_after(mut doc: Value, event: &Value) -> Value {
    let (data, kind) = (&event["data"], event["type"].as_str().unwrap());
    let status = doc["status"].as_str().unwrap().to_owned();
    let active = status == "running" || status == "cancelling";
    let ends = matches!(kind, "AttemptFailed" | "Released" | "Completed") && !data["attempt"].is_null();
    if ends || kind == "CancelAcknowledged" {
        assert!(active && data["attempt"] == doc["attempt"], "no attempt has two ends: {event} on {doc}");
    }
    let next = match (status.as_str(), kind) {
        ("scheduled" | "retrying", "Queued")
        | ("running", "Released")
        | ("succeeded" | "failed" | "cancelled", "Retried") => "queued",
        ("queued", "Started") => "running",
        ("running", "AttemptFailed") => "retrying",
        ("running", "CancelRequested") | ("cancelling", "CancelAcknowledged" | "CancelEscalated") => "cancelling",
        (waiting @ ("scheduled" | "queued" | "retrying"), "CancelRequested") => waiting,
        ("running" | "cancelling", "Completed") => data["outcome"].as_str().unwrap(),
        ("scheduled" | "queued" | "retrying", "Completed") if data["outcome"] == "cancelled" => "cancelled",
        _ => panic!("{kind} is not legal for {status}: {event}"),
    };
    doc["status"] = json!(next);
    match kind {
        "Queued" => doc["retry_at"] = Value::Null,
        "Started" => apply_started(&mut doc, event),
        "AttemptFailed" => {
            assert!(!data["retry_at"].is_null(), "retry_at is never null");
            doc["retry_at"] = data["retry_at"].clone();
            doc["progress"] = data["progress"].clone();
        }
        "Released" => doc["started_at"] = Value::Null,
        "CancelRequested" => {
            assert!(doc["cancel"].is_null(), "one request for each run: {event}");
            doc["cancel"] = json!({
                "requested_at": event["time"], "requested_by": event["meta"]["actor"], "reason": data["reason"],
                "acknowledged_at": null, "stopping_after": null, "expected_end": null, "rung": "ask", "verdict": null,
            });
        }
        "CancelAcknowledged" => {
            let cancel = &mut doc["cancel"];
            if cancel["acknowledged_at"].is_null() {
                cancel["acknowledged_at"] = event["time"].clone();
            }
            cancel["stopping_after"] = data["stopping_after"].clone();
            cancel["expected_end"] = data["expected_end"].clone();
        }
        "CancelEscalated" => doc["cancel"]["rung"] = data["rung"].clone(),
        "Completed" => apply_completed(&mut doc, event),
        _ => {
            for field in ["cancel", "outcome", "progress", "started_at", "finished_at", "duration_ms"] {
                doc[field] = Value::Null;
            }
        }
    }
    doc
}

fn apply_started(doc: &mut Value, event: &Value) {
    let attempt = event["data"]["attempt"].as_u64().unwrap();
    assert_eq!(attempt, doc["attempt"].as_u64().unwrap() + 1, "attempts count up: {event}");
    doc["attempt"] = json!(attempt);
    doc["worker"] = event["data"]["worker"].clone();
    doc["started_at"] = event["time"].clone();
    doc["progress"] = Value::Null;
}

fn apply_completed(doc: &mut Value, event: &Value) {
    let data = &event["data"];
    doc["finished_at"] = event["time"].clone();
    doc["retry_at"] = Value::Null;
    doc["outcome"] = json!({"message": data["message"], "error": data["error"]});
    if !data["progress"].is_null() {
        doc["progress"] = data["progress"].clone();
    }
    let time = |field: &Value| field.as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap());
    if let (Some(from), Some(to)) = (time(&doc["started_at"]), time(&doc["finished_at"])) {
        doc["duration_ms"] = json!((to.as_microsecond() - from.as_microsecond()) / 1000);
    }
    if !doc["cancel"].is_null() {
        doc["cancel"]["verdict"] = json!(match (data["outcome"].as_str().unwrap(), data["forced"] == true) {
            ("succeeded", _) => "finished_first",
            ("failed", _) => "failed_first",
            (_, true) => "forced",
            (_, false) => "cancelled",
        });
    }
}

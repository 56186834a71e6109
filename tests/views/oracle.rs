//! A second, slow and simple implementation of the views. It folds the JSON of the log and uses none of the types of
//! the views.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use taskbell::store::Recorded;
use taskbell::task::{Status, Timestamp};
use taskbell::views::Filter;

/// The expected state of the views: the tasks in the order of their creation, and the `seen` position of each owner.
#[derive(Clone, Default)]
pub struct Oracle {
    pub position: u64,
    pub tasks: Vec<ExpectedTask>,
    indexes: BTreeMap<String, usize>,
    pub seen: BTreeMap<String, u64>,
    pub keys: Vec<(String, String, String, String)>,
}

/// The expected document of a task, and positions that are not in the document.
#[derive(Clone)]
pub struct ExpectedTask {
    pub created: u64,
    ended: u64,
    pub doc: Value,
}

impl Oracle {
    pub fn apply(&mut self, recorded: &Recorded) {
        let event = serde_json::to_value(recorded).unwrap();
        let (data, time, kind) = (&event["data"], &event["time"], event["type"].as_str().unwrap());
        self.position = event["position"].as_u64().unwrap();
        let stream = event["stream"].as_str().unwrap();
        if let Some(owner) = stream.strip_prefix("bell-") {
            self.seen.insert(owner.to_owned(), data["position"].as_u64().unwrap());
            return;
        }
        let id = stream.strip_prefix("task-").unwrap();
        if kind == "Created" {
            self.create(id, &event);
            return;
        }
        let entry = &mut self.tasks[self.indexes[id]];
        if kind == "Completed" {
            entry.ended = self.position;
        }
        let doc = &mut entry.doc;
        doc["revision"] = event["revision"].clone();
        doc["position"] = event["position"].clone();
        change(doc, kind, data, time, &event["meta"]["actor"]);
        doc["waiting_for"] = match doc["status"].as_str().unwrap() {
            "scheduled" => json!("run_at"),
            "queued" => json!("worker"),
            "retrying" => json!("retry_at"),
            _ => Value::Null,
        };
    }

    fn create(&mut self, id: &str, event: &Value) {
        let data = &event["data"];
        let waits = !data["run_at"].is_null();
        let mut doc = json!({
            "id": id, "created_at": event["time"], "attempt": 0,
            "status": if waits { "scheduled" } else { "queued" },
            "waiting_for": if waits { "run_at" } else { "worker" },
            "revision": event["revision"], "position": event["position"],
        });
        for same in
            ["kind", "title", "owner", "queue", "priority", "labels", "parent", "max_attempts", "run_at", "timeout_s"]
        {
            doc[same] = data[same].clone();
        }
        for none in ["worker", "started_at", "finished_at", "duration_ms", "retry_at", "progress", "outcome", "cancel"]
        {
            doc[none] = Value::Null;
        }
        if let Some(key) = data["idempotency"]["key"].as_str() {
            let (caller, hash) = (&event["meta"]["actor"], &data["idempotency"]["body_hash"]);
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            self.keys.push((text(caller), key.to_owned(), id.to_owned(), text(hash)));
        }
        self.indexes.insert(id.to_owned(), self.tasks.len());
        self.tasks.push(ExpectedTask { created: self.position, ended: 0, doc });
    }

    /// The bell of this owner.
    pub fn counters(&self, owner: &str) -> Value {
        self.counters_within(&Filter { owner: vec![owner.to_owned()], ..Filter::default() }, "nobody")
    }

    /// The bell of the tasks that match the filter: for one owner from what the owner has seen, else from what the viewer
    /// has seen.
    pub fn counters_within(&self, filter: &Filter, viewer: &str) -> Value {
        let subject = if let [owner] = &filter.owner[..] { owner } else { viewer };
        let seen = self.seen.get(subject).copied().unwrap_or(0);
        let found = self.matching(filter);
        let unseen = |status: &str| found.iter().filter(|e| e.doc["status"] == status && e.ended > seen).count();
        json!({
            "position": self.position, "seen": seen,
            "counts": by_status(&found),
            "unseen": {"succeeded": unseen("succeeded"), "failed": unseen("failed"), "cancelled": unseen("cancelled")},
        })
    }

    /// The tasks that match the filter, oldest first.
    pub fn matching(&self, filter: &Filter) -> Vec<&ExpectedTask> {
        self.tasks.iter().filter(|entry| matches(&entry.doc, filter)).collect()
    }

    /// The ids of the queued tasks of a kind, in the order in which they are offered.
    pub fn queued(&self, kind: &str, queue: &str) -> Vec<String> {
        let fits = |e: &&ExpectedTask| e.doc["kind"] == kind && e.doc["queue"] == queue && e.doc["status"] == "queued";
        let mut found: Vec<&ExpectedTask> = self.tasks.iter().filter(fits).collect();
        found.sort_by_key(|entry| (-entry.doc["priority"].as_i64().unwrap(), entry.created));
        found.iter().map(|entry| entry.doc["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The tasks of each queue by status.
    pub fn queues(&self) -> Value {
        let of =
            |queue: &str| -> Vec<&ExpectedTask> { self.tasks.iter().filter(|e| e.doc["queue"] == queue).collect() };
        let names: std::collections::BTreeSet<&str> =
            self.tasks.iter().map(|entry| entry.doc["queue"].as_str().unwrap()).collect();
        names.into_iter().map(|name| (name.to_owned(), by_status(&of(name)))).collect()
    }

    /// The due time of each waiting task, its id and the reason; the earliest first.
    pub fn due(&self) -> Vec<(String, String, &'static str)> {
        let mut found: Vec<(String, u64, String, &'static str)> = Vec::new();
        for entry in &self.tasks {
            let (field, reason) = match entry.doc["status"].as_str().unwrap() {
                "scheduled" => ("run_at", "RunAt"),
                "retrying" => ("retry_at", "RetryAt"),
                _ => continue,
            };
            let (at, id) = (entry.doc[field].as_str().unwrap(), entry.doc["id"].as_str().unwrap());
            found.push((at.to_owned(), entry.created, id.to_owned(), reason));
        }
        found.sort();
        found.into_iter().map(|(at, _, id, reason)| (at, id, reason)).collect()
    }
}

pub fn by_status(entries: &[&ExpectedTask]) -> Value {
    let count = |status: Status| entries.iter().filter(|entry| entry.doc["status"] == status.name()).count();
    Status::ALL.into_iter().map(|status| (status.name().to_owned(), json!(count(status)))).collect()
}

fn at(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

fn change(doc: &mut Value, kind: &str, data: &Value, time: &Value, actor: &Value) {
    match kind {
        "Queued" => (doc["status"], doc["retry_at"]) = (json!("queued"), Value::Null),
        "Started" => {
            (doc["status"], doc["started_at"], doc["progress"]) = (json!("running"), time.clone(), Value::Null);
            (doc["attempt"], doc["worker"]) = (data["attempt"].clone(), data["worker"].clone());
        }
        "CancelRequested" => {
            if doc["status"] == "running" {
                doc["status"] = json!("cancelling");
            }
            doc["cancel"] = json!({
                "requested_at": time, "requested_by": actor, "reason": data["reason"], "acknowledged_at": null,
                "stopping_after": null, "expected_end": null, "rung": "ask", "verdict": null,
            });
        }
        "CancelAcknowledged" => {
            let cancel = &mut doc["cancel"];
            if cancel["acknowledged_at"].is_null() {
                cancel["acknowledged_at"] = time.clone();
            }
            cancel["stopping_after"] = data["stopping_after"].clone();
            cancel["expected_end"] = data["expected_end"].clone();
        }
        "CancelEscalated" => doc["cancel"]["rung"] = data["rung"].clone(),
        "AttemptFailed" => {
            doc["status"] = json!("retrying");
            (doc["retry_at"], doc["progress"]) = (data["retry_at"].clone(), data["progress"].clone());
        }
        "Released" => (doc["status"], doc["started_at"]) = (json!("queued"), Value::Null),
        "Completed" => complete(doc, data, time),
        "Retried" => {
            doc["status"] = json!("queued");
            for none in ["cancel", "outcome", "progress", "started_at", "finished_at", "duration_ms"] {
                doc[none] = Value::Null;
            }
        }
        other => panic!("an event of type {other}"),
    }
}

fn complete(doc: &mut Value, data: &Value, time: &Value) {
    let outcome = data["outcome"].as_str().unwrap();
    doc["status"] = json!(outcome);
    (doc["finished_at"], doc["retry_at"]) = (time.clone(), Value::Null);
    if let (Some(from), Some(to)) = (at(&doc["started_at"]), at(time)) {
        doc["duration_ms"] = json!((to.as_micros() - from.as_micros()) / 1000);
    }
    doc["outcome"] = json!({"message": data["message"], "error": data["error"]});
    if !data["progress"].is_null() {
        doc["progress"] = data["progress"].clone();
    }
    if !doc["cancel"].is_null() {
        doc["cancel"]["verdict"] = json!(match (outcome, data["forced"] == true) {
            ("succeeded", _) => "finished_first",
            ("failed", _) => "failed_first",
            (_, true) => "forced",
            (_, false) => "cancelled",
        });
    }
}

pub fn matches(doc: &Value, filter: &Filter) -> bool {
    let one_of = |list: &[String], field: &str| list.is_empty() || list.iter().any(|one| doc[field] == one.as_str());
    let texts = [&doc["title"], &doc["outcome"]["message"], &doc["outcome"]["error"]["message"]];
    let has =
        |word: &String| texts.iter().any(|t| t.as_str().unwrap_or("").to_lowercase().contains(&word.to_lowercase()));
    let later =
        |field: &str, than: Option<Timestamp>| than.is_none_or(|than| at(&doc[field]).is_some_and(|t| t > than));
    let earlier =
        |field: &str, than: Option<Timestamp>| than.is_none_or(|than| at(&doc[field]).is_some_and(|t| t < than));
    (filter.status.is_empty() || filter.status.iter().any(|status| doc["status"] == status.name()))
        && one_of(&filter.kind, "kind")
        && one_of(&filter.queue, "queue")
        && one_of(&filter.owner, "owner")
        && filter.labels.iter().all(|(key, value)| doc["labels"][key] == value.as_str())
        && filter.q.iter().all(has)
        && later("created_at", filter.created_after)
        && earlier("created_at", filter.created_before)
        && later("finished_at", filter.finished_after)
        && earlier("finished_at", filter.finished_before)
        && filter.parent.is_none_or(|parent| doc["parent"] == parent.to_string())
}

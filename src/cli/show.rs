//! `taskbell show`.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::Connect;
use super::failure::Failure;
use super::log::sentence;
use super::out::{self, text, time};
use taskbell::{JsonText, TaskId};

/// Shows one task: where it stands, what became of a request to cancel it, and its timeline.
#[derive(Debug, Args)]
pub struct Show {
    /// Which task
    id: TaskId,
    #[arg(skip)]
    pub(super) connect: Connect,
}

impl Show {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client()?;
        let answer = client.task(self.id, 0).await?;
        if self.connect.json {
            return out::json(&answer.text);
        }
        let task = &answer.body;
        let position = task["position"].as_u64().unwrap_or_default();
        let query = [("min_position", position.to_string())];
        let events = client.get(&format!("/v1/tasks/{}/events", self.id), &query).await?;
        out::line(&text(task, "title"))?;
        let payload: Payload = serde_json::from_str(&answer.text).unwrap_or_default();
        for (name, value) in facts(task, &payload) {
            if !value.is_empty() {
                out::line(&format!("  {name:<10} {value}"))?;
            }
        }
        if !task["cancel"].is_null() {
            out::line("cancel")?;
            for (name, fact) in cancel(task) {
                out::line(&format!("  {name:<14} {fact}"))?;
            }
        }
        out::line("timeline")?;
        for event in events.body["items"].as_array().into_iter().flatten() {
            let by = format!("by {} via {}", text(&event["meta"], "actor"), text(&event["meta"], "via"));
            out::line(&format!(
                "  {:>3}  {}  {}  {by}",
                text(event, "revision"),
                time(event, "time"),
                sentence(event)
            ))?;
        }
        let tail = task["output"]["tail"].as_str().unwrap_or_default();
        if !tail.is_empty() {
            out::line(&format!("output of attempt {}", text(&task["output"], "attempt")))?;
        }
        tail.lines().try_for_each(|line| out::line(&format!("  {}", out::escape(line))))
    }
}

/// The fields of a task in which every digit counts.
#[derive(Default, Deserialize)]
struct Payload {
    input: Option<JsonText>,
    result: Option<JsonText>,
}

fn facts(task: &Value, payload: &Payload) -> [(&'static str, String); 16] {
    let attempt = match task["attempt"].as_u64() {
        Some(0) | None => String::new(),
        Some(n) => format!("{n} ({} in a run at most)", text(task, "max_attempts")),
    };
    let labels = task["labels"].as_object().into_iter().flatten();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{}:{}", out::escape(key), out::escape(value.as_str().unwrap_or_default())))
        .collect();
    let exact = |field: &str, value: Option<&JsonText>| match &task[field] {
        Value::Null | Value::String(_) => text(task, field),
        _ => value.map_or_else(String::new, |value| out::escape(value.as_str())),
    };
    [
        ("id", text(task, "id")),
        ("status", text(task, "status")),
        ("outcome", out::summary(task)),
        ("kind", text(task, "kind")),
        ("queue", format!("{}, priority {}", text(task, "queue"), text(task, "priority"))),
        ("owner", text(task, "owner")),
        ("labels", labels.join("  ")),
        ("parent", text(task, "parent")),
        ("attempt", attempt),
        ("worker", text(task, "worker")),
        ("created", time(task, "created_at")),
        ("started", time(task, "started_at")),
        ("finished", time(task, "finished_at")),
        ("duration", out::millis(task, "duration_ms")),
        ("input", exact("input", payload.input.as_ref())),
        ("result", exact("result", payload.result.as_ref())),
    ]
}

/// The three facts of a cancel: requested, acknowledged, ended.
fn cancel(task: &Value) -> [(&'static str, String); 3] {
    let cancel = &task["cancel"];
    let reason = text(cancel, "reason");
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    let requested = format!("{} by {}{reason}", time(cancel, "requested_at"), text(cancel, "requested_by"));
    let acknowledged =
        match (time(cancel, "acknowledged_at"), text(cancel, "stopping_after"), time(cancel, "expected_end")) {
            (at, ..) if at.is_empty() && cancel["verdict"].is_null() => "not yet".into(),
            (at, ..) if at.is_empty() => "never: it ended without".into(),
            (at, step, _) if step.is_empty() => format!("{at}, stops at once"),
            (at, step, end) if end.is_empty() => format!("{at}, stops after {step}"),
            (at, step, end) => format!("{at}, stops after {step}, expected at {end}"),
        };
    let ended = match (cancel["verdict"].as_str(), out::verdict(cancel)) {
        (None, _) => "not yet".into(),
        (Some(_), "") => format!("{} cancelled", time(task, "finished_at")),
        (Some(_), words) => format!("{} {words}", time(task, "finished_at")),
    };
    [("requested", requested), ("acknowledged", acknowledged), ("ended", ended)]
}

//! `taskbell show`: prints one task with its timeline and its output.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, text_field, time_field};
use super::log::event_summary;
use taskbell::{JsonText, TaskId};

/// Shows one task: its fields, its cancel, its timeline and its output.
#[derive(Debug, Args)]
pub struct Show {
    /// Id of the task
    id: TaskId,
    /// The task as it was when this position was the last one of the log, or at this time (RFC 3339)
    #[arg(long, value_name = "POSITION|TIME")]
    as_of: Option<String>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Show {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let response = match &self.as_of {
            None => client.task(self.id, 0).await?,
            Some(as_of) => client.get(&format!("/v1/tasks/{}", self.id), &[("as_of", as_of.clone())]).await?,
        };
        if self.connection.json {
            return console::print_json(&response.text);
        }
        let task = &response.body;
        let position = task["position"].as_u64().unwrap_or_default();
        let query = [("min_position", position.to_string())];
        let events = client.get(&format!("/v1/tasks/{}/events", self.id), &query).await?;
        console::print_line(&text_field(task, "title"))?;
        let payload: Payload = serde_json::from_str(&response.text).unwrap_or_default();
        for (name, value) in task_fields(task, &payload) {
            if !value.is_empty() {
                console::print_line(&format!("  {name:<10} {value}"))?;
            }
        }
        if !task["cancel"].is_null() {
            console::print_line("cancel")?;
            for (name, value) in cancel_fields(task) {
                console::print_line(&format!("  {name:<14} {value}"))?;
            }
        }
        console::print_line("timeline")?;
        // The past doesn't have the later events. At present, a later event may have followed between the two requests.
        let until = if self.as_of.is_some() { position } else { u64::MAX };
        let is_until = |event: &&Value| event["position"].as_u64().is_none_or(|position| position <= until);
        for event in events.body["items"].as_array().into_iter().flatten().filter(is_until) {
            let by = format!("by {} via {}", text_field(&event["meta"], "actor"), text_field(&event["meta"], "via"));
            console::print_line(&format!(
                "  {:>3}  {}  {}  {by}",
                text_field(event, "revision"),
                time_field(event, "time"),
                event_summary(event)
            ))?;
        }
        let tail = task["output"]["tail"].as_str().unwrap_or_default();
        if !tail.is_empty() {
            console::print_line(&format!("output of attempt {}", text_field(&task["output"], "attempt")))?;
        }
        tail.lines().try_for_each(|line| console::print_line(&format!("  {}", console::escape(line))))
    }
}

/// The fields of a task in which every digit counts.
#[derive(Default, Deserialize)]
struct Payload {
    input: Option<JsonText>,
    result: Option<JsonText>,
}

/// The names and values of the task's fields, in the order in which they are printed. An empty value is not printed.
fn task_fields(task: &Value, payload: &Payload) -> [(&'static str, String); 16] {
    let attempt = match task["attempt"].as_u64() {
        Some(0) | None => String::new(),
        Some(n) => format!("{n} of at most {}", text_field(task, "max_attempts")),
    };
    let labels = task["labels"].as_object().into_iter().flatten();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{}:{}", console::escape(key), console::escape(value.as_str().unwrap_or_default())))
        .collect();
    let exact_field = |field: &str, value: Option<&JsonText>| match &task[field] {
        Value::Null | Value::String(_) => text_field(task, field),
        _ => value.map_or_else(String::new, |value| console::escape(value.as_str())),
    };
    [
        ("id", text_field(task, "id")),
        ("status", text_field(task, "status")),
        ("outcome", console::task_summary(task)),
        ("kind", text_field(task, "kind")),
        ("queue", format!("{}, priority {}", text_field(task, "queue"), text_field(task, "priority"))),
        ("owner", text_field(task, "owner")),
        ("labels", labels.join("  ")),
        ("parent", text_field(task, "parent")),
        ("attempt", attempt),
        ("worker", text_field(task, "worker")),
        ("created", time_field(task, "created_at")),
        ("started", time_field(task, "started_at")),
        ("finished", time_field(task, "finished_at")),
        ("duration", console::duration_field(task, "duration_ms")),
        ("input", exact_field("input", payload.input.as_ref())),
        ("result", exact_field("result", payload.result.as_ref())),
    ]
}

/// When the cancel was requested, when the worker acknowledged it, and how it ended.
fn cancel_fields(task: &Value) -> [(&'static str, String); 3] {
    let cancel = &task["cancel"];
    let reason = text_field(cancel, "reason");
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    let requested = format!("{} by {}{reason}", time_field(cancel, "requested_at"), text_field(cancel, "requested_by"));
    let acknowledged = match (
        time_field(cancel, "acknowledged_at"),
        text_field(cancel, "stopping_after"),
        time_field(cancel, "expected_end"),
    ) {
        (at, ..) if at.is_empty() && cancel["verdict"].is_null() => "not yet".into(),
        (at, ..) if at.is_empty() => "never; the task ended without an acknowledgement".into(),
        (at, step, _) if step.is_empty() => format!("{at}, stops at once"),
        (at, step, end) if end.is_empty() => format!("{at}, stops after {step}"),
        (at, step, end) => format!("{at}, stops after {step}, expected at {end}"),
    };
    let ended = match (cancel["verdict"].as_str(), console::cancel_verdict(cancel)) {
        (None, _) => "not yet".into(),
        (Some(_), "") => format!("{} cancelled", time_field(task, "finished_at")),
        (Some(_), verdict) => format!("{} {verdict}", time_field(task, "finished_at")),
    };
    [("requested", requested), ("acknowledged", acknowledged), ("ended", ended)]
}

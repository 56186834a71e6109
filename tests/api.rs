//! Tests of the HTTP API. They send requests to a real server process on a free port.

mod bad_input;
mod bell;
mod bulk;
mod cancel;
mod children;
mod connection;
mod create;
mod edge;
mod escalate;
mod firing;
mod fuzz;
mod json;
mod keys;
mod late_body;
mod leases;
mod limits;
mod list;
mod log;
mod metrics;
mod origins;
mod past;
mod queues;
pub mod raw_http;
mod roles;
mod schedules;
mod token_ends;
mod tokens;
mod unique;

use std::path::Path;

use serde_json::{Value, json};

use super::support::{HttpResponse, Server};

/// The names of all fields of a task, by the contract.
pub const FIELDS: [&str; 25] = [
    "id",
    "kind",
    "title",
    "owner",
    "queue",
    "priority",
    "labels",
    "parent",
    "status",
    "waiting_for",
    "attempt",
    "max_attempts",
    "worker",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "duration_ms",
    "retry_at",
    "timeout_s",
    "progress",
    "outcome",
    "cancel",
    "revision",
    "position",
];
/// The names of the fields that are times.
const TIMES: [&str; 5] = ["created_at", "run_at", "started_at", "finished_at", "retry_at"];

/// Asserts that the task has exactly the fields of the contract, and that all times are in UTC with microseconds.
/// `own_page`: the task is from `GET /v1/tasks/{id}`, which has additional fields.
#[track_caller]
pub fn assert_all_fields(task: &Value, own_page: bool) {
    let fields = task.as_object().unwrap_or_else(|| panic!("no task: {task}"));
    let mut expected: Vec<&str> = FIELDS.to_vec();
    if own_page {
        expected.extend(["input", "output", "result"]);
    }
    expected.sort_unstable();
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, expected);
    for name in TIMES {
        assert!(task[name].is_null() || is_time(&task[name]), "{name}: {}", task[name]);
    }
}

/// Whether the value has the form `2026-11-22T15:04:05.000000Z`.
pub fn is_time(value: &Value) -> bool {
    let shape = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
    value.as_str().is_some_and(|text| text.bytes().map(shape).eq("0000-00-00T00:00:00.000000Z".bytes()))
}

/// The types of the task's events, in order.
pub async fn event_types(server: &Server, id: &str) -> Vec<String> {
    let answer = server.get(&format!("/v1/tasks/{id}/events")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["items"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect()
}

/// The pointers of a problem's errors.
pub fn pointers(answer: &HttpResponse) -> Vec<&str> {
    pointers_in(&answer.body)
}

/// The pointers of the errors in a problem that is part of another body.
pub fn pointers_in(problem: &Value) -> Vec<&str> {
    problem["errors"]
        .as_array()
        .map(|all| all.iter().map(|e| e["pointer"].as_str().unwrap()).collect())
        .unwrap_or_default()
}

/// The body of `GET /v1/log/head`.
pub async fn log_head(server: &Server) -> Value {
    let answer = server.get("/v1/log/head").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

/// Creates a task that copies one file, which takes some seconds because the server's rate is limited. Waits until the
/// task has progress.
pub async fn slow_task(server: &Server, root: &Path) -> String {
    let source = root.join("source");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("film.bin"), vec![7; 400_000]).unwrap();
    let input = json!({"source": source, "targets": [root.join("target")]});
    let id = server.submit(&json!({"kind": "content.distribute", "input": input, "max_attempts": 1})).await;
    server.task_with_status(&id, "running").await;
    server.task_when(&id, |task| task["progress"]["fraction"].as_f64().unwrap_or(0.0) > 0.0).await;
    id
}

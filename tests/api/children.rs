//! When a task is cancelled, each of its children gets one request to cancel, also after a restart of the server.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::super::support::{HttpResponse, Server};
use super::{event_types, slow_task};

/// In bytes per second: one file of [`slow_task`] takes some seconds.
const SPEED: Option<u64> = Some(100_000);

async fn child(server: &Server, parent: &str, more: Value) -> String {
    let mut body = json!({"kind": "a", "parent": parent});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.submit(&body).await
}

async fn children(server: &Server, parent: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let items = vec![json!({"kind": "a", "parent": parent}); 1000.min(count - ids.len())];
        let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        ids.extend(answer.body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
    }
    ids
}

async fn cancel(server: &Server, id: &str) -> HttpResponse {
    let answer = server.post(&format!("/v1/tasks/{id}/cancel"), &json!({"reason": "enough"})).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer
}

async fn retry(server: &Server, id: &str) {
    let answer = server.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await;
    assert_eq!((answer.status, &answer.body["status"]), (202, &json!("queued")), "{}", answer.text);
}

/// The only event of this type in the task's history.
async fn event(server: &Server, id: &str, kind: &str) -> Value {
    let items = server.get(&format!("/v1/tasks/{id}/events")).await.body["items"].clone();
    let found: Vec<Value> = items.as_array().unwrap().iter().filter(|event| event["type"] == kind).cloned().collect();
    assert_eq!(found.len(), 1, "{kind}: {items}");
    found[0].clone()
}

/// The number of requests to cancel that the log has for each task.
async fn request_counts(server: &Server) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in server.get("/v1/log?type=CancelRequested").await.text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        *counts.entry(event["stream"].as_str().unwrap().trim_start_matches("task-").to_owned()).or_default() += 1;
    }
    counts
}

fn copy_of(root: &Path, target: &str) -> Value {
    let input = json!({"source": root.join("source"), "targets": [root.join(target)]});
    json!({"kind": "content.distribute", "input": input, "max_attempts": 1})
}

#[tokio::test]
async fn running_and_waiting_children_are_cancelled_and_final_ones_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::with_content(root.path(), SPEED);
    let parent = slow_task(&server, root.path()).await;
    let running = child(&server, &parent, copy_of(root.path(), "other")).await;
    server.task_when(&running, |task| task["progress"]["fraction"].as_f64().unwrap_or(0.0) > 0.0).await;
    let queued = child(&server, &parent, json!({})).await;
    let scheduled = child(&server, &parent, json!({"run_at": "2999-01-01T00:00:00Z", "owner": "ann"})).await;
    let over = child(&server, &parent, json!({})).await;
    cancel(&server, &over).await;
    let without_parent = server.submit(&json!({"kind": "a"})).await;
    cancel(&server, &parent).await;
    let request = event(&server, &parent, "CancelRequested").await;
    server.task_when(&running, |task| !task["cancel"].is_null()).await;
    for id in [&queued, &scheduled] {
        let task = server.task_with_status(id, "cancelled").await;
        assert_eq!(task["cancel"]["requested_by"], "local");
    }
    let later = child(&server, &parent, json!({})).await;
    server.task_with_status(&later, "cancelled").await;
    for id in [&running, &queued, &scheduled, &later] {
        let child_request = event(&server, id, "CancelRequested").await;
        assert_eq!(child_request["data"]["reason"], "enough");
        assert_eq!((&child_request["meta"]["actor"], &child_request["meta"]["via"]), (&json!("local"), &json!("http")));
        assert_eq!(child_request["meta"]["correlation_id"], request["meta"]["correlation_id"]);
        assert_eq!(child_request["meta"]["causation_id"], request["id"], "the parent's request led to it");
    }
    assert_eq!(event_types(&server, &over).await, ["Created", "CancelRequested", "Completed"]);
    assert_eq!(event_types(&server, &without_parent).await, ["Created"]);
    server.task_at_end(&running).await;
    server.task_at_end(&parent).await;
}

#[tokio::test]
async fn a_child_that_was_retried_is_left_alone_also_after_a_restart() {
    let mut server = Server::start();
    let parent = server.submit(&json!({"kind": "a"})).await;
    let retried = child(&server, &parent, json!({})).await;
    cancel(&server, &parent).await;
    server.task_with_status(&retried, "cancelled").await;
    retry(&server, &retried).await;
    for _ in 0..2 {
        // The cascade handles its backlog in order. When this child is cancelled, all children before it have been checked.
        let later = child(&server, &parent, json!({})).await;
        server.task_with_status(&later, "cancelled").await;
        assert_eq!(server.task(&retried).await["status"], "queued");
        server.restart();
    }
    assert_eq!(event_types(&server, &retried).await, ["Created", "CancelRequested", "Completed", "Retried"]);
    let below = child(&server, &retried, json!({})).await;
    retry(&server, &parent).await;
    let fresh = child(&server, &parent, json!({})).await;
    let probe = server.submit(&json!({"kind": "a"})).await;
    cancel(&server, &probe).await;
    let last = child(&server, &probe, json!({})).await;
    server.task_with_status(&last, "cancelled").await;
    for id in [&below, &fresh] {
        assert_eq!(event_types(&server, id).await, ["Created"], "this run of its parent has no request to cancel");
    }
    cancel(&server, &parent).await;
    server.task_with_status(&retried, "cancelled").await;
    server.task_with_status(&below, "cancelled").await;
    assert_eq!(request_counts(&server).await[&retried], 2, "a second request");
}

#[tokio::test]
async fn a_child_that_was_retried_before_the_request_is_cancelled() {
    let server = Server::start();
    let parent = server.submit(&json!({"kind": "a"})).await;
    let id = child(&server, &parent, json!({})).await;
    cancel(&server, &id).await;
    retry(&server, &id).await;
    cancel(&server, &parent).await;
    server.task_with_status(&id, "cancelled").await;
    assert_eq!(request_counts(&server).await[&id], 2);
}

#[tokio::test]
async fn descendants_at_any_depth_are_cancelled_by_the_same_rule() {
    let server = Server::start();
    let mut line = vec![server.submit(&json!({"kind": "a"})).await];
    for _ in 0..60 {
        let parent = line.last().unwrap().clone();
        line.push(child(&server, &parent, json!({})).await);
    }
    // The task in the middle is cancelled first. Its descendants get a request because of that cancel, not because of
    // the later one.
    cancel(&server, &line[30]).await;
    server.task_with_status(&line[60], "cancelled").await;
    cancel(&server, &line[0]).await;
    server.task_with_status(&line[29], "cancelled").await;
    let first = event(&server, &line[0], "CancelRequested").await;
    let mut cause = first["id"].clone();
    for id in &line[1..30] {
        let child_request = event(&server, id, "CancelRequested").await;
        assert_eq!(child_request["meta"]["causation_id"], cause);
        assert_eq!(child_request["meta"]["correlation_id"], first["meta"]["correlation_id"]);
        cause = child_request["id"].clone();
    }
    let requests = request_counts(&server).await;
    assert_eq!(requests.len(), 61);
    assert!(requests.values().all(|times| *times == 1), "{requests:?}");
}

#[tokio::test]
async fn each_of_a_thousand_children_gets_one_request() {
    let server = Server::start();
    let parent = server.submit(&json!({"kind": "a"})).await;
    let ids = children(&server, &parent, 1000).await;
    cancel(&server, &parent).await;
    // The server responds to other requests in the meantime.
    let other = server.submit(&json!({"kind": "a"})).await;
    cancel(&server, &other).await;
    for id in ids.iter().rev() {
        server.task_with_status(id, "cancelled").await;
    }
    let requests = request_counts(&server).await;
    assert_eq!(requests.len(), 1002);
    assert!(requests.values().all(|times| *times == 1), "{requests:?}");
}

#[tokio::test]
async fn a_server_that_is_killed_during_a_cascade_cancels_the_rest_after_its_restart() {
    let mut server = Server::start();
    let parent = server.submit(&json!({"kind": "a"})).await;
    let ids = children(&server, &parent, 3000).await;
    let below = children(&server, &ids[2999], 10).await;
    let request = cancel(&server, &parent).await.position();
    let some = server.get(&format!("/v1/tasks?limit=1&min_position={}", request + 150)).await;
    server.kill9();
    assert_eq!(some.status, 200, "{}", some.text);
    let seen = some.position() - request;
    server.restart();
    for id in [&ids[2999], &below[9]] {
        server.task_with_status(id, "cancelled").await;
    }
    let left = server.get("/v1/tasks?status=queued&limit=1").await;
    let requests = request_counts(&server).await;
    assert!(seen < 4000, "killed in between, {seen} events after the request");
    assert_eq!((&left.body["total"], requests.len()), (&json!(0), 3011));
    assert!(requests.values().all(|times| *times == 1));
}

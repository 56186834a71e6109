//! The API for workers: take, heartbeat, acknowledge, finish.

mod bad;
mod beat;
mod finish;
mod loss;
mod stop;
mod take;

use serde_json::{Value, json};

use super::super::support::{HttpResponse, Server};

/// Takes leases with this request.
async fn take(server: &Server, body: Value) -> Vec<Value> {
    let answer = server.post("/v1/leases", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["position"], answer.position(), "{}", answer.text);
    answer.body["leases"].as_array().unwrap().clone()
}

/// Takes at most `max` leases for the worker `w`, without waiting.
async fn take_without_waiting(server: &Server, max: usize) -> Vec<Value> {
    take(server, json!({"worker": "w", "max": max, "wait_s": 0})).await
}

/// Creates a task of the kind `a` with these additional fields and takes its lease. Returns the task's id and the lease.
async fn submit_and_take(server: &Server, worker: &str, fields: Value) -> (String, String) {
    let mut body = json!({"kind": "a"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let id = server.submit(&body).await;
    let leases = take(server, json!({"worker": worker, "kinds": ["a"], "wait_s": 30})).await;
    assert_eq!((leases.len(), leases[0]["task_id"].as_str()), (1, Some(&*id)), "{leases:?}");
    (id, token(&leases[0]))
}

fn token(lease: &Value) -> String {
    lease["lease"].as_str().unwrap().to_owned()
}

/// The ids of the tasks of these leases, in the same order.
fn task_ids(leases: &[Value]) -> Vec<&str> {
    leases.iter().map(|lease| lease["task_id"].as_str().unwrap()).collect()
}

/// The same lease with another secret.
fn with_other_secret(lease: &str) -> String {
    let (known, secret) = lease.rsplit_once('.').unwrap();
    format!("{known}.{}", secret.chars().rev().collect::<String>())
}

/// Sends a heartbeat for one lease that waits as long as the server allows.
async fn send_heartbeat(server: &Server, worker: &str, lease: &str, seen: Option<&str>) -> HttpResponse {
    let lease = json!({"lease": lease, "seen": seen});
    let answer = server.post("/v1/leases/heartbeat", &json!({"worker": worker, "leases": [lease], "wait_s": 30})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

/// Sends a heartbeat for one lease that doesn't wait. Returns the directive, if there is one.
async fn poll_directive(server: &Server, worker: &str, lease: &str) -> Option<String> {
    let body = json!({"worker": worker, "leases": [{"lease": lease}]});
    let answer = server.post("/v1/leases/heartbeat", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    directive(&answer)
}

/// The only directive in the response to a heartbeat, if there is one.
fn directive(answer: &HttpResponse) -> Option<String> {
    let directives = answer.body["directives"].as_array().unwrap();
    assert!(directives.len() <= 1, "{}", answer.text);
    directives.first().map(|item| item["directive"].as_str().unwrap().to_owned())
}

/// Reports the end of one attempt. Returns its item in the response.
async fn finish(server: &Server, item: Value) -> Value {
    let answer = server.post("/v1/leases/finish", &json!({"items": [item]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{}", answer.text);
    items[0].clone()
}

async fn succeed(server: &Server, lease: &str) -> Value {
    finish(server, json!({"lease": lease, "outcome": "succeeded"})).await
}

async fn cancel(server: &Server, id: &str) {
    let answer = server.post(&format!("/v1/tasks/{id}/cancel"), &json!({"reason": "enough"})).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[track_caller]
fn assert_refused(item: &Value, code: &str) {
    assert_eq!(item["problem"]["code"], code, "{item}");
    assert!(!item["problem"]["request_id"].is_null(), "{item}");
}

/// The events of a task.
async fn events(server: &Server, id: &str) -> Vec<Value> {
    server.get(&format!("/v1/tasks/{id}/events")).await.body["items"].as_array().unwrap().clone()
}

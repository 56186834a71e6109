//! Workers and servers that are killed, and reports that arrive too late.

use std::time::Duration;

use super::*;
use crate::api::event_types;
use crate::support::signal;

fn expired(event: &Value) -> (&str, &str, &str) {
    let text = |value: &'_ Value| value.as_str().map(str::to_owned).unwrap_or_default();
    assert_eq!(text(&event["meta"]["actor"]), "system", "{event}");
    let at = |name: &str| event["data"][name].as_str().unwrap_or_default();
    (event["type"].as_str().unwrap(), event["data"]["error"]["code"].as_str().unwrap(), at("outcome"))
}

#[tokio::test]
async fn a_dead_workers_task_is_taken_up_by_another_within_seconds() {
    let server = Server::with(["--kind", "a:lease_s=0.5"]);
    let (id, dead) = submit_and_take(&server, "dead", json!({"max_attempts": 2})).await;
    let again = take(&server, json!({"worker": "w", "kinds": ["a"]})).await;
    assert_eq!((task_ids(&again), &again[0]["attempt"]), (vec![&*id], &json!(2)));
    assert_refused(&succeed(&server, &dead).await, "lease_lost");
    let answer = server.post("/v1/leases/cancel-ack", &json!({"lease": dead})).await;
    answer.assert_problem(409, "lease_lost");
    assert_eq!(poll_directive(&server, "dead", &dead).await.as_deref(), Some("lost"));
    assert_eq!(succeed(&server, &token(&again[0])).await, json!({"status": "succeeded"}));
    assert_refused(&succeed(&server, &dead).await, "lease_lost");
    let all = events(&server, &id).await;
    assert_eq!(expired(&all[2]), ("AttemptFailed", "lease_expired", ""));
    assert_eq!(
        event_types(&server, &id).await,
        ["Created", "Started", "AttemptFailed", "Queued", "Started", "Completed"]
    );
}

#[tokio::test]
async fn the_last_attempt_of_a_dead_worker_fails_the_task() {
    let server = Server::with(["--kind", "a:lease_s=0.3"]);
    let (id, lease) = submit_and_take(&server, "dead", json!({"max_attempts": 1})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["outcome"]["error"]["code"]), (&json!("failed"), &json!("lease_expired")));
    assert_refused(&succeed(&server, &lease).await, "lease_lost");
}

#[tokio::test]
async fn a_dead_worker_that_was_asked_to_stop_leaves_a_task_that_is_cancelled_by_force() {
    let server = Server::with(["--kind", "a:lease_s=0.3"]);
    let (id, lease) = submit_and_take(&server, "dead", json!({"max_attempts": 9})).await;
    cancel(&server, &id).await;
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["cancel"]["verdict"]), (&json!("cancelled"), &json!("forced")), "{task}");
    assert_refused(&finish(&server, json!({"lease": lease, "outcome": "cancelled"})).await, "lease_lost");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_lost_and_its_worker_receives_that() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 2, "timeout_s": 1})).await;
    assert_eq!(
        directive(&send_heartbeat(&server, "w", &lease, None).await).as_deref(),
        Some("lost"),
        "it ends the wait of the heartbeat"
    );
    assert_refused(&succeed(&server, &lease).await, "lease_lost");
    let all = events(&server, &id).await;
    assert_eq!(expired(&all[2]), ("AttemptFailed", "timed_out", ""));
    let again = take(&server, json!({"worker": "w", "kinds": ["a"]})).await;
    assert_eq!((task_ids(&again), &again[0]["attempt"]), (vec![&*id], &json!(2)));
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["outcome"]["error"]["code"]), (&json!("failed"), &json!("timed_out")));
}

#[tokio::test]
async fn a_lease_is_honoured_by_the_server_that_comes_after_a_kill() {
    let mut server = Server::with(["--kind", "a:lease_s=3"]);
    let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 1})).await;
    let (other, dead) = submit_and_take(&server, "dead", json!({"max_attempts": 1})).await;
    server.restart();
    assert_eq!(poll_directive(&server, "w", &lease).await, None, "all is well");
    assert_eq!(poll_directive(&server, "w", &with_other_secret(&lease)).await.as_deref(), Some("lost"));
    assert_eq!(poll_directive(&server, "thief", &lease).await.as_deref(), Some("lost"));
    assert_refused(&succeed(&server, &with_other_secret(&lease)).await, "lease_lost");
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}));
    server.restart();
    assert_eq!(finish(&server, json!({"lease": lease, "outcome": "released"})).await, json!({"status": "succeeded"}));
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"]);
    let task = server.task_at_end(&other).await;
    assert_eq!(task["outcome"]["error"]["code"], "lease_expired", "a restart renews a lease only once: {task}");
    assert_refused(&succeed(&server, &dead).await, "lease_lost");
}

#[tokio::test]
async fn a_server_that_was_away_does_not_blame_its_workers() {
    let server = Server::with(["--kind", "a:lease_s=0.5"]);
    let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 1})).await;
    signal(server.pid(), "STOP");
    // The leases expire only after some time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    signal(server.pid(), "CONT");
    assert_eq!(poll_directive(&server, "w", &lease).await, None);
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}));
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"]);
}

#[tokio::test]
async fn limits_hold_over_a_restart() {
    let mut server = Server::with(["--kind", "a:max_running=1"]);
    let (_, lease) = submit_and_take(&server, "w", json!({})).await;
    let next = server.submit(&json!({"kind": "a"})).await;
    server.restart();
    assert!(take_without_waiting(&server, 9).await.is_empty());
    assert_eq!(server.task(&next).await["waiting_for"], "limit");
    succeed(&server, &lease).await;
    assert_eq!(task_ids(&take(&server, json!({"worker": "w"})).await), [&*next]);
}

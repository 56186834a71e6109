//! The cancel ladder for workers that ignore a cancel; and a server that stops.

use std::time::{Duration, Instant};

use super::*;
use crate::api::event_types;

const LADDER: [&str; 6] = ["Created", "Started", "CancelRequested", "CancelEscalated", "CancelEscalated", "Completed"];

#[tokio::test]
async fn a_worker_that_ignores_a_cancel_is_interrupted_and_then_loses_its_lease() {
    let server = Server::with(["--kind", "a:ask_for_s=0.2,interrupt_for_s=0.2"]);
    let (id, lease) = submit_and_take(&server, "deaf", json!({"max_attempts": 9})).await;
    cancel(&server, &id).await;
    assert_eq!(directive(&send_heartbeat(&server, "deaf", &lease, None).await).as_deref(), Some("cancel"));
    assert_eq!(directive(&send_heartbeat(&server, "deaf", &lease, Some("cancel")).await).as_deref(), Some("interrupt"));
    assert_eq!(server.task(&id).await["cancel"]["rung"], "interrupt");
    assert_eq!(directive(&send_heartbeat(&server, "deaf", &lease, Some("interrupt")).await).as_deref(), Some("lost"));
    for outcome in ["succeeded", "cancelled", "released"] {
        assert_refused(&finish(&server, json!({"lease": lease, "outcome": outcome})).await, "lease_lost");
    }
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["cancel"]["verdict"]), (&json!("cancelled"), &json!("forced")), "{task}");
    assert_eq!(task["cancel"]["rung"], "revoke", "{task}");
    assert_eq!(event_types(&server, &id).await, LADDER);
    let all = events(&server, &id).await;
    assert_eq!(all[2]["data"]["policy"], json!({"ask_for_ms": 200, "interrupt_for_ms": 200}));
    assert_eq!((&all[3]["data"]["rung"], &all[4]["data"]["rung"]), (&json!("interrupt"), &json!("revoke")));
    assert_eq!((&all[5]["data"]["forced"], &all[5]["data"]["attempt"]), (&json!(true), &json!(1)));
    for pair in all[2..5].windows(2) {
        assert!(between(pair) >= Duration::from_millis(200), "no rung comes before its time: {pair:?}");
    }
}

fn between(pair: &[Value]) -> Duration {
    let at = |event: &Value| event["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    at(&pair[1]).duration_since(at(&pair[0])).try_into().expect("in order")
}

#[tokio::test]
async fn a_worker_that_stops_when_it_is_interrupted_is_not_forced() {
    let server = Server::with(["--kind", "a:ask_for_s=0.1,interrupt_for_s=30"]);
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    cancel(&server, &id).await;
    assert_eq!(directive(&send_heartbeat(&server, "w", &lease, Some("cancel")).await).as_deref(), Some("interrupt"));
    assert_eq!(finish(&server, json!({"lease": lease, "outcome": "cancelled"})).await, json!({"status": "cancelled"}));
    assert_eq!(server.task(&id).await["cancel"]["verdict"], "cancelled");
}

#[tokio::test]
async fn the_ladder_is_climbed_on_time_over_a_restart() {
    let mut server = Server::with(["--kind", "a:ask_for_s=1,interrupt_for_s=1"]);
    let (id, lease) = submit_and_take(&server, "deaf", json!({})).await;
    cancel(&server, &id).await;
    server.restart();
    assert_eq!(poll_directive(&server, "deaf", &lease).await.as_deref(), Some("cancel"), "asked for before the kill");
    server.task_when(&id, |task| task["cancel"]["rung"] == "interrupt").await;
    server.restart();
    assert_eq!(poll_directive(&server, "deaf", &lease).await.as_deref(), Some("interrupt"));
    assert_eq!(server.task_at_end(&id).await["cancel"]["verdict"], "forced");
    assert_eq!(poll_directive(&server, "deaf", &lease).await.as_deref(), Some("lost"));
    assert_eq!(event_types(&server, &id).await, LADDER);
    for pair in events(&server, &id).await[2..5].windows(2) {
        assert!((1000..10_000).contains(&between(pair).as_millis()), "{pair:?}");
    }
}

#[tokio::test]
async fn after_a_restart_a_worker_that_was_never_asked_is_asked_first_and_has_the_whole_time_of_each_rung() {
    let mut server = Server::with(["--kind", "a:ask_for_s=0.7,interrupt_for_s=0.7"]);
    let (id, lease) = submit_and_take(&server, "away", json!({})).await;
    cancel(&server, &id).await;
    server.kill9();
    // The server is away for longer than the first rung lasts.
    tokio::time::sleep(Duration::from_millis(800)).await;
    server.restart();
    // A timer that is set later than all rungs would be shows that the rungs did not go on without the worker.
    let run_at = jiff::Timestamp::now() + Duration::from_millis(1500);
    let later = server.submit(&json!({"kind": "later", "run_at": run_at.to_string()})).await;
    server.task_with_status(&later, "queued").await;
    assert_eq!(event_types(&server, &id).await, LADDER[..3]);
    let heard = Instant::now();
    assert_eq!(poll_directive(&server, "away", &lease).await.as_deref(), Some("cancel"));
    for (seen, next) in [("cancel", "interrupt"), ("interrupt", "lost")] {
        assert_eq!(directive(&send_heartbeat(&server, "away", &lease, Some(seen)).await).as_deref(), Some(next));
    }
    assert!(heard.elapsed() >= Duration::from_millis(1400), "{:?}", heard.elapsed());
    assert_eq!(server.task(&id).await["cancel"]["verdict"], "forced");
}

#[tokio::test]
async fn a_ladder_of_no_time_ends_the_lease_at_once() {
    let server = Server::with(["--kind", "a:ask_for_s=0,interrupt_for_s=0"]);
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    cancel(&server, &id).await;
    assert_eq!(server.task_at_end(&id).await["cancel"]["verdict"], "forced");
    assert_eq!(event_types(&server, &id).await, LADDER);
    assert_eq!(poll_directive(&server, "w", &lease).await.as_deref(), Some("lost"));
}

#[tokio::test]
async fn by_default_a_cancel_stays_on_its_first_rung() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "deaf", json!({})).await;
    cancel(&server, &id).await;
    let body = json!({"worker": "deaf", "leases": [{"lease": lease, "seen": "cancel"}], "wait_s": 1});
    assert_eq!(server.post("/v1/leases/heartbeat", &body).await.body["directives"], json!([]));
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "CancelRequested"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answers_waiting_requests_first() {
    let mut server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let (url, client) = (server.url(), server.client().clone());
    let post = |path: &str, body: Value| {
        let request = client.post(format!("{url}{path}")).json(&body);
        tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
    };
    let waiting = post("/v1/leases", json!({"worker": "idle", "kinds": ["a"]}));
    let beats = json!([{"lease": lease, "progress": {"message": "here"}}]);
    let beating = post("/v1/leases/heartbeat", json!({"worker": "w", "leases": beats, "wait_s": 30}));
    server.task_when(&id, |task| task["progress"]["message"] == "here").await;
    for _ in 0..20 {
        // The requests that were sent earlier have arrived by that time.
        server.get("/healthz").await;
    }
    let begun = Instant::now();
    let status = tokio::task::block_in_place(|| server.stop());
    assert!(status.success() && begun.elapsed() < Duration::from_secs(8), "{status}, {:?}", begun.elapsed());
    assert_eq!(waiting.await.unwrap()["leases"], json!([]));
    assert_eq!(beating.await.unwrap()["directives"], json!([{"lease": lease, "directive": "drain"}]));
    server.restart();
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}), "what runs goes on");
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"]);
}

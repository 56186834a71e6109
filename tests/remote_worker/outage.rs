//! Servers and workers that are stopped or killed while attempts run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use taskbell::work::Done;
use tokio::sync::mpsc;

use super::library::TestWorker;
use super::process::{WorkerProcess, create_gate, events, is_gone, open_gate, submit, wait_for_pid, wait_for_progress};
use crate::support::Server;

/// A command that reports progress, waits until it can read a line from the pipe `gate`, and continues.
const GATED: &str = "echo '::progress 0.5 at the gate'; read -r go < gate; echo '::progress 1 through'; echo through";

#[tokio::test]
async fn a_server_that_is_killed_and_restarted_costs_an_attempt_nothing() {
    let mut server = Server::start();
    let worker = WorkerProcess::start(&server, GATED);
    create_gate(&worker.file("gate"));
    let id = submit(&server, json!({})).await;
    wait_for_progress(&server, &id, "at the gate").await;
    server.restart();
    open_gate(&worker.file("gate")).await;
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task}");
    assert_eq!(task["outcome"]["message"], "through");
    assert_eq!(events(&server, &id, "Started").await.len(), 1);
    assert_eq!(events(&server, &id, "Completed").await[0]["data"]["progress"]["message"], "through");
}

#[tokio::test]
async fn an_end_is_reported_when_the_server_is_back() {
    let mut server = Server::start();
    let worker = WorkerProcess::start(&server, &format!("{GATED}; echo > ended"));
    create_gate(&worker.file("gate"));
    create_gate(&worker.file("ended"));
    let id = submit(&server, json!({})).await;
    wait_for_progress(&server, &id, "at the gate").await;
    server.kill9();
    open_gate(&worker.file("gate")).await;
    let ended = worker.file("ended");
    tokio::task::spawn_blocking(move || std::fs::read(ended)).await.unwrap().unwrap();
    server.restart();
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task}");
    let stderr = worker.stop().await;
    assert!(
        stderr.contains("the server can't be reached") && stderr.contains("the server can be reached again"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_server_that_stops_and_starts_again_keeps_its_workers() {
    let mut server = Server::start();
    let worker = WorkerProcess::start(&server, GATED);
    create_gate(&worker.file("gate"));
    let id = submit(&server, json!({})).await;
    wait_for_progress(&server, &id, "at the gate").await;
    server.stop();
    server.restart();
    let cancelled = submit(&server, json!({})).await;
    open_gate(&worker.file("gate")).await;
    assert_eq!(server.task_at_end(&id).await["attempt"], 1);
    wait_for_progress(&server, &cancelled, "at the gate").await;
    server.post(&format!("/v1/tasks/{cancelled}/cancel"), &json!({})).await;
    assert_eq!(server.task_at_end(&cancelled).await["status"], "cancelled");
}

#[tokio::test]
async fn a_worker_may_start_before_its_server() {
    let mut server = Server::start();
    server.kill9();
    let worker = WorkerProcess::start_before(&server, "exit 0");
    let seen = worker.file("stderr");
    let waiting = tokio::task::spawn_blocking(move || {
        while !std::fs::read_to_string(&seen).unwrap().contains("the server can't be reached") {
            std::thread::yield_now();
        }
    });
    waiting.await.unwrap();
    server.restart();
    let id = submit(&server, json!({})).await;
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
}

#[tokio::test]
async fn the_task_of_a_killed_worker_is_executed_by_another() {
    let server = Server::with(["--kind", "demo:lease_s=1"]);
    let mut worker = WorkerProcess::start(&server, "echo \"::progress - pid $$\"; sleep 1000");
    let id = submit(&server, json!({"max_attempts": 2})).await;
    wait_for_pid(&server, &id).await;
    worker.kill9();
    let _another = WorkerProcess::start(&server, "exit 0");
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(2)), "{task}");
    assert_eq!(events(&server, &id, "AttemptFailed").await[0]["data"]["error"]["code"], "lease_expired");
}

#[tokio::test]
async fn a_short_lease_lives_as_long_as_its_worker() {
    let server = Server::with(["--kind", "demo:lease_s=1"]);
    let _worker = WorkerProcess::start(&server, "sleep 4");
    let id = submit(&server, json!({})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task}");
}

#[tokio::test]
async fn a_worker_that_was_stopped_for_longer_than_its_lease_gives_up_the_attempt() {
    let server = Server::with(["--kind", "demo:lease_s=1"]);
    let worker =
        WorkerProcess::start(&server, "[ $TASKBELL_ATTEMPT = 1 ] || exit 0; echo \"::progress - pid $$\"; sleep 1000");
    let id = submit(&server, json!({"max_attempts": 2})).await;
    let first = wait_for_pid(&server, &id).await;
    worker.signal("STOP");
    server.task_with_status(&id, "retrying").await;
    worker.signal("CONT");
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(2)), "{task}");
    assert!(is_gone(first), "the second attempt begins when the first is gone");
    assert!(worker.stderr().contains("attempt 1 lost"), "{}", worker.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attempt_runs_once_and_each_task_ends_once_however_often_the_server_dies() {
    const TASKS: usize = 1000;
    let mut server = Server::with(["--kind", "demo:lease_s=2"]);
    let items: Vec<Value> = (0..TASKS).map(|_| json!({"kind": "demo", "max_attempts": 20})).collect();
    assert_eq!(server.post("/v1/tasks/batch", &json!({"items": items})).await.status, 200);
    let runs = Arc::new(Mutex::new(HashMap::<_, u32>::new()));
    let (started, mut starts) = mpsc::unbounded_channel();
    let start = || {
        let (runs, started) = (runs.clone(), started.clone());
        TestWorker::start(&server, move |ctx| {
            *runs.lock().unwrap().entry((ctx.task_id(), ctx.attempt())).or_default() += 1;
            let _ = started.send(());
            async move {
                ctx.progress(0.5, "half");
                tokio::task::yield_now().await;
                Ok(Done::default())
            }
        })
    };
    let workers = [start(), start()];
    for _ in 0..5 {
        for _ in 0..TASKS / 10 {
            starts.recv().await.unwrap();
        }
        server.restart();
    }
    drop(starts);
    let filter = "/v1/tasks?status=succeeded&limit=1";
    let mut live = crate::support::LiveSocket::open(&server).await;
    while server.get(filter).await.body["total"] != TASKS {
        live.next_of_type("counters").await;
    }
    for worker in workers {
        assert_eq!(worker.stop().await, 0);
    }
    assert!(runs.lock().unwrap().values().all(|runs| *runs == 1), "no attempt is executed twice");
    let log = server.get("/v1/log?type=Completed").await.text;
    assert_eq!(log.lines().count(), TASKS);
}

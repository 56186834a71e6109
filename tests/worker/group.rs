//! What a command starts ends with it.

use serde_json::json;

use super::crew::{Crew, events, is_gone, pid, says, submit};
use crate::support::Server;

/// Starts a child that hears no SIGTERM, names it, and waits.
const STUBBORN: &str = "trap '' TERM; sleep 1000 & echo \"::progress - pid $!\"; wait";

#[tokio::test]
async fn an_interrupt_kills_the_whole_group() {
    let server = Server::with(["--kind", "demo:ask_for_s=1"]);
    let _worker = Crew::of(&server, STUBBORN);
    let id = submit(&server, json!({})).await;
    let child = pid(&server, &id).await;
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    server.task_when(&id, |task| !task["cancel"]["acknowledged_at"].is_null()).await;
    assert!(!is_gone(child), "it hears no SIGTERM");
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["cancel"]["verdict"]), (&json!("cancelled"), &json!("cancelled")), "{task}");
    assert_eq!(task["outcome"]["message"], "interrupted while sh");
    assert!(is_gone(child), "the end is told when nothing of it runs any more");
}

#[tokio::test]
async fn a_lost_lease_kills_the_whole_group() {
    let server = Server::start();
    let worker = Crew::of(&server, STUBBORN);
    let id = submit(&server, json!({"timeout_s": 1})).await;
    let child = pid(&server, &id).await;
    let next = submit(&server, json!({})).await;
    // The one slot is free when the former is gone.
    pid(&server, &next).await;
    assert!(is_gone(child));
    assert_eq!(server.task(&id).await["outcome"]["error"]["code"], "timed_out");
    assert!(worker.stderr().contains("attempt 1 lost"), "{}", worker.stderr());
}

#[tokio::test]
async fn what_outlives_the_command_is_ended_with_it() {
    let server = Server::start();
    let _worker = Crew::of(&server, "sleep 1000 & echo \"::progress - pid $!\"; echo started");
    let id = submit(&server, json!({})).await;
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
    let ended = &events(&server, &id, "Completed").await[0]["data"];
    let child = ended["progress"]["message"].as_str().unwrap().strip_prefix("pid ").unwrap().parse().unwrap();
    assert!(is_gone(child));
}

#[tokio::test]
async fn one_that_leaves_the_group_holds_nothing_up() {
    let server = Server::start();
    let _worker = Crew::of(&server, "setsid sh -c 'echo out; exec sleep 20' & echo started");
    let id = submit(&server, json!({})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    assert!(task["duration_ms"].as_u64().unwrap() < 15_000, "{task}");
}

#[tokio::test]
async fn a_worker_that_is_killed_takes_its_commands_along() {
    let server = Server::start();
    let mut worker = Crew::of(&server, STUBBORN);
    let id = submit(&server, json!({})).await;
    let child = pid(&server, &id).await;
    worker.kill9();
    tokio::task::spawn_blocking(move || {
        while !is_gone(child) {
            std::thread::yield_now();
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_waits_for_what_runs() {
    let server = Server::start();
    let worker = Crew::of(&server, "echo '::progress - begun'; sleep 1; echo ended");
    let id = submit(&server, json!({})).await;
    says(&server, &id, "begun").await;
    worker.leave().await;
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["outcome"]["message"]), (&json!("succeeded"), &json!("ended")), "{task}");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_handed_back() {
    let server = Server::start();
    let flags = ["--kind", "demo", "--grace-s", "0"];
    let mut worker = Crew::with(&server, &flags, &["sh", "-c", STUBBORN]);
    let id = submit(&server, json!({})).await;
    let child = pid(&server, &id).await;
    worker.signal("INT");
    let status = tokio::task::spawn_blocking(move || worker.end()).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(is_gone(child));
    assert_eq!(server.task(&id).await["status"], "queued");
    assert_eq!(events(&server, &id, "Released").await[0]["data"]["reason"], "handed_back");
    let _another = Crew::of(&server, "exit 0");
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
}

#[tokio::test]
async fn the_second_signal_does_not_wait() {
    let server = Server::start();
    let mut worker = Crew::of(&server, STUBBORN);
    let id = submit(&server, json!({})).await;
    let child = pid(&server, &id).await;
    worker.signal("TERM");
    let seen = worker.file("stderr");
    let worker = tokio::task::spawn_blocking(move || {
        while !std::fs::read_to_string(&seen).unwrap().contains("stopping") {
            std::thread::yield_now();
        }
        worker.signal("TERM");
        assert_eq!(worker.end().code(), Some(1));
        while !is_gone(child) {
            std::thread::yield_now();
        }
        worker
    });
    worker.await.unwrap();
    assert_eq!(server.task(&id).await["status"], "running", "its lease expires");
}

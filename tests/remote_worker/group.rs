//! All processes that a command starts end together with it.

use std::fs;

use serde_json::json;

use super::process::{WorkerProcess, events, is_gone, submit, wait_for_pid, wait_for_progress};
use crate::support::Server;

/// Starts a child that ignores SIGTERM, reports its pid, and waits.
const STUBBORN: &str = "trap '' TERM; sleep 1000 & echo \"::progress - pid $!\"; wait";

#[tokio::test]
async fn an_interrupt_kills_the_whole_group() {
    let server = Server::with(["--kind", "demo:ask_for_s=1"]);
    let _worker = WorkerProcess::start(&server, STUBBORN);
    let id = submit(&server, json!({})).await;
    let child = wait_for_pid(&server, &id).await;
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    server.task_when(&id, |task| !task["cancel"]["acknowledged_at"].is_null()).await;
    assert!(!is_gone(child), "it ignores SIGTERM");
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["cancel"]["verdict"]), (&json!("cancelled"), &json!("cancelled")), "{task}");
    assert_eq!(task["outcome"]["message"], "interrupted while sh");
    assert!(is_gone(child), "the end is reported when none of its processes runs any more");
}

#[tokio::test]
async fn a_lost_lease_kills_the_whole_group() {
    let server = Server::start();
    let worker = WorkerProcess::start(&server, STUBBORN);
    let id = submit(&server, json!({"timeout_s": 1})).await;
    let child = wait_for_pid(&server, &id).await;
    let next = submit(&server, json!({})).await;
    // The worker has one slot, so the second attempt starts when the first has ended.
    wait_for_pid(&server, &next).await;
    assert!(is_gone(child));
    assert_eq!(server.task(&id).await["outcome"]["error"]["code"], "timed_out");
    assert!(worker.stderr().contains("attempt 1 lost"), "{}", worker.stderr());
}

#[tokio::test]
async fn processes_that_outlive_the_command_are_ended() {
    let server = Server::start();
    let _worker = WorkerProcess::start(&server, "sleep 1000 & echo \"::progress - pid $!\"; echo started");
    let id = submit(&server, json!({})).await;
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
    let ended = &events(&server, &id, "Completed").await[0]["data"];
    let child = ended["progress"]["message"].as_str().unwrap().strip_prefix("pid ").unwrap().parse().unwrap();
    assert!(is_gone(child));
}

#[tokio::test]
async fn a_process_that_leaves_the_group_delays_nothing() {
    let server = Server::start();
    let _worker = WorkerProcess::start(&server, "setsid sh -c 'echo out; exec sleep 20' & echo started");
    let id = submit(&server, json!({})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    assert!(task["duration_ms"].as_u64().unwrap() < 15_000, "{task}");
}

#[tokio::test]
async fn a_worker_that_is_killed_leaves_no_commands() {
    let server = Server::start();
    let mut worker = WorkerProcess::start(&server, STUBBORN);
    let id = submit(&server, json!({})).await;
    let child = wait_for_pid(&server, &id).await;
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
async fn a_worker_that_stops_waits_for_running_attempts() {
    let server = Server::start();
    let worker = WorkerProcess::start(&server, "echo '::progress - begun'; sleep 1; echo ended");
    let id = submit(&server, json!({})).await;
    wait_for_progress(&server, &id, "begun").await;
    worker.stop().await;
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["outcome"]["message"]), (&json!("succeeded"), &json!("ended")), "{task}");
}

#[tokio::test]
async fn an_attempt_that_outlasts_the_grace_is_handed_back() {
    let server = Server::start();
    let flags = ["--kind", "demo", "--grace-s", "0"];
    let mut worker = WorkerProcess::with(&server, &flags, &["sh", "-c", STUBBORN]);
    let id = submit(&server, json!({})).await;
    let child = wait_for_pid(&server, &id).await;
    worker.signal("INT");
    let status = tokio::task::spawn_blocking(move || worker.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(is_gone(child));
    assert_eq!(server.task(&id).await["status"], "queued");
    assert_eq!(events(&server, &id, "Released").await[0]["data"]["reason"], "handed_back");
    let _another = WorkerProcess::start(&server, "exit 0");
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
}

#[tokio::test]
async fn the_second_signal_does_not_wait() {
    let server = Server::start();
    let mut worker = WorkerProcess::start(&server, STUBBORN);
    let id = submit(&server, json!({})).await;
    let child = wait_for_pid(&server, &id).await;
    worker.signal("TERM");
    let seen = worker.file("stderr");
    let worker = tokio::task::spawn_blocking(move || {
        while !std::fs::read_to_string(&seen).unwrap().contains("stopping") {
            std::thread::yield_now();
        }
        worker.signal("TERM");
        assert_eq!(worker.wait().code(), Some(1));
        while !is_gone(child) {
            std::thread::yield_now();
        }
        worker
    });
    worker.await.unwrap();
    assert_eq!(server.task(&id).await["status"], "running", "its lease expires");
}

#[tokio::test]
async fn a_leader_is_not_reaped_while_its_group_still_runs() {
    let server = Server::start();
    let _worker =
        WorkerProcess::start(&server, "trap '' TERM; sleep 1000 & echo \"::progress - pid $!\"; echo \"leader $$\"");
    let id = submit(&server, json!({})).await;
    let child = wait_for_pid(&server, &id).await;
    let leader = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    // `pid (name) state parent group …`
    let leader: u32 = leader.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap().parse().unwrap();
    let watching = tokio::task::spawn_blocking(move || {
        loop {
            let is_there = fs::exists(format!("/proc/{leader}")).unwrap();
            if is_gone(child) {
                return;
            }
            assert!(is_there, "the leader was reaped, and with it went the right to its number, while its group runs");
            std::thread::yield_now();
        }
    });
    watching.await.unwrap();
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
    assert!(!fs::exists(format!("/proc/{leader}")).unwrap(), "a leader whose group has gone is reaped");
}

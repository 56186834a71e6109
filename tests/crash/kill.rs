//! `kill -9` at random moments under load.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::load::{Clients, Content, assert_ends, assert_views, verify_log};
use crate::push::load::wait_until_idle;
use crate::support::{Server, signal};

/// `TASKBELL_SEED` repeats a run, `TASKBELL_CYCLES` makes it longer.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_events_outlive_kills_and_every_started_attempt_ends() {
    let seed = setting("TASKBELL_SEED").unwrap_or_else(rand::random);
    let cycles = setting("TASKBELL_CYCLES").unwrap_or(6);
    println!("TASKBELL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let content = Content::new(4, 40_000);
    let mut server = Server::with_content(content.root(), Some(1_500_000));
    let clients = Clients::new(seed);
    for _ in 0..cycles {
        let (url, pid) = (server.url(), server.pid());
        let (answers, later) = (random.random_range(1..70), Duration::from_micros(random.random_range(0..9000)));
        let kill = async {
            // The sleep makes the moment of the kill random.
            tokio::time::sleep(later).await;
            signal(pid, "KILL");
        };
        clients.run(&url, &content, 4, answers, kill).await;
        server.restart();
        verify_log(&server, &clients).await;
    }
    wait_until_idle(&server).await;
    let fold = verify_log(&server, &clients).await;
    assert_views(&server, &fold).await;
    let (copied, forced) = assert_ends(&fold, &content);
    let lost = |event: &&serde_json::Value| event["data"]["error"]["code"] == "server_restarted";
    let lost = fold.events.iter().filter(lost).count();
    let acknowledged = clients.acknowledged.lock().unwrap();
    let (responses, events) = (acknowledged.tasks.len() + acknowledged.ids.len(), fold.head());
    println!(
        "{cycles} kills, {responses} tasks acknowledged, {events} events, {lost} attempts cut off, {copied} tasks \
         copied, {forced} cancelled by force"
    );
}

#[tokio::test]
async fn a_cancel_that_is_pending_when_the_server_is_killed_ends_as_forced() {
    let content = Content::new(1, 4_000_000);
    let mut server = Server::with_content(content.root(), Some(200_000));
    let id = server.submit(&content.copy_request("slow")).await;
    server.task_when(&id, |task| task["status"] == "running" && !task["progress"].is_null()).await;
    let requested = server.post(&format!("/v1/tasks/{id}/cancel"), &json!({"reason": "wrong one"})).await;
    assert_eq!((requested.status, &requested.body["status"]), (202, &json!("cancelling")));
    server.restart();
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["cancel"]["verdict"]), (&json!("cancelled"), &json!("forced")), "{task}");
    assert_eq!(task["outcome"]["error"]["code"], "server_restarted");
    let events = server.get(&format!("/v1/tasks/{id}/events")).await.body;
    let last = events["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["type"], &last["data"]["forced"]), (&json!("Completed"), &json!(true)));
    assert_eq!(last["meta"]["actor"], "system");
}

#[tokio::test]
async fn a_copy_that_a_kill_interrupted_is_attempted_again_and_is_complete() {
    let content = Content::new(12, 60_000);
    let mut server = Server::with_content(content.root(), Some(500_000));
    let id = server.submit(&content.copy_request("cut")).await;
    let half = |task: &serde_json::Value| task["progress"]["fraction"].as_f64().is_some_and(|f| f > 0.2);
    server.task_when(&id, half).await;
    server.restart();
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(2)), "{task}");
    let clients = Clients::new(0);
    assert_eq!(assert_ends(&verify_log(&server, &clients).await, &content), (1, 0));
}

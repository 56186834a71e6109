//! A server whose log is damaged: it serves no changed event, and says which one is damaged.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;

use crate::store_contract::damage::hide_from_index;
use crate::support::{Server, TEST_TIMEOUT, taskbell};

/// A title that is nowhere else in the file.
const TITLE: &str = "The quick brown fox";

/// Flips one bit of the title in `log.db`.
fn change_title(data: &Path) {
    let path = data.join("log.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let found: Vec<usize> = bytes
        .windows(TITLE.len())
        .enumerate()
        .filter(|(_, window)| *window == TITLE.as_bytes())
        .map(|(i, _)| i)
        .collect();
    assert_eq!(found.len(), 1, "the file has the title once");
    bytes[found[0]] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

/// A stopped server with three tasks, of which the second has the title, and the ids of the tasks.
async fn stopped() -> (Server, Vec<String>) {
    let mut server = Server::start();
    let mut ids = Vec::new();
    for title in ["first", TITLE, "third"] {
        ids.push(server.submit(&json!({"kind": "demo.none", "title": title})).await);
    }
    server.stop();
    (server, ids)
}

/// Starts a server that is expected to end by itself. If it listens, it is killed.
fn serve(data: &Path) -> Output {
    let mut serve = taskbell();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).stdin(Stdio::null());
    let mut server = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if !line.is_empty() {
        server.kill().unwrap();
    }
    let ended = server.wait_with_output().unwrap();
    assert_eq!(line, "", "it has listened");
    ended
}

#[tokio::test]
async fn a_server_does_not_start_on_a_changed_event_and_names_it_and_the_way_out() {
    let (server, _) = stopped().await;
    change_title(&server.data());
    let ended = serve(&server.data());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("event 2 ") && last.contains("log verify --data"), "{said}");
    assert_eq!(said.matches("event 2 ").count(), 1, "{said}");
}

#[tokio::test]
async fn a_server_that_reads_a_changed_event_refuses_it_and_is_not_ready_any_more() {
    let (mut server, ids) = stopped().await;
    server.restart();
    assert_eq!(server.get("/readyz").await.status, 200);
    change_title(&server.data());
    for path in ["", "/events"] {
        let refused = server.get(&format!("/v1/tasks/{}{path}", ids[1])).await;
        assert_eq!((refused.status, &refused.body["code"]), (500, &json!("log_damaged")), "{}", refused.text);
        assert!(refused.body["detail"].as_str().unwrap().contains("event 2 "), "{}", refused.text);
        assert_eq!(refused.body["retryable"], json!(false));
    }
    let ready = server.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.body["code"], &ready.body["retryable"]),
        (503, &json!("not_ready"), &json!(false))
    );
    assert!(ready.body["detail"].as_str().unwrap().contains("log: the log is damaged: event 2 "), "{}", ready.text);
    for id in [&ids[0], &ids[2]] {
        assert_eq!(server.get(&format!("/v1/tasks/{id}/events")).await.status, 200, "the others are served");
    }
    // The response ends at the event, before or after its head was sent.
    let mut body = Vec::new();
    let cut = match server.client().get(server.url() + "/v1/log").send().await {
        Err(error) => error.is_request(),
        Ok(mut log) => loop {
            match log.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                ended => break ended.is_err(),
            }
        },
    };
    assert!(cut && !String::from_utf8_lossy(&body).contains("brown"), "the log ends before the event");
    assert_eq!(server.stderr().matches("is not ready").count(), 1, "{}", server.stderr());
}

#[tokio::test]
async fn a_start_from_a_snapshot_checks_the_events_before_it_afterwards() {
    let server = Server::start();
    server.submit(&json!({"kind": "demo.none", "title": TITLE})).await;
    let items: Vec<_> = (0..1000).map(|n| json!({"kind": "demo.none", "title": format!("task {n}")})).collect();
    for _ in 0..10 {
        assert_eq!(server.post("/v1/tasks/batch", &json!({"items": items})).await.status, 200);
    }
    let mut server = server;
    server.stop();
    assert_eq!(std::fs::read_dir(server.data().join("snapshots")).unwrap().count(), 1);
    change_title(&server.data());
    server.restart();
    let not_ready = async {
        loop {
            let ready = server.get("/readyz").await;
            if ready.status == 503 {
                return ready;
            }
        }
    };
    let not_ready = tokio::time::timeout(TEST_TIMEOUT, not_ready).await.expect("the damage is found");
    assert!(not_ready.body["detail"].as_str().unwrap().contains("event 1 "), "{}", not_ready.text);
    let task = server.get("/v1/tasks?order=asc&limit=1").await;
    assert_eq!(task.body["items"][0]["title"], TITLE, "the snapshot has what was written");
}

#[tokio::test]
async fn a_stream_that_is_shorter_than_the_views_know_is_damaged() {
    let (mut server, ids) = stopped().await;
    server.restart();
    let cancelled = server.post(&format!("/v1/tasks/{}/cancel", ids[1]), &json!({})).await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text);
    server.stop();
    server.restart();
    // The last event of the stream, its completion, is the end of the log.
    hide_from_index(&server.data(), "next_events", 5);
    for (method, path) in [("GET", ""), ("GET", "/events"), ("POST", "/retry")] {
        let path = format!("/v1/tasks/{}{path}", ids[1]);
        let refused = if method == "GET" { server.get(&path).await } else { server.post(&path, &json!({})).await };
        assert_eq!((refused.status, &refused.body["code"]), (500, &json!("log_damaged")), "{path}: {}", refused.text);
    }
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/v1/log/head").await.body["position"], json!(5), "nothing was appended");
}

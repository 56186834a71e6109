//! The disk with the log is full.

use std::ffi::OsString;
use std::io::Write as _;

use serde_json::json;

use super::load::{Content, assert_ends};
use crate::push::fold::Fold;
use crate::support::Server;

#[tokio::test]
async fn while_the_disk_is_full_writes_are_refused_and_reads_are_answered() {
    let content = Content::new(3, 30_000);
    let root: [OsString; 4] =
        ["--content-root".into(), content.root().into(), "--content-bytes-per-s".into(), "300000".into()];
    let Some(server) = Server::on_small_disk(4096, root) else {
        eprintln!("not run: this system doesn't let this user mount a small disk");
        return;
    };
    let task = json!({"kind": "no.worker", "input": "x".repeat(30_000)});
    let first = server.submit(&task).await;
    let copy = server.submit(&content.copy_request("under way")).await;
    server.task_with_status(&copy, "running").await;
    let mut live = crate::support::LiveSocket::open(&server).await;
    live.next_of_type("snapshot").await;
    let disk = format!("/proc/{}/root{}", server.pid(), server.data().display());
    let path = std::path::Path::new(&disk).join("filler");
    let mut filler = std::fs::File::create(&path).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    // The log's files have some free space, so the first requests may be accepted.
    let mut accepted = 1;
    let refused = loop {
        let answer = server.post("/v1/tasks", &task).await;
        if answer.status != 201 {
            break answer;
        }
        accepted += 1;
    };
    refused.assert_problem(503, "log_unavailable");
    assert_eq!(refused.body["retryable"], true, "{}", refused.text);
    let health = server.get("/healthz").await;
    assert_eq!(health.status, 200, "{}", health.text);
    for path in ["/v1/tasks", "/v1/counters", "/v1/log/head", "/v1/log", &format!("/v1/tasks/{first}")] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(server.get("/v1/counters").await.body["counts"]["queued"], accepted);
    // The copy has ended, but its end can't be recorded yet.
    while !server.stderr().contains("report is not recorded yet") {
        server.post("/v1/tasks", &task).await.assert_problem(503, "log_unavailable");
    }
    assert_eq!(server.task(&copy).await["status"], "running");
    std::fs::remove_file(&path).unwrap();
    drop(filler);
    let after = server.submit(&task).await;
    assert_eq!(server.task_at_end(&copy).await["status"], "succeeded", "its end is recorded later");
    while live.next_of_type("counters").await["counts"]["queued"] != accepted + 1 {}
    let fold = Fold::of(&server.get("/v1/log").await.text, "local");
    assert_eq!(fold.tasks.len(), accepted + 2, "all accepted tasks and the copy");
    assert_ends(&fold, &content);
    assert!(fold.tasks.contains_key(&after));
}

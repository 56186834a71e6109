//! While the log can't be written, a server says so: it isn't ready, it grants no leases, and it is ready again by itself.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{HttpResponse, Server, TEST_TIMEOUT};

/// A server on a disk of 4 MiB; `None` if this system doesn't let this user mount one.
fn on_small_disk() -> Option<Server> {
    let server = Server::on_small_disk::<[&str; 0]>(4096, []);
    if server.is_none() {
        eprintln!("not run: this system doesn't let this user mount a small disk");
    }
    server
}

/// A file that takes all the room on the disk of the server. Its drop makes room again.
struct FullDisk(PathBuf);

impl FullDisk {
    fn fill(server: &Server) -> Self {
        let path = PathBuf::from(format!("/proc/{}/root{}/filler", server.pid(), server.data().display()));
        let mut filler = File::create(&path).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
        Self(path)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn task() -> Value {
    json!({"kind": "no.worker", "input": "x".repeat(30_000)})
}

/// Creates tasks until one is refused, and returns the refusal.
async fn create_until_refused(server: &Server) -> HttpResponse {
    loop {
        let answer = server.post("/v1/tasks", &task()).await;
        if answer.status != 201 {
            return answer;
        }
    }
}

async fn take(server: &Server, wait_s: f64) -> HttpResponse {
    server.post("/v1/leases", &json!({"worker": "w", "wait_s": wait_s})).await
}

/// Requests only `/readyz`, which writes nothing, until the server is ready.
pub async fn wait_until_ready(server: &Server) {
    let ready = async { while server.get("/readyz").await.status != 200 {} };
    tokio::time::timeout(TEST_TIMEOUT, ready).await.expect("the server tries to write by itself");
}

/// How many lines of the server's standard error contain this text.
pub fn lines_with(server: &Server, text: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn on_a_full_disk_a_server_is_not_ready_and_grants_no_lease_until_it_can_write_again() {
    let Some(server) = on_small_disk() else { return };
    server.submit(&task()).await;
    let disk = FullDisk::fill(&server);
    create_until_refused(&server).await.assert_problem(503, "log_unavailable");
    let ready = server.get("/readyz").await;
    ready.assert_problem(503, "not_ready");
    assert_eq!(ready.body["retryable"], true, "{}", ready.text);
    let reason = ready.body["detail"].as_str().unwrap();
    assert!(reason.contains("log:") && reason.contains("full") && reason.contains("since"), "{reason}");
    for wait_s in [0.0, 5.0] {
        let refused = take(&server, wait_s).await;
        refused.assert_problem(503, "log_unavailable");
        assert_eq!((refused.body["retryable"].clone(), refused.header("retry-after")), (json!(true), "1"));
    }
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("\ntaskbell_log_up 0\n"), "{metrics}");
    drop(disk);
    wait_until_ready(&server).await;
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("\ntaskbell_log_up 1\n"), "{metrics}");
    let leases = take(&server, 5.0).await;
    assert_eq!((leases.status, leases.body["leases"].as_array().unwrap().len()), (200, 1), "{}", leases.text);
}

#[tokio::test]
async fn a_take_that_waits_when_the_disk_becomes_full_is_refused_at_once() {
    let Some(server) = on_small_disk() else { return };
    let wait = async { server.post("/v1/leases", &json!({"worker": "w", "kinds": ["other"], "wait_s": 30})).await };
    let fill = async {
        // The waiting request has arrived when the worker is known as one.
        let id = server.submit(&json!({"kind": "other", "run_at": "2999-01-01T00:00:00Z"})).await;
        server.task(&id).await;
        let disk = FullDisk::fill(&server);
        create_until_refused(&server).await;
        disk
    };
    let begun = std::time::Instant::now();
    let (refused, disk) = tokio::join!(wait, fill);
    refused.assert_problem(503, "log_unavailable");
    assert!(begun.elapsed().as_secs() < 25, "{:?}", begun.elapsed());
    drop(disk);
}

#[tokio::test]
async fn a_first_take_that_finds_the_disk_full_is_refused_although_tasks_wait() {
    let Some(server) = on_small_disk() else { return };
    for _ in 0..5 {
        server.submit(&json!({"kind": "no.worker"})).await;
    }
    let disk = FullDisk::fill(&server);
    // Some starts may find room in the log's files.
    let refused = loop {
        let answer = take(&server, 0.0).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(!answer.body["leases"].as_array().unwrap().is_empty(), "tasks wait: {}", answer.text);
        server.submit(&json!({"kind": "no.worker"})).await;
    };
    refused.assert_problem(503, "log_unavailable");
    drop(disk);
}

#[tokio::test]
async fn a_full_disk_is_logged_when_it_begins_and_when_it_ends_and_not_for_each_request() {
    let Some(server) = on_small_disk() else { return };
    let disk = FullDisk::fill(&server);
    create_until_refused(&server).await;
    for _ in 0..200 {
        server.post("/v1/tasks", &task()).await.assert_problem(503, "log_unavailable");
        take(&server, 0.0).await.assert_problem(503, "log_unavailable");
    }
    assert_eq!(lines_with(&server, "the log can't be written:"), 1, "{}", server.stderr());
    drop(disk);
    wait_until_ready(&server).await;
    assert_eq!(lines_with(&server, "the log can be written again"), 1, "{}", server.stderr());
    let faults = server.stderr().lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).count();
    assert!(faults <= 5, "{faults} lines:\n{}", server.stderr());
}

/// Sets the largest size of a file that the process may write, in bytes.
fn limit_files(server: &Server, bytes: &str) -> bool {
    let limit = format!("--fsize={bytes}:unlimited");
    let status = Command::new("prlimit").args(["--pid", &server.pid().to_string(), &limit]).status();
    status.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_limit_of_file_sizes_is_a_full_disk_and_does_not_end_the_process() {
    let server = Server::start();
    server.submit(&task()).await;
    if !limit_files(&server, "263144") {
        eprintln!("not run: prlimit can't limit the size of files");
        return;
    }
    // The limit lies inside a page, so the last write is a short one.
    create_until_refused(&server).await.assert_problem(503, "log_unavailable");
    let ready = server.get("/readyz").await;
    ready.assert_problem(503, "not_ready");
    assert!(ready.body["detail"].as_str().unwrap().contains("size"), "{}", ready.text);
    assert!(limit_files(&server, "unlimited"));
    wait_until_ready(&server).await;
    server.submit(&task()).await;
}

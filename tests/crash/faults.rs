//! System calls on the log's files fail, one kind at a time. `strace` makes them fail in the real program.
//!
//! Without an acknowledgement that is lost, and without a panic: whatever fails, the server says so, and what it has
//! acknowledged is there after a restart.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::unwritable::{lines_with, wait_until_ready};
use crate::support::{HttpResponse, Server, signal, taskbell};

/// While this lives, some system calls of a server on one file fail.
struct Injection(Child);

impl Injection {
    /// Makes the calls on this file of the data folder fail, as `fault` says: `pwrite64:error=EIO`. Returns when they do.
    fn begin(server: &Server, file: &str, fault: &str) -> Self {
        let call = fault.split(':').next().unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &server.pid().to_string(), "-P"]).arg(server.data().join(file));
        strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={fault}")]);
        let mut child = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "strace has ended");
        }
        std::thread::spawn(move || lines.lines().for_each(drop));
        Self(child)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        signal(self.0.id(), "INT");
        self.0.wait().unwrap();
    }
}

/// Whether `strace` may attach to a process of this user.
fn has_strace() -> bool {
    let mut sleep = Command::new("sleep").arg("30").spawn().unwrap();
    let strace = Command::new("timeout")
        .args(["--signal=INT", "1", "strace", "-p", &sleep.id().to_string()])
        .stderr(Stdio::piped())
        .output();
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let has = strace.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("attached"));
    if !has {
        eprintln!("not run: there is no strace that may attach to a process");
    }
    has
}

fn task() -> Value {
    json!({"kind": "no.worker", "input": "x".repeat(9000)})
}

async fn create(server: &Server) -> HttpResponse {
    server.post("/v1/tasks", &task()).await
}

/// Asserts that after a restart the server is ready and has exactly these tasks.
async fn assert_kept(server: &mut Server, ids: &[String]) {
    server.restart();
    assert_eq!(server.get("/readyz").await.status, 200);
    for id in ids {
        assert_eq!(server.task(id).await["status"], "queued");
    }
    let total = &server.get("/v1/tasks").await.body["total"];
    assert_eq!(*total, json!(ids.len()), "a refused task is not there");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_a_full_disk() {
    if !has_strace() {
        return;
    }
    let mut server = Server::start();
    let mut ids = vec![create(&server).await.id()];
    let quota = Injection::begin(&server, "log.db-wal", "pwrite64:error=EDQUOT");
    create(&server).await.assert_problem(503, "log_unavailable");
    let ready = server.get("/readyz").await;
    ready.assert_problem(503, "not_ready");
    assert!(ready.body["detail"].as_str().unwrap().contains("quota"), "{}", ready.text);
    drop(quota);
    wait_until_ready(&server).await;
    ids.push(create(&server).await.id());
    assert_kept(&mut server, &ids).await;
}

#[tokio::test]
async fn a_write_that_finds_no_room_is_refused_whichever_it_is_and_the_next_one_is_accepted() {
    if !has_strace() {
        return;
    }
    let mut server = Server::start();
    let mut ids = vec![create(&server).await.id()];
    for ordinal in 1..=6 {
        let fault = Injection::begin(&server, "log.db-wal", &format!("pwrite64:error=ENOSPC:when={ordinal}"));
        create(&server).await.assert_problem(503, "log_unavailable");
        ids.push(create(&server).await.id());
        drop(fault);
    }
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_kept(&mut server, &ids).await;
}

#[tokio::test]
async fn after_a_failed_write_or_sync_nothing_more_is_acknowledged_and_reads_go_on() {
    if !has_strace() {
        return;
    }
    for fault in ["fsync:error=EIO:when=1", "pwrite64:error=EIO:when=2"] {
        let mut server = Server::start();
        let ids = [create(&server).await.id()];
        let injection = Injection::begin(&server, "log.db-wal", fault);
        create(&server).await.assert_problem(503, "log_read_only");
        drop(injection);
        for _ in 0..50 {
            create(&server).await.assert_problem(503, "log_read_only");
        }
        let ready = server.get("/readyz").await;
        ready.assert_problem(503, "not_ready");
        assert_eq!(ready.body["retryable"], false, "only a restart helps: {}", ready.text);
        server.post("/v1/leases", &json!({"worker": "w", "wait_s": 5})).await.assert_problem(503, "log_read_only");
        assert_eq!(server.get("/v1/counters").await.body["counts"]["queued"], 1);
        assert_eq!(server.task(&ids[0]).await["status"], "queued");
        assert_eq!(lines_with(&server, "takes no more writes until a restart"), 1, "{}", server.stderr());
        let faults = lines_with(&server, "ERROR") + lines_with(&server, "WARN");
        assert!(faults <= 4, "{faults} lines:\n{}", server.stderr());
        server.restart();
        assert_eq!(server.get("/readyz").await.status, 200);
        assert_eq!(server.task(&ids[0]).await["status"], "queued");
    }
}

/// The value of a metric of the server.
async fn metric(server: &Server, name: &str) -> f64 {
    let metrics = server.get("/metrics").await.text;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_fail_are_counted_and_said_once_and_go_on_when_the_fault_is_over() {
    if !has_strace() {
        return;
    }
    let mut server = Server::start();
    let fault = Injection::begin(&server, "log.db", "pwrite64:error=EIO");
    let items = json!({"items": vec![json!({"kind": "no.worker", "input": "x".repeat(30_000)}); 100]});
    let failed = "taskbell_log_checkpoints_total{result=\"failed\"}";
    let mut created = 0;
    while metric(&server, failed).await < 2.0 {
        let batch = server.post("/v1/tasks/batch", &items).await;
        assert_eq!(batch.status, 200, "writes go on: {}", batch.text);
        created += 100;
    }
    let grows = "can't be copied to log.db and grows";
    assert_eq!(lines_with(&server, grows), 1, "{}", server.stderr());
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 200, "the events are durable: {}", ready.text);
    let warning = ready.body["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("write-ahead log") && warning.contains("MB"), "{}", ready.text);
    drop(fault);
    // Nothing is written: the thread tries again by itself.
    while metric(&server, "taskbell_log_checkpoints_total{result=\"complete\"}").await < 1.0 {}
    assert_eq!(lines_with(&server, "can be copied to log.db again"), 1, "{}", server.stderr());
    assert_eq!(server.get("/readyz").await.body["warnings"], json!([]));
    server.restart();
    assert_eq!(server.get("/v1/tasks").await.body["total"], created);
}

/// Starts a server on this folder while system calls on one path fail. Returns its exit code and what it has written to stderr.
fn start_with_fault(data: &Path, file: &str, fault: &str) -> (Option<i32>, String) {
    let call = fault.split(':').next().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-P"]).arg(data.join(file));
    strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={fault}")]);
    strace.arg(taskbell().get_program()).args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    for (name, _) in taskbell().get_envs() {
        strace.env_remove(name);
    }
    let output = strace.current_dir(data.parent().unwrap()).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_server_that_cannot_open_its_files_ends_with_one_line_that_says_which() {
    if !has_strace() {
        return;
    }
    for (file, fault) in [
        ("lock", "openat:error=ENOSPC"),
        ("log.db", "openat:error=EDQUOT"),
        ("log.db", "pwrite64:error=ENOSPC"),
        ("log.db-wal", "openat:error=ENOSPC"),
        ("log.db-shm", "openat:error=ENOSPC"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let (code, stderr) = start_with_fault(&data, file, fault);
        let said: Vec<_> = stderr.lines().filter(|line| !line.contains("INFO")).collect();
        assert_eq!((code, said.len()), (Some(1), 1), "{file} {fault}:\n{stderr}");
        assert!(said[0].contains("data/"), "{file} {fault}: {}", said[0]);
    }
}

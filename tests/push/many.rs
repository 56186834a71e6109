//! Many sockets that never read, beside as many that do.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::stalled::open_narrow;
use super::wire::memory_kib;
use crate::support::{LiveSocket, Server};

/// Tasks of one batch.
const BATCH: usize = 20;

/// Reads until the counters at this position have come.
async fn read_to(live: &mut LiveSocket, position: u64) {
    loop {
        let frame = live.next_of_type("counters").await;
        if frame["position"].as_u64().unwrap() >= position {
            assert_eq!(frame["counts"]["queued"], position, "every event of this log creates a task");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_never_read_delay_no_socket_that_reads() {
    let full = std::env::var_os("TASKBELL_FULL").is_some();
    let (sockets, batches) = if full { (1000, 100) } else { (40, 60) };
    let server = Server::with(["--max-sockets-per-subject", "3000", "--max-sockets-per-address", "3000"]);
    let mut readers = join_all((0..sockets).map(|_| LiveSocket::open(&server))).await;
    for live in &mut readers {
        live.next_of_type("snapshot").await;
    }
    let before = memory_kib(&server, "VmRSS:");
    let _stalled = join_all((0..sockets).map(|_| open_narrow(&server))).await;
    let labels: serde_json::Map<_, _> = (0..16).map(|n| (format!("l{n}"), json!("x".repeat(128)))).collect();
    let items: Vec<Value> = (0..BATCH).map(|_| json!({"kind": "nobody.works", "labels": labels})).collect();
    let begun = std::time::Instant::now();
    let mut slowest = 0.0_f64;
    for _ in 0..batches {
        let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let acknowledged = std::time::Instant::now();
        // Every reader gets these counters before the next batch is sent, whatever the others do.
        join_all(readers.iter_mut().map(|live| read_to(live, answer.position()))).await;
        slowest = slowest.max(acknowledged.elapsed().as_secs_f64());
    }
    let (took, after) = (begun.elapsed().as_secs_f64(), memory_kib(&server, "VmRSS:"));
    let per_socket = after.saturating_sub(before) / sockets as u64;
    println!("{sockets} readers and {sockets} sockets that never read: {took:.1} s, slowest push {slowest:.3} s, {per_socket} KiB for each pair");
    assert!(per_socket < 512, "{per_socket} KiB for each pair of sockets");
}

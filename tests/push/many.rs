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

/// Creates batches of tasks. After each, every reader gets the counters before the next batch is created. Returns the longest
/// time until all had them, in seconds.
async fn push_to(server: &Server, readers: &mut [LiveSocket], batches: usize) -> f64 {
    let labels: serde_json::Map<_, _> = (0..16).map(|n| (format!("l{n}"), json!("x".repeat(128)))).collect();
    let items: Vec<Value> = (0..BATCH).map(|_| json!({"kind": "nobody.works", "labels": labels})).collect();
    let mut slowest = 0.0_f64;
    for _ in 0..batches {
        let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let acknowledged = std::time::Instant::now();
        join_all(readers.iter_mut().map(|live| read_to(live, answer.position()))).await;
        slowest = slowest.max(acknowledged.elapsed().as_secs_f64());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_never_read_delay_no_socket_that_reads() {
    let full = std::env::var_os("TASKBELL_FULL").is_some();
    let (sockets, batches) = if full { (1000_u64, 100) } else { (40, 30) };
    let server = Server::with(["--max-sockets-per-subject", "3000", "--max-sockets-per-address", "3000"]);
    let mut readers = join_all((0..sockets).map(|_| LiveSocket::open(&server))).await;
    let start = memory_kib(&server);
    let alone = push_to(&server, &mut readers, batches).await;
    let before = memory_kib(&server);
    let _stalled = join_all((0..sockets).map(|_| open_narrow(&server))).await;
    let beside = push_to(&server, &mut readers, batches).await;
    // What the same number of tasks needs is not the sockets' memory.
    let per_socket = (memory_kib(&server) - before).saturating_sub(before - start) / sockets;
    println!(
        "{sockets} readers: slowest push {alone:.3} s alone, {beside:.3} s beside {sockets} sockets that never read"
    );
    println!("{per_socket} KiB for each socket that never reads");
    assert!(per_socket < 384, "{per_socket} KiB for each socket that never reads");
}

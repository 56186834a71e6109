//! Many sockets that never read, beside as many that do. With `TASKBELL_SECURE=1` all of them by TLS, with tokens.

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use super::stalled::open_narrow;
use super::wire::memory_kib;
use crate::support::figures::{self, Latencies, is_full, sized};
use crate::support::{Access, LiveSocket, Server};

/// Tasks of one batch.
const BATCH: usize = 20;
/// How many sockets are opened at the same time.
const HANDSHAKES: usize = 16;
/// What the allocator takes for itself when the server has more to do, in KiB.
const ALLOCATOR_KIB: u64 = 12 * 1024;
/// A push that takes no longer than this is as good as one without the sockets that never read, in milliseconds.
const UNNOTICED_MS: u128 = 250;

/// Reads until the counters at this position have come, with so many tasks.
async fn read_to(live: &mut LiveSocket, position: u64, tasks: u64) {
    loop {
        let frame = live.next_of_type("counters").await;
        if frame["position"].as_u64().unwrap() >= position {
            assert_eq!(frame["counts"]["queued"], tasks, "the other events of this log create tasks");
            return;
        }
    }
}

/// Creates batches of tasks. After each, every reader gets the counters before the next batch is created. Returns the times
/// until all had them.
async fn push_to(server: &Server, readers: &mut [LiveSocket], batches: usize) -> Latencies {
    let labels: serde_json::Map<_, _> = (0..16).map(|n| (format!("l{n}"), json!("x".repeat(128)))).collect();
    let items: Vec<Value> = (0..BATCH).map(|_| json!({"kind": "nobody.works", "labels": labels})).collect();
    let mut taken = Latencies::default();
    for _ in 0..batches {
        let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let acknowledged = std::time::Instant::now();
        // The tokens of a secured server are events too.
        let (position, others) = (answer.position(), if server.is_secured() { 2 } else { 0 });
        join_all(readers.iter_mut().map(|live| read_to(live, position, position - others))).await;
        taken.add(acknowledged.elapsed());
    }
    taken
}

/// Opens as many sockets that never read as sockets that do.
async fn push_beside(access: Access, sockets: usize, batches: usize) {
    let server =
        Server::with_access(access, ["--max-sockets-per-subject", "3000", "--max-sockets-per-address", "3000"]);
    let opening = stream::iter(0..sockets).map(|_| LiveSocket::open(&server));
    let mut readers: Vec<_> = opening.buffered(HANDSHAKES).collect().await;
    let start = memory_kib(&server);
    let mut alone = push_to(&server, &mut readers, batches).await;
    let before = memory_kib(&server);
    let opening = stream::iter(0..sockets).map(|_| open_narrow(&server));
    let stalled: Vec<_> = opening.buffered(HANDSHAKES).collect().await;
    let mut beside = push_to(&server, &mut readers, batches).await;
    let after = memory_kib(&server);
    // What the same number of tasks needs is not the sockets' memory.
    let per_socket = after.saturating_sub(before).saturating_sub(before - start) / sockets as u64;
    let pushes = format!("alone {}; beside {} sockets that never read {}", alone.text(), stalled.len(), beside.text());
    let memory =
        format!("{} MiB before, {} after, {per_socket} KiB for each that never reads", start / 1024, after / 1024);
    figures::report(access, &format!("pushes to {sockets} sockets: {pushes}; {memory}"));
    assert!(per_socket < 384 + ALLOCATOR_KIB / sockets as u64, "{per_socket} KiB for each socket that never reads");
    if is_full() {
        let [alone, beside] = [&mut alone, &mut beside].map(|taken| taken.percentile(50).as_millis());
        assert!(beside <= UNNOTICED_MS.max(5 * alone), "a push takes {beside} instead of {alone} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_never_read_delay_no_socket_that_reads() {
    push_beside(Access::of_environment(), sized(40, 1000), sized(30, 100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_with_tls_and_authentication_that_never_read_delay_no_socket_that_reads() {
    push_beside(Access::Secured, 8, 10).await;
}

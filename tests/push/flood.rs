//! Clients that send as much as they can. The memory of the server stays bounded.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::wire::{BINARY, LAST, PING, PONG, close_code, frame, header, memory_kib, open, write};
use crate::support::{LiveSocket, Server};

/// How much more memory the server may have used at any time during a flood, in KiB.
const GROWTH_MAX_KIB: u64 = 6 * 1024;
/// A write that takes longer than this counts as blocked: the server reads no more from this client.
const BLOCKED: Duration = Duration::from_secs(2);

/// Runs the flood against a server that has served a socket before, and asserts that its memory didn't grow.
async fn assert_bounded(flood: impl AsyncFn(&Server, &mut LiveSocket)) {
    let server = Server::start();
    let mut live = open(&server).await;
    write(&mut live, &frame(PING | LAST, b"?")).await;
    let before = memory_kib(&server, "VmHWM:");
    flood(&server, &mut live).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let growth = memory_kib(&server, "VmHWM:") - before;
    println!("{growth} KiB more than before");
    assert!(growth <= GROWTH_MAX_KIB, "{growth} KiB more than before");
}

/// Writes the bytes again and again until `total` were written, or until the connection takes no more.
async fn write_much(live: &mut LiveSocket, bytes: &[u8], total: usize) {
    let connection = live.raw().get_mut();
    for _ in 0..total / bytes.len() {
        match tokio::time::timeout(BLOCKED, connection.write_all(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

#[tokio::test]
async fn the_body_of_a_message_that_is_too_long_is_not_kept() {
    assert_bounded(async |_, live| {
        write(live, &header(BINARY | LAST, 1 << 40)).await;
        write_much(live, &[7; 64 * 1024], 64 << 20).await;
    })
    .await;
}

#[tokio::test]
async fn frames_that_need_no_answer_are_not_kept() {
    assert_bounded(async |_, live| {
        let pongs: Vec<u8> = (0..4096).flat_map(|_| frame(PONG | LAST, b"")).collect();
        write_much(live, &pongs, 16 << 20).await;
    })
    .await;
}

#[tokio::test]
async fn empty_fragments_are_not_kept() {
    assert_bounded(async |_, live| {
        write(live, &frame(1, b"")).await;
        let fragments: Vec<u8> = (0..4096).flat_map(|_| frame(0, b"")).collect();
        write_much(live, &fragments, 16 << 20).await;
    })
    .await;
}

#[tokio::test]
async fn the_answers_to_pings_of_a_client_that_never_reads_are_not_kept() {
    assert_bounded(async |_, live| {
        let pings: Vec<u8> = (0..500).flat_map(|_| frame(PING | LAST, &[b'?'; 125])).collect();
        write_much(live, &pings, 64 << 20).await;
    })
    .await;
}

#[tokio::test]
async fn the_answers_to_requests_of_a_client_that_never_reads_are_not_kept() {
    assert_bounded(async |_, live| {
        let filter = serde_json::json!({"type": "subscribe", "filter": {"ids": vec![uuid::Uuid::nil(); 200]}});
        let subscribes = frame(1 | LAST, filter.to_string().as_bytes()).repeat(8);
        write_much(live, &subscribes, 32 << 20).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_floods_and_is_then_refused_gets_the_close_frame() {
    let server = Server::start();
    let mut live = open(&server).await;
    write(&mut live, &header(BINARY | LAST, 1 << 40)).await;
    write_much(&mut live, &[7; 64 * 1024], 1 << 20).await;
    assert_eq!(close_code(&mut live).await, Some(1009));
}

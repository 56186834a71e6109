//! Clients that send as much as they can. The memory of the server stays bounded. With `TASKBELL_SECURE=1` they send by TLS.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::wire::{BINARY, CONTINUE, LAST, PING, PONG, TEXT, close_code, frame, header, memory_kib, open, write};
use crate::support::{Access, Server, figures};

/// How much more memory the server may have used at any time during a flood, in KiB. The allocator keeps some MiB for each
/// thread. A flood is larger.
const GROWTH_MAX_KIB: u64 = 24 * 1024;
/// The same over TLS, which has buffers of its own.
const GROWTH_MAX_TLS_KIB: u64 = 32 * 1024;
/// A write that takes longer than this counts as blocked: the server reads no more from this client.
const BLOCKED: Duration = Duration::from_secs(2);

/// Writes the bytes `opening` and then `flood` again and again, until `total` bytes were written or the connection takes no
/// more. Asserts that the server's memory doesn't grow meanwhile.
async fn assert_bounded(name: &str, opening: &[u8], flood: &[u8], total: usize) {
    // Four times as much leads to no more memory.
    let total = figures::sized(total, 4 * total);
    assert_bounded_over(Access::of_environment(), name, opening, flood, total).await;
}

async fn assert_bounded_over(access: Access, name: &str, opening: &[u8], flood: &[u8], total: usize) {
    let server = Server::with_access(access, Vec::<String>::new());
    // The first flood fills the allocator's caches.
    write_much(&server, opening, flood, total / 16).await;
    let before = memory_kib(&server);
    let most = write_much(&server, opening, flood, total).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let growth = most.saturating_sub(before);
    figures::report(
        access,
        &format!("{name}, {} MiB: {before} KiB before, {growth} more during the flood", total >> 20),
    );
    let growth_max = if server.is_secured() { GROWTH_MAX_TLS_KIB } else { GROWTH_MAX_KIB };
    assert!(growth <= growth_max, "{growth} KiB more than before");
}

/// Writes the bytes on a new socket. Returns the most memory that the server used at any time, in KiB.
async fn write_much(server: &Server, opening: &[u8], flood: &[u8], total: usize) -> u64 {
    let mut live = open(server).await;
    write(&mut live, opening).await;
    let mut most = memory_kib(server);
    for _ in 0..total / flood.len() {
        let written = tokio::time::timeout(BLOCKED, live.raw().get_mut().write_all(flood)).await;
        most = most.max(memory_kib(server));
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    most
}

/// A frame that the server reads and doesn't answer.
fn pong() -> Vec<u8> {
    frame(PONG | LAST, &[b'!'; 125])
}

#[tokio::test]
async fn the_body_of_a_message_that_is_too_long_is_not_kept() {
    assert_bounded("a long message", &header(BINARY | LAST, 1 << 40), &vec![7; 64 * 1024], 64 << 20).await;
}

#[tokio::test]
async fn frames_that_need_no_answer_are_not_kept() {
    assert_bounded("pongs", b"", &pong().repeat(500), 48 << 20).await;
}

#[tokio::test]
async fn empty_fragments_are_not_kept() {
    assert_bounded(
        "empty fragments",
        &frame(TEXT, b""),
        &[frame(CONTINUE, b""), pong()].concat().repeat(500),
        48 << 20,
    )
    .await;
}

#[tokio::test]
async fn the_answers_to_pings_of_a_client_that_never_reads_are_not_kept() {
    assert_bounded("pings", b"", &frame(PING | LAST, &[b'?'; 125]).repeat(500), 64 << 20).await;
}

#[tokio::test]
async fn the_answers_to_requests_of_a_client_that_never_reads_are_not_kept() {
    let filter = serde_json::json!({"type": "subscribe", "filter": {"ids": vec![uuid::Uuid::nil(); 200]}});
    assert_bounded("requests", b"", &frame(TEXT | LAST, filter.to_string().as_bytes()).repeat(8), 32 << 20).await;
}

#[tokio::test]
async fn the_answers_to_pings_over_tls_with_authentication_are_not_kept() {
    let pings = frame(PING | LAST, &[b'?'; 125]).repeat(500);
    assert_bounded_over(Access::Secured, "pings", b"", &pings, 32 << 20).await;
}

#[tokio::test]
async fn a_client_that_floods_and_is_then_refused_gets_the_close_frame() {
    let server = Server::start();
    let mut live = open(&server).await;
    write(&mut live, &header(BINARY | LAST, 1 << 40)).await;
    for _ in 0..16 {
        // The server may have closed the connection by now.
        let _ = live.raw().get_mut().write_all(&vec![7; 64 * 1024]).await;
    }
    assert_eq!(close_code(&mut live).await, Some(1009));
}

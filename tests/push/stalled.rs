//! Clients that don't read from their websocket.

use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::net::TcpSocket;

use crate::support::{LiveSocket, Server, SocketStream, TEST_TIMEOUT};

/// The number of tasks in a batch. A frame may contain all of them.
const BATCH: usize = 10;

/// Opens a socket with a small receive buffer in the kernel, and subscribes to every task.
pub async fn open_narrow(server: &Server) -> LiveSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = server.address().parse().unwrap();
    let mut live = LiveSocket::open_over(socket.connect(address).await.unwrap(), server).await;
    live.send(&json!({"type": "subscribe", "filter": {"kind": ["nobody.works"]}})).await;
    live.next_of_type("subscribed").await;
    live
}

/// Creates batches of large tasks. Creates each batch after the fast client has received the counts of the previous
/// one. Returns its `counters` frames.
async fn flood(server: &Server, fast: &mut LiveSocket, batches: usize) -> Vec<Value> {
    let labels: serde_json::Map<_, _> = (0..32).map(|n| (format!("l{n}"), json!("x".repeat(128)))).collect();
    let items: Vec<Value> = (0..BATCH).map(|_| json!({"kind": "nobody.works", "labels": labels})).collect();
    let body = json!({"items": items});
    let mut frames = vec![fast.next_of_type("snapshot").await];
    for _ in 0..batches {
        let answer = server.post("/v1/tasks/batch", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        while frames.last().unwrap()["position"].as_u64().unwrap() < answer.position() {
            frames.push(fast.next_of_type("counters").await);
        }
    }
    frames
}

/// A socket whose client does not read, and for which more frames wait than the connection takes.
pub async fn stalled_socket(server: &Server) -> LiveSocket {
    let slow = open_narrow(server).await;
    let mut quick = LiveSocket::open(server).await;
    flood(server, &mut quick, 40).await;
    slow
}

#[tokio::test]
async fn a_client_that_stops_reading_delays_no_other_and_then_gets_the_newest_counts() {
    let server = Server::start();
    let mut slow = open_narrow(&server).await;
    let mut fast = LiveSocket::open(&server).await;
    let sent = flood(&server, &mut fast, 40).await;
    let newest = sent.last().unwrap();
    slow.send(&json!({"type": "resync"})).await;
    let mut at = json!(0);
    let (mut frames, mut snapshots) = (0, 0);
    while at != newest["position"] || snapshots == 0 {
        let frame = slow.next().await;
        match frame["type"].as_str().unwrap() {
            "counters" => {
                assert_eq!(frame["previous"], at, "no gap");
                frames += 1;
            }
            "snapshot" => snapshots += 1,
            _ => continue,
        }
        assert!(frame["position"].as_u64() >= at.as_u64(), "never back");
        at = frame["position"].clone();
        let same = sent.iter().find(|frame| frame["position"] == at);
        assert!(same.is_none_or(|same| same["counts"] == frame["counts"]), "the same counts at one position");
    }
    println!("{} frames to the quick client, {frames} to the slow one", sent.len());
    assert!(frames < sent.len() - 1, "it got the newest instead of all of them");
}

/// Waits until the server has written this log line. Each round waits for an answer of the server.
async fn wait_for_log_line(server: &Server, quick: &mut LiveSocket, line: &str) {
    let begun = std::time::Instant::now();
    while !server.stderr().contains(line) {
        quick.send(&json!({"type": "resync"})).await;
        quick.next_of_type("snapshot").await;
        assert!(begun.elapsed() < TEST_TIMEOUT, "no line {line:?} in time:\n{}", server.stderr());
    }
}

#[tokio::test]
async fn a_stalled_client_that_reads_again_gets_what_waited_and_then_the_close_frame_1013() {
    let server = Server::with(["--socket-stall-s", "1"]);
    let (mut slow, mut quick) = (stalled_socket(&server).await, LiveSocket::open(&server).await);
    wait_for_log_line(&server, &mut quick, "closed with 1013").await;
    let mut at = json!(0);
    let close = loop {
        match slow.next_or_close().await {
            Ok(frame) if frame["type"] == "counters" => {
                assert_eq!(frame["previous"], at, "no gap");
                at = frame["position"].clone();
            }
            Ok(_) => {}
            Err(close) => break close,
        }
    };
    assert_eq!(close.map(|close| u16::from(close.code)), Some(1013));
    assert_ne!(at, json!(0), "it got frames before the close frame");
    quick.send(&json!({"type": "resync"})).await;
    quick.next_of_type("snapshot").await;
}

#[tokio::test]
async fn the_connection_of_a_stalled_client_that_never_reads_is_ended() {
    let server = Server::with(["--socket-stall-s", "1"]);
    let mut slow = stalled_socket(&server).await;
    let SocketStream::Plain(connection) = slow.raw().get_mut() else { panic!("a connection without TLS") };
    tokio::time::timeout(TEST_TIMEOUT, connection.ready(Interest::ERROR)).await.expect("a reset in time").unwrap();
    let end = loop {
        if let Err(close) = slow.next_or_close().await {
            break close;
        }
    };
    assert_eq!(end, None, "the close frame was dropped with the connection");
}

#[tokio::test]
async fn an_idle_client_and_one_that_reads_are_not_stalled() {
    let server = Server::with(["--socket-stall-s", "1"]);
    let mut idle = LiveSocket::open(&server).await;
    let mut quick = LiveSocket::open(&server).await;
    for _ in 0..2 {
        // A beat comes every 10 s.
        quick.next_of_type("beat").await;
    }
    idle.send(&json!({"type": "resync"})).await;
    for kind in ["hello", "snapshot", "beat", "beat", "snapshot"] {
        assert_eq!(idle.next().await["type"], kind);
    }
}

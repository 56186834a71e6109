//! Clients that don't read from their websocket.

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::{LiveSocket, Server};

/// The number of tasks in a batch. It is smaller than the most tasks in a frame.
const BATCH: usize = 150;

/// Opens a socket with a small receive buffer in the kernel, and subscribes to every task.
async fn open_narrow(server: &Server) -> LiveSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = server.url().replace("http://", "").parse().unwrap();
    let mut live = LiveSocket::over(socket.connect(address).await.unwrap(), &server.url()).await;
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

#[tokio::test]
#[ignore = "takes a minute"]
async fn a_client_that_has_stalled_for_30_s_is_closed_with_1013() {
    let server = Server::start();
    let mut slow = open_narrow(&server).await;
    let mut fast = LiveSocket::open(&server).await;
    flood(&server, &mut fast, 40).await;
    // The server sends a beat every 10 s.
    for _ in 0..5 {
        fast.next_of_type("beat").await;
    }
    let close = loop {
        if let Err(close) = slow.next_or_close().await {
            break close;
        }
    };
    assert_eq!(close.map(|close| u16::from(close.code)), Some(1013));
}

//! Connections over TLS: handshakes, limits and deadlines, and clients that leave or stall.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::{connect, exchange, flags, shake_hands, start};
use crate::support::{Server, TEST_TIMEOUT};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_server_with_a_certificate_speaks_https_and_says_so() {
    let server = start(&[]);
    assert!(server.url().starts_with("https://127.0.0.1:"), "{}", server.url());
    for path in ["/healthz", "/v1/tasks", "/v1/nothing", "/", "/ui/app.js"] {
        assert_eq!(server.get(path).await.header("strict-transport-security"), "max-age=31536000", "{path}");
    }
    let id = server.submit(&json!({"kind": "a"})).await;
    assert_eq!(server.task(&id).await["kind"], "a");
    let own = server.url();
    for (origin, status) in
        [(own.clone(), 200), (own.replace("https", "http"), 403), ("https://evil.example".into(), 403)]
    {
        let request = server.client().get(format!("{own}/v1/tasks")).header("origin", &origin);
        assert_eq!(server.send(request).await.status, status, "{origin}");
    }
    let plain = Server::start();
    assert_eq!(plain.get("/healthz").await.header("strict-transport-security"), "");
}

#[tokio::test]
async fn only_http_1_1_is_offered() {
    let server = start(&[]);
    let tcp = async || TcpStream::connect(server.address()).await.unwrap();
    for (offered, chosen) in
        [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let mut stream = shake_hands(tcp().await, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
        assert!(exchange(&mut stream, HEALTH).await.starts_with("HTTP/1.1 200 OK\r\n"), "{offered:?}");
    }
    assert!(shake_hands(tcp().await, &["h2"]).await.is_err(), "a client that speaks only HTTP/2");
}

#[tokio::test]
async fn clear_text_gets_no_response_of_the_server() {
    let server = start(&[]);
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(HEALTH.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let _ = tokio::time::timeout(TEST_TIMEOUT, socket.read_to_end(&mut received)).await.expect("an end in time");
    assert!(!String::from_utf8_lossy(&received).contains("HTTP"), "{received:?}");
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_handshake_must_end_within_the_time_of_a_head() {
    let server = start(&["--header-timeout-s", "0.5"]);
    for sent in [&b""[..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]] {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        socket.write_all(sent).await.unwrap();
        let begun = std::time::Instant::now();
        let end = tokio::time::timeout(TEST_TIMEOUT, socket.read(&mut [0; 64])).await.expect("an end in time");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "the time of an idle connection is longer: {begun:?}");
    }
}

#[tokio::test]
async fn clients_that_never_shake_hands_keep_no_other_client_out() {
    let server = Server::in_shell("ulimit -n 256", flags("first"));
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    // While the server takes over 300 connections at once, it has no place for a moment.
    let begun = std::time::Instant::now();
    let mut stream = loop {
        let socket = TcpStream::connect(server.address()).await.unwrap();
        if let Ok(stream) = shake_hands(socket, &["http/1.1"]).await {
            break stream;
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "it waits until the others are cut");
    };
    let response = exchange(&mut stream, HEALTH).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

#[tokio::test]
async fn a_head_has_its_deadline_and_a_pipelined_request_its_turn() {
    let server = start(&["--header-timeout-s", "0.5"]);
    let mut slow = connect(&server).await;
    let response = exchange(&mut slow, "GET /healthz HTTP/1.1\r\nHost: loc").await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    let two = format!("{}{HEALTH}", HEALTH.replace("Connection: close\r\n", ""));
    let response = exchange(&mut connect(&server).await, &two).await;
    assert_eq!(response.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{response}");
}

#[tokio::test]
async fn a_large_body_and_a_large_response_pass() {
    let server = start(&[]);
    let items: Vec<_> = (0..200).map(|n| json!({"kind": "a", "input": {"text": "x".repeat(30_000), "n": n}})).collect();
    let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let log = server.get("/v1/log").await;
    assert_eq!((log.status, log.text.lines().count()), (200, 200));
}

#[tokio::test]
async fn a_worker_that_leaves_before_the_answer_costs_the_task_no_attempt() {
    let server = start(&[]);
    let body = r#"{"worker":"gone","kinds":["a"]}"#;
    let request = format!(
        "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..5 {
        let mut gone = connect(&server).await;
        gone.write_all(request.as_bytes()).await.unwrap();
        gone.flush().await.unwrap();
        server.get("/healthz").await;
        gone.shutdown().await.unwrap();
        drop(gone);
        let id = server.submit(&json!({"kind": "a", "max_attempts": 1})).await;
        let take = json!({"worker": "here", "kinds": ["a"], "wait_s": 30});
        let lease = server.post("/v1/leases", &take).await.body["leases"][0]["lease"].clone();
        let finish = json!({"items": [{"lease": lease, "outcome": "succeeded"}]});
        assert_eq!(server.post("/v1/leases/finish", &finish).await.body["items"][0]["status"], "succeeded");
        let events = server.get(&format!("/v1/tasks/{id}/events")).await.body;
        for pair in events["items"].as_array().unwrap().windows(2).filter(|pair| pair[0]["data"]["worker"] == "gone") {
            assert_eq!((&pair[1]["type"], &pair[1]["data"]["reason"]), (&json!("Released"), &json!("not_delivered")));
        }
    }
}

#[tokio::test]
async fn the_connection_of_a_stalled_socket_is_ended() {
    let server = start(&["--socket-stall-s", "1"]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let socket = socket.connect(server.address().parse().unwrap()).await.unwrap();
    let stream = shake_hands(socket, &["http/1.1"]).await.unwrap();
    let url = format!("{}/v1/live", server.url().replace("https", "wss"));
    let (mut live, _) = client_async(url, stream).await.unwrap();
    let subscribe = json!({"type": "subscribe", "filter": {"kind": ["a"]}}).to_string();
    futures_util::SinkExt::send(&mut live, Message::text(subscribe)).await.unwrap();
    let labels: serde_json::Map<_, _> = (0..32).map(|n| (format!("l{n}"), json!("x".repeat(128)))).collect();
    let items: Vec<_> = (0..10).map(|_| json!({"kind": "a", "labels": labels})).collect();
    // How much the kernel buffers, and how many changes go into one frame, depends on the load of the machine. So tasks are
    // created until the server has ended the connection.
    let flood = async {
        loop {
            assert_eq!(server.post("/v1/tasks/batch", &json!({"items": items})).await.status, 200);
        }
    };
    let connection = live.get_ref().get_ref().0;
    let ended = connection.ready(tokio::io::Interest::ERROR);
    let ended = async {
        tokio::select! { ended = ended => ended, () = flood => unreachable!("the flood doesn't end") }
    };
    tokio::time::timeout(TEST_TIMEOUT, ended).await.expect("a reset in time").unwrap();
}

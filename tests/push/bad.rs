//! Invalid messages, and control frames of the websocket protocol.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{LiveSocket, Server};

async fn open(server: &Server) -> LiveSocket {
    let mut live = LiveSocket::open(server).await;
    live.next_of_type("snapshot").await;
    live
}

/// Reads until the server closes the socket, and returns the close code.
async fn close_code(live: &mut LiveSocket) -> u16 {
    loop {
        if let Err(close) = live.next_or_close().await {
            return close.expect("a close frame").code.into();
        }
    }
}

async fn send_fragments(live: &mut LiveSocket, parts: &[&[u8]]) {
    for (n, part) in parts.iter().enumerate() {
        let code = OpCode::Data(if n == 0 { Data::Text } else { Data::Continue });
        let frame = Frame::message(part.to_vec(), code, n + 1 == parts.len());
        live.raw().send(Message::Frame(frame)).await.unwrap();
    }
}

#[tokio::test]
async fn two_invalid_messages_are_refused_and_the_third_closes_the_socket_with_1008() {
    let server = Server::start();
    let mut live = open(&server).await;
    for (text, status) in [("{", 400), (r#"{"type":"dance"}"#, 422)] {
        live.send_text(text).await;
        let problem = live.next().await;
        assert_eq!((&problem["type"], &problem["status"]), (&json!("problem"), &json!(status)), "{problem}");
        assert!(problem["code"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    live.send(&json!({"type": "resync"})).await;
    live.next_of_type("snapshot").await;
    live.send(&json!({"type": "resync", "what": "an unknown field"})).await;
    live.next_of_type("problem").await;
    assert_eq!(close_code(&mut live).await, 1008);
}

#[tokio::test]
async fn a_message_is_checked_like_a_request() {
    let server = Server::start();
    let bad = [
        json!({"type": "subscribe"}),
        json!({"type": "subscribe", "filter": {"colour": "red"}}),
        json!({"type": "subscribe", "filter": {"status": ["lost"]}}),
        json!({"type": "subscribe", "filter": {"ids": ["not-an-id"]}}),
        json!({"type": "subscribe", "filter": {"ids": [], "kind": ["a"]}}),
        json!({"type": "seen", "position": 1}),
        json!({"type": "seen", "position": "1"}),
        json!({"type": "seen"}),
        json!(["resync"]),
    ];
    for pair in bad.chunks(2) {
        let mut live = open(&server).await;
        for message in pair {
            live.send(message).await;
            let problem = live.next().await;
            assert_eq!(
                (&problem["type"], &problem["status"]),
                (&json!("problem"), &json!(422)),
                "{message}: {problem}"
            );
        }
    }
    let mut live = open(&server).await;
    live.send_text(r#"{"type":"resync","type":"resync"}"#).await;
    assert_eq!(live.next().await["type"], "problem", "a name given twice is refused");
}

#[tokio::test]
async fn a_binary_frame_is_a_problem_and_the_third_closes_the_socket() {
    let server = Server::start();
    let mut live = open(&server).await;
    for _ in 0..2 {
        live.raw().send(Message::binary(b"{\"type\":\"resync\"}".to_vec())).await.unwrap();
        assert_eq!(live.next().await["type"], "problem");
    }
    live.send(&json!({"type": "resync"})).await;
    assert_eq!(live.next().await["type"], "snapshot", "the socket stays");
    live.raw().send(Message::binary(vec![0])).await.unwrap();
    assert_eq!(live.next().await["type"], "problem");
    assert_eq!(close_code(&mut live).await, 1008);
}

#[tokio::test]
async fn a_message_of_17_kib_closes_the_socket_whole_or_in_fragments() {
    let server = Server::start();
    let long = format!(r#"{{"type":"resync"{}}}"#, " ".repeat(17 * 1024));
    let mut live = open(&server).await;
    live.send_text(&long).await;
    assert_eq!(close_code(&mut live).await, 1009);
    let mut live = open(&server).await;
    let parts: Vec<&[u8]> = long.as_bytes().chunks(6000).collect();
    send_fragments(&mut live, &parts).await;
    assert_eq!(close_code(&mut live).await, 1009);
}

#[tokio::test]
async fn fragments_are_joined_and_a_ping_between_them_is_answered() {
    let server = Server::start();
    let mut live = open(&server).await;
    let first = Frame::message(b"{\"type\":".to_vec(), OpCode::Data(Data::Text), false);
    live.raw().send(Message::Frame(first)).await.unwrap();
    live.raw().send(Message::Ping(b"still there?".to_vec().into())).await.unwrap();
    assert_eq!(live.raw().next().await.unwrap().unwrap(), Message::Pong(b"still there?".to_vec().into()));
    let last = Frame::message(b" \"resync\"}".to_vec(), OpCode::Data(Data::Continue), true);
    live.raw().send(Message::Frame(last)).await.unwrap();
    assert_eq!(live.next().await["type"], "snapshot");
    send_fragments(&mut live, &[b"{\"type\"", b":\"res", b"", b"ync\"}"]).await;
    assert_eq!(live.next().await["type"], "snapshot");
}

#[tokio::test]
async fn a_page_of_another_origin_gets_no_socket() {
    let server = Server::start();
    let url = format!("{}/v1/live", server.url().replacen("http", "ws", 1));
    let connect = async |origin: &str| {
        let mut request = url.as_str().into_client_request().unwrap();
        request.headers_mut().insert("Origin", origin.parse().unwrap());
        tokio_tungstenite::connect_async(request).await
    };
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let Err(Error::Http(refused)) = connect(origin).await else { panic!("{origin} got a socket") };
        assert_eq!(refused.status(), 403, "{origin}");
        let body: Value = serde_json::from_slice(refused.body().as_deref().unwrap_or_default()).unwrap_or_default();
        assert!(body.is_null() || body["code"] == "forbidden_origin", "{body}");
    }
    assert!(connect(&server.url()).await.is_ok(), "our own page gets one");
    server.get("/v1/live").await.assert_problem(400, "not_a_websocket");
}

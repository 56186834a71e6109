//! The messages on the websocket match the document.

use serde_json::{Value, json};

use super::super::support::{LiveSocket, Server};
use super::{description, violations};

#[tokio::test]
async fn the_messages_on_the_websocket_match_the_document() {
    let server = Server::start();
    let document = description(&server).await;
    let schemas = &document["components"]["schemas"];
    let mut seen = std::collections::BTreeSet::new();
    let mut check = |message: &Value| {
        let found = violations(&document, &schemas["LiveServerMessage"], message);
        assert!(found.is_empty(), "{found:#?}\n{message:#}");
        seen.insert(message["type"].as_str().unwrap().to_owned());
    };
    let mut socket = LiveSocket::open(&server).await;
    check(&socket.next().await);
    check(&socket.next().await);
    let messages = [
        json!({"type": "subscribe", "filter": {"kind": "a", "status": ["queued", "running"], "label": "x:y"}}),
        json!({"type": "subscribe", "filter": {"ids": ["0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"]}}),
        json!({"type": "unsubscribe"}),
        json!({"type": "subscribe", "filter": {"kind": ["a"]}}),
        json!({"type": "resync"}),
    ];
    for message in &messages {
        let found = violations(&document, &schemas["LiveClientMessage"], message);
        assert!(found.is_empty(), "{found:#?}\n{message:#}");
        socket.send(message).await;
        if message["type"] != "unsubscribe" {
            check(&socket.next().await);
        }
    }
    server.submit(&json!({"kind": "a"})).await;
    let (mut counters, mut tasks) = (false, false);
    while !(counters && tasks) {
        let message = socket.next().await;
        check(&message);
        counters |= message["type"] == "counters";
        tasks |= message["type"] == "tasks";
    }
    let seen_message = json!({"type": "seen", "position": 1});
    assert!(violations(&document, &schemas["LiveClientMessage"], &seen_message).is_empty());
    let invalid = json!({"type": "subscribe"});
    assert!(!violations(&document, &schemas["LiveClientMessage"], &invalid).is_empty());
    socket.send(&invalid).await;
    check(&socket.next_of_type("problem").await);
    let expected = ["counters", "hello", "problem", "snapshot", "subscribed", "tasks"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

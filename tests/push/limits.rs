//! The limits of how many websockets may be open.

use futures_util::future::join_all;
use serde_json::json;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Error;

use crate::support::{HttpResponse, LiveSocket, Server};

/// The response to a websocket handshake, sent from this address of the machine.
async fn handshake_from(server: &Server, address: &str) -> HttpResponse {
    let client = reqwest::Client::builder().local_address(Some(address.parse().unwrap())).build().unwrap();
    let request = client.get(format!("{}/v1/live", server.url()));
    let request = request.header("connection", "upgrade").header("upgrade", "websocket");
    let request = request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    server.send(request).await
}

/// Opens a socket from this address of the machine.
async fn open_from(server: &Server, address: &str) -> LiveSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let to = server.url().replace("http://", "").parse().unwrap();
    let mut live = LiveSocket::over(socket.connect(to).await.unwrap(), &server.url()).await;
    live.next_of_type("snapshot").await;
    live
}

fn assert_refused(response: &HttpResponse, (status, code): (u16, &str), limit: &str) {
    response.assert_problem(status, code);
    assert_eq!(response.header("retry-after"), "1", "{}", response.text);
    assert_eq!(response.body["retryable"], true);
    assert!(response.body["detail"].as_str().unwrap().contains(limit), "{}", response.text);
}

#[tokio::test]
async fn a_socket_beyond_the_limit_of_the_server_is_refused_with_503_until_another_closes() {
    let server = Server::with(["--max-sockets", "3"]);
    let mut open = join_all((0..3).map(|_| open_from(&server, "127.0.0.1"))).await;
    assert_refused(
        &handshake_from(&server, "127.0.0.1").await,
        (503, "overloaded"),
        "of this server is 3 (max_sockets)",
    );
    assert_eq!(server.get("/v1/counters").await.status, 200);
    open.pop().unwrap().close().await;
    let url = format!("{}/v1/live", server.url().replacen("http", "ws", 1));
    // The server notices the end of a socket a moment after the client.
    while let Err(Error::Http(refused)) = tokio_tungstenite::connect_async(&url).await {
        assert_eq!(refused.status(), 503);
    }
}

#[tokio::test]
async fn a_socket_beyond_the_limit_of_the_subject_is_refused_with_429() {
    let server = Server::with(["--max-sockets-per-subject", "2"]);
    let _open = join_all(["127.0.0.1", "127.0.0.2"].map(|address| open_from(&server, address))).await;
    assert_refused(
        &handshake_from(&server, "127.0.0.3").await,
        (429, "too_many_requests"),
        "of this subject is 2 (max_sockets_per_subject)",
    );
}

#[tokio::test]
async fn a_socket_beyond_the_limit_of_the_address_is_refused_with_429_and_other_addresses_are_not() {
    let server = Server::with(["--max-sockets-per-address", "1"]);
    let mut first = open_from(&server, "127.0.0.1").await;
    assert_refused(
        &handshake_from(&server, "127.0.0.1").await,
        (429, "too_many_requests"),
        "of this address is 1 (max_sockets_per_address)",
    );
    let mut other = open_from(&server, "127.0.0.2").await;
    for live in [&mut first, &mut other] {
        live.send(&json!({"type": "resync"})).await;
        live.next_of_type("snapshot").await;
    }
}

#[tokio::test]
async fn a_request_that_is_no_handshake_counts_as_no_socket() {
    let server = Server::with(["--max-sockets", "1"]);
    for _ in 0..3 {
        server.get("/v1/live").await.assert_problem(400, "not_a_websocket");
    }
    open_from(&server, "127.0.0.1").await;
}

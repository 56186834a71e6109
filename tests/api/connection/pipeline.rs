//! Several requests on a connection, sent before their responses.

use serde_json::json;

use super::super::super::support::Server;
use super::client::Client;

/// A long poll that ends after this many seconds.
fn long_poll(wait_s: f64) -> String {
    let body = json!({"worker": "w", "wait_s": wait_s}).to_string();
    format!(
        "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn create(kind: &str, headers: &str) -> String {
    let body = json!({"kind": kind}).to_string();
    let head = "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    format!("{head}{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn only_the_last_response_says_that_the_connection_closes_and_nothing_is_run_after_it() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    let close = "Connection: close\r\n";
    let all =
        [&long_poll(0.2), GET, &create("a", ""), &create("b", close), &create("c", ""), &create("d", "")].concat();
    client.send(all.as_bytes());
    for (place, status) in [200, 200, 201, 201].into_iter().enumerate() {
        let response = client.response().unwrap_or_else(|| panic!("no response {place}"));
        let closes = response.header("connection") == "close";
        assert_eq!((response.status, closes), (status, place == 3), "response {place}: {response:?}");
    }
    client.assert_closed();
    let tasks = server.get("/v1/tasks").await;
    assert_eq!(tasks.body["total"], 2, "{}", tasks.text);
}

#[tokio::test]
async fn a_response_is_written_for_its_own_request_and_not_for_one_that_came_later() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    let head = "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let old = "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n";
    client.send([&long_poll(0.2), head, GET, old].concat().as_bytes());
    let leases = client.response().expect("the leases");
    assert_eq!((leases.status, &leases.body["leases"]), (200, &json!([])), "{leases:?}");
    let alive = client.response_to_head().expect("a response to HEAD");
    assert_eq!((alive.status, alive.header("content-length")), (200, "14"), "{alive:?}");
    assert_eq!(client.response().expect("a response to GET").body["alive"], true);
    assert_eq!(client.response().expect("a response to HTTP/1.0").body["alive"], true);
    client.assert_closed();
}

#[tokio::test]
async fn requests_are_answered_in_order_however_their_bytes_are_cut() {
    let server = Server::start();
    let chunked = "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\n{\"k\r\n9\r\nind\":\"b\"}\r\n0\r\n\r\n";
    let all =
        [GET, &create("a", ""), chunked, "\r\n", GET, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", GET].concat();
    for length in [1, 2, 3, 7, 64, all.len()] {
        let mut client = Client::connect(&server);
        for part in all.as_bytes().chunks(length) {
            client.send(part);
        }
        let statuses: Vec<u16> = (0..6).map(|_| client.response().expect("a response").status).collect();
        assert_eq!(statuses, [200, 201, 201, 200, 404, 200], "in parts of {length} bytes");
    }
}

#[tokio::test]
async fn what_follows_a_refused_request_is_not_run() {
    let server = Server::start();
    for refused in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n",
    ] {
        let mut client = Client::connect(&server);
        client.send([refused, &create("never", "")].concat().as_bytes());
        let response = client.response().expect("a response");
        assert!(matches!(response.status, 400 | 413 | 415), "{response:?}");
        assert_eq!(response.header("connection"), "close", "{response:?}");
        drop(client);
    }
    assert_eq!(server.get("/v1/tasks").await.body["total"], 0);
}

//! What a client holds open ends with its credential: sockets, requests that wait, followed logs.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use taskbell::store::now;

use super::super::credentials::{ApiToken, session};
use super::super::support::{HttpResponse, LiveSocket, Server, TEST_TIMEOUT};
use super::event_types;

/// The code and the reason with which the server closes the socket.
async fn closing(live: &mut LiveSocket) -> (u16, String) {
    loop {
        if let Err(close) = live.next_or_close().await {
            let close = close.expect("a close frame");
            return (close.code.into(), close.reason.to_string());
        }
    }
}

fn ended() -> (u16, String) {
    (1008, "the credential has ended".to_owned())
}

#[tokio::test]
async fn a_socket_is_closed_when_its_token_is_revoked_and_other_sockets_stay() {
    let server = Server::start();
    let (anna, bea) = (server.token_of("user").await, server.token_of("user").await);
    let mut of_anna = LiveSocket::connect_as(&server.url(), &anna.text).await;
    let mut of_bea = LiveSocket::connect_as(&server.url(), &bea.text).await;
    let mut local = LiveSocket::open(&server).await;
    for live in [&mut of_anna, &mut of_bea, &mut local] {
        live.next_of_type("snapshot").await;
    }
    assert_eq!(server.revoke_token(&anna.id).await.status, 204);
    assert_eq!(closing(&mut of_anna).await, ended());
    for live in [&mut of_bea, &mut local] {
        live.send(&json!({"type": "resync"})).await;
        live.next_of_type("snapshot").await;
    }
}

#[tokio::test]
async fn a_socket_is_closed_when_its_token_expires() {
    let server = Server::start();
    let token = server.create_token(&json!({"subject": "anna", "role": "user", "expires_in_s": 2})).await;
    let mut live = LiveSocket::connect_as(&server.url(), &token.text).await;
    live.next_of_type("snapshot").await;
    assert_eq!(closing(&mut live).await, ended());
    server.get_as(&token.text, "/v1/tasks").await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_session_ends_with_the_token_that_opened_it() {
    let mut server = Server::start();
    let (token, other) = (server.token_of("user").await, server.token_of("user").await);
    let in_an_hour = now().plus(Duration::from_hours(1));
    let (stream, event, text) = session(Some(&token.id), in_an_hour);
    server.append_while_stopped(stream, event).await;
    let (stream, event, of_other) = session(Some(&other.id), in_an_hour);
    server.append_while_stopped(stream, event).await;
    let mut live = LiveSocket::connect_as(&server.url(), &text).await;
    live.next_of_type("snapshot").await;
    assert_eq!(server.get_as(&text, "/v1/tasks").await.status, 200);
    assert_eq!(server.revoke_token(&token.id).await.status, 204);
    assert_eq!(closing(&mut live).await, ended());
    server.get_as(&text, "/v1/tasks").await.assert_problem(401, "unauthenticated");
    assert_eq!(server.get_as(&of_other, "/v1/tasks").await.status, 200);
}

#[tokio::test]
async fn a_session_that_expires_closes_its_socket() {
    let mut server = Server::start();
    let (stream, event, text) = session(None, now().plus(Duration::from_secs(4)));
    server.append_while_stopped(stream, event).await;
    let mut live = LiveSocket::connect_as(&server.url(), &text).await;
    live.next_of_type("snapshot").await;
    assert_eq!(closing(&mut live).await, ended());
}

/// A server on which one request of this machine may wait. So another one that would wait shows that one waits.
fn server_with_one_long_poll() -> Server {
    Server::with(["--max-long-polls-per-address", "1"])
}

async fn until_one_waits(server: &Server) {
    let probe = json!({"worker": "probe", "kinds": ["none"], "wait_s": 0.05});
    let waits = async { while server.post("/v1/leases", &probe).await.status != 429 {} };
    tokio::time::timeout(TEST_TIMEOUT, waits).await.expect("a request that waits");
}

/// Sends the request again while it is refused because the probe waits.
async fn send_until_it_waits(server: &Server, token: &ApiToken, path: &str, body: Option<&Value>) -> HttpResponse {
    loop {
        let answer = match body {
            Some(body) => server.post_as(&token.text, path, body).await,
            None => server.get_as(&token.text, path).await,
        };
        if answer.status != 429 {
            return answer;
        }
    }
}

/// Revokes the token while this request waits. Returns the answer to the request.
async fn revoked_while_waiting(server: &Server, token: &ApiToken, path: &str, body: Option<&Value>) -> HttpResponse {
    let revoke = async {
        until_one_waits(server).await;
        assert_eq!(server.revoke_token(&token.id).await.status, 204);
    };
    tokio::join!(send_until_it_waits(server, token, path, body), revoke).0
}

#[tokio::test]
async fn a_take_that_waits_is_refused_when_its_token_is_revoked_and_takes_nothing_later() {
    let server = server_with_one_long_poll();
    let token = server.token_of("worker").await;
    let take = json!({"worker": "w", "kinds": ["a"], "wait_s": 30});
    let refused = revoked_while_waiting(&server, &token, "/v1/leases", Some(&take)).await;
    refused.assert_problem(401, "unauthenticated");
    let id = server.submit(&json!({"kind": "a"})).await;
    let local = server.post("/v1/leases", &json!({"worker": "here", "kinds": ["a"], "wait_s": 30})).await;
    assert_eq!(local.body["leases"][0]["task_id"], json!(id), "{}", local.text);
    assert_eq!(event_types(&server, &id).await, ["Created", "Started"]);
}

#[tokio::test]
async fn a_task_that_is_granted_as_the_token_ends_goes_back_to_the_queue() {
    let server = Server::start();
    for _ in 0..8 {
        let token = server.token_of("worker").await;
        let take = json!({"worker": "w", "kinds": ["a"], "wait_s": 30});
        let new = json!({"kind": "a", "max_attempts": 1});
        let (answer, id, revoked) = tokio::join!(
            server.post_as(&token.text, "/v1/leases", &take),
            server.submit(&new),
            server.revoke_token(&token.id),
        );
        assert_eq!(revoked.status, 204);
        let lease = if answer.status == 200 {
            answer.body["leases"][0].clone()
        } else {
            answer.assert_problem(401, "unauthenticated");
            let here = json!({"worker": "here", "kinds": ["a"], "wait_s": 30});
            server.post("/v1/leases", &here).await.body["leases"][0].clone()
        };
        assert_eq!(lease["task_id"], json!(id), "{}", answer.text);
        let finish = json!({"items": [{"lease": lease["lease"], "outcome": "succeeded"}]});
        let finished = server.post("/v1/leases/finish", &finish).await;
        assert_eq!(finished.body["items"][0]["status"], "succeeded", "{}", finished.text);
    }
}

#[tokio::test]
async fn a_heartbeat_that_waits_is_refused_when_its_token_is_revoked() {
    let server = server_with_one_long_poll();
    let token = server.token_of("worker").await;
    server.submit(&json!({"kind": "a"})).await;
    let take = json!({"worker": "w", "kinds": ["a"], "wait_s": 0});
    let lease = server.post_as(&token.text, "/v1/leases", &take).await.body["leases"][0]["lease"].clone();
    let beat = json!({"worker": "w", "leases": [{"lease": lease}], "wait_s": 30});
    let refused = revoked_while_waiting(&server, &token, "/v1/leases/heartbeat", Some(&beat)).await;
    refused.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_read_that_waits_for_a_position_is_refused_when_its_token_is_revoked() {
    let server = server_with_one_long_poll();
    for path in ["/v1/tasks", "/v1/counters"] {
        let token = server.token_of("user").await;
        let path = format!("{path}?min_position=9999");
        let refused = revoked_while_waiting(&server, &token, &path, None).await;
        refused.assert_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_take_that_waits_is_refused_when_its_token_expires() {
    let server = Server::start();
    let token = server.create_token(&json!({"subject": "w", "role": "worker", "expires_in_s": 2})).await;
    let take = json!({"worker": "w", "kinds": ["a"], "wait_s": 30});
    server.post_as(&token.text, "/v1/leases", &take).await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_followed_log_ends_with_its_token() {
    let server = Server::start();
    let token = server.token_of("admin").await;
    let request = server.client().get(server.url() + "/v1/log?follow=true").bearer_auth(&token.text);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.bytes_stream();
    let first = tokio::time::timeout(TEST_TIMEOUT, body.next()).await.expect("a line in time");
    assert!(std::str::from_utf8(&first.unwrap().unwrap()).unwrap().contains("TokenCreated"));
    assert_eq!(server.revoke_token(&token.id).await.status, 204);
    let rest = async {
        let mut rest = Vec::new();
        while let Some(chunk) = body.next().await {
            rest.extend_from_slice(&chunk.expect("the response ends in order"));
        }
        String::from_utf8(rest).unwrap()
    };
    let rest = tokio::time::timeout(TEST_TIMEOUT, rest).await.expect("the response ends");
    assert!(rest.lines().count() <= 1, "at most the revocation itself: {rest}");
    server.get_as(&token.text, "/v1/log").await.assert_problem(401, "unauthenticated");
}

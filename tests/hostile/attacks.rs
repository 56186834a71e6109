//! The attacks. Each is a function, so that one test can run all of them for a moment.

use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::super::support::client_hello;
use super::clients::{Connection, full_batch, hostile_json, huge_filters, post_request, text_frame, websocket_floods};
use super::*;

const NO_FLAGS: [&str; 0] = [];

async fn large_batches(attack: Attack) {
    let mut server = Server::with_access(attack.access, ["--max-tasks-per-owner", "20000"]);
    let batch = full_batch();
    attack
        .withstand(&mut server, "large batches", sized(8, 64), |server, _, _| {
            let _ =
                Connection::open(server).and_then(|mut client| client.post("/v1/tasks/batch", &batch, READY_WITHIN));
        })
        .await;
}

async fn deep_json(attack: Attack) {
    let mut server = Server::with_access(attack.access, ["--max-tasks-per-owner", "20000"]);
    let bodies = hostile_json();
    attack
        .withstand(&mut server, "hostile JSON", sized(8, 32), |server, client, is_over| {
            for (path, body) in bodies.iter().cycle().skip(client).take(bodies.len()) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = Connection::open(server).and_then(|mut client| client.post(path, body, READY_WITHIN));
            }
        })
        .await;
}

async fn frame_floods(attack: Attack) {
    let mut server = Server::with_access(attack.access, NO_FLAGS);
    let floods = websocket_floods();
    attack
        .withstand(&mut server, "websocket floods", sized(20, 100), |server, client, is_over| {
            let Ok(mut socket) = Connection::open_websocket(server) else { return };
            while !is_over.load(Ordering::Relaxed) && socket.send(&floods[client % floods.len()]).is_ok() {}
        })
        .await;
}

async fn silent_sockets(attack: Attack) {
    let mut server = Server::with_access(attack.access, NO_FLAGS);
    let each = sized(20, 100);
    attack
        .withstand(&mut server, "sockets that never read", 10, |server, _, is_over| {
            let subscribe = text_frame(br#"{"type":"subscribe","filter":{"owner":"healthy"}}"#);
            let mut sockets: Vec<Connection> = Vec::new();
            for _ in (0..each).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                sockets.extend(Connection::open_websocket(server));
            }
            while !is_over.load(Ordering::Relaxed) {
                sockets.retain_mut(|socket| socket.send(&subscribe).is_ok());
                let mut client = Connection::open(server);
                let _ = client.as_mut().map(|client| client.get("/v1/tasks?owner=healthy", READY_WITHIN));
            }
        })
        .await;
}

async fn slow_requests(attack: Attack) {
    let mut server = Server::with_access(attack.access, NO_FLAGS);
    let each = sized(30, 300);
    attack
        .withstand(&mut server, "slow headers and bodies", 10, |server, client, is_over| {
            let begin = if client % 2 == 0 { "GET /v1/tasks HTTP/1.1\r\nX-Slow: " } else {
                "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
            };
            let open = || {
                let mut client = Connection::open(server).ok()?;
                client.send_request(begin).is_ok().then_some(client)
            };
            let mut slow: Vec<Connection> = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let more = (slow.len()..each).take_while(|_| !is_over.load(Ordering::Relaxed)).filter_map(|_| open());
                slow.extend(more.collect::<Vec<_>>());
                slow.retain_mut(|client| client.send(b"a").is_ok());
                // The pause is a request of its own, so that the bytes trickle.
                let _ = Connection::open(server).and_then(|mut client| client.get("/healthz", READY_WITHIN));
            }
        })
        .await;
}

async fn slow_handshakes(attack: Attack) {
    let mut server = Server::with_access(attack.access, NO_FLAGS);
    let (each, hello) = (sized(30, 300), client_hello());
    attack
        .withstand(&mut server, "slow handshakes", 10, |server, _, is_over| {
            use std::io::Write as _;
            let open = || {
                let mut socket = TcpStream::connect(server.address()).ok()?;
                socket.write_all(&hello[..hello.len() / 2]).is_ok().then_some((socket, hello.len() / 2))
            };
            let mut slow: Vec<(TcpStream, usize)> = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                slow.extend((slow.len()..each).filter_map(|_| open()));
                slow.retain_mut(|(socket, sent)| {
                    // The last byte never comes.
                    let next = (*sent + 1).min(hello.len() - 1);
                    let is_open = socket.write_all(&hello[*sent..next]).is_ok();
                    *sent = next;
                    is_open && next < hello.len() - 1
                });
                let _ = Connection::open(server).and_then(|mut client| client.get("/healthz", READY_WITHIN));
            }
        })
        .await;
}

/// Wrong tokens, which the server counts by address.
async fn wrong_tokens(attack: Attack) {
    let mut server = Server::with_access(attack.access, ["--max-failed-authentications-per-s", "20"]);
    let names = ["tb", "tbs", "x"];
    attack
        .withstand(&mut server, "wrong tokens", sized(8, 32), |server, client, _| {
            let token = format!("{}_{client:032x}_{client:064x}", names[client % names.len()]);
            let opened = Connection::open_with(server, format!("Authorization: Bearer {token}\r\n"));
            let _ = opened.and_then(|mut client| client.get("/v1/tasks", READY_WITHIN));
        })
        .await;
}

async fn long_polls(attack: Attack) {
    let mut server = Server::with_access(attack.access, ["--max-long-polls", "500"]);
    let each = sized(100, 300);
    let take = json!({"worker": "w", "kinds": ["none"], "wait_s": 30}).to_string();
    attack
        .withstand(&mut server, "long polls", 10, |server, _, is_over| {
            let request = post_request("/v1/leases", &take);
            let open = || {
                let mut client = Connection::open(server).ok()?;
                client.send_request(&request).is_ok().then_some(client)
            };
            let mut polls: Vec<Connection> = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let more = (polls.len()..each).take_while(|_| !is_over.load(Ordering::Relaxed)).filter_map(|_| open());
                polls.extend(more.collect::<Vec<_>>());
                polls.retain_mut(|client| !client.has_answer());
                let _ = Connection::open(server).and_then(|mut client| client.get("/healthz", READY_WITHIN));
            }
        })
        .await;
}

async fn silent_followers(attack: Attack) {
    let mut server = Server::with_access(attack.access, NO_FLAGS);
    fill(&server, 400, 60_000).await;
    let each = sized(10, 50);
    attack
        .withstand(&mut server, "followers that never read", 10, |server, client, is_over| {
            let path = if client % 2 == 0 { "/v1/log?follow=true" } else { "/v1/log" };
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let open = || {
                let mut client = Connection::open(server).ok()?;
                client.send_request(&request).is_ok().then_some(client)
            };
            let followers: Vec<Connection> =
                (0..each).take_while(|_| !is_over.load(Ordering::Relaxed)).filter_map(|_| open()).collect();
            while !is_over.load(Ordering::Relaxed) {
                let _ = Connection::open(server).and_then(|mut client| client.get("/healthz", READY_WITHIN));
            }
            drop(followers);
        })
        .await;
}

async fn large_filters(attack: Attack) {
    let mut server = Server::with_access(attack.access, NO_FLAGS);
    let requests = huge_filters();
    attack
        .withstand(&mut server, "huge filters", sized(8, 32), |server, client, is_over| {
            for request in requests.iter().cycle().skip(client).take(requests.len()) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = Connection::open(server).and_then(|mut client| client.exchange(request, READY_WITHIN));
            }
        })
        .await;
}

async fn searches(attack: Attack, tasks: usize) {
    let mut server = Server::with_access(attack.access, NO_FLAGS);
    fill(&server, tasks, 10).await;
    attack
        .withstand(&mut server, "searches", sized(30, 100), |server, client, _| {
            let words = (0..60).map(|n| format!("k{n}")).collect::<Vec<_>>().join("+");
            let path = if client % 2 == 0 {
                format!("/v1/tasks?owner=many&q={words}")
            } else {
                "/v1/tasks?q=task&limit=200".into()
            };
            let _ = Connection::open(server).and_then(|mut client| client.get(&path, READY_WITHIN));
        })
        .await;
}

#[tokio::test]
async fn a_small_server_withstands_large_batches_at_once() {
    large_batches(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_deep_repeated_and_countless_values_in_json() {
    deep_json(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_floods_of_websocket_frames() {
    frame_floods(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_sockets_that_never_read() {
    silent_sockets(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_slow_headers_and_slow_bodies() {
    slow_requests(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_slow_handshakes() {
    slow_handshakes(Attack::on_secured()).await;
}

#[tokio::test]
async fn a_small_server_withstands_wrong_tokens() {
    wrong_tokens(Attack::on_secured()).await;
}

#[tokio::test]
async fn a_small_server_withstands_many_long_polls() {
    long_polls(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_followers_of_the_log_that_never_read() {
    silent_followers(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_huge_filters() {
    large_filters(Attack::usual()).await;
}

#[tokio::test]
async fn a_small_server_withstands_searches_through_many_tasks() {
    searches(Attack::usual(), sized(15_000, 100_000)).await;
}

#[tokio::test]
async fn a_small_server_with_tls_and_authentication_withstands_a_moment_of_each_attack() {
    large_batches(Attack::sample()).await;
    deep_json(Attack::sample()).await;
    frame_floods(Attack::sample()).await;
    silent_sockets(Attack::sample()).await;
    slow_requests(Attack::sample()).await;
    long_polls(Attack::sample()).await;
    silent_followers(Attack::sample()).await;
    large_filters(Attack::sample()).await;
    searches(Attack::sample(), 2_000).await;
}

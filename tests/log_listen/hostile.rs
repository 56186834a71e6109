//! Hostile clients of the log port: many connections, clients that send nothing or half of something, and floods.

use std::fs;
use std::time::Duration;

use eventstore::ReadAllOptions;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::raw::{
    GOAWAY, GOSSIP, PREFACE, READ, REFUSED_STREAM, RST_STREAM, RawClient, greeting, half_message, headers,
    is_closed_within, request, unfinished_headers,
};
use super::{LOG, admin, client, client_of, log_address, log_url, server_with_tokens};
use crate::support::{Server, TEST_TIMEOUT};
use crate::tls::flags;

/// Longer than each deadline of a server with a short `--header-timeout-s`, and shorter than the time after which the server
/// misses the answer to a ping.
const CUT_WITHIN: Duration = Duration::from_secs(12);
/// No deadline ends a connection before the end of the test.
const NO_DEADLINE: [&str; 2] = ["--header-timeout-s", "3600"];

async fn reads_one_event(server: &Server) {
    let client = client(&log_url(server));
    let mut all = client.read_all(&ReadAllOptions::default()).await.unwrap();
    let first = tokio::time::timeout(TEST_TIMEOUT, all.next()).await.expect("an event in time").unwrap();
    assert!(first.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_over_the_limit_is_closed_at_once_and_a_line_says_so() {
    // A server with so few open files accepts 8 connections for the log, and 4 of one address.
    let server = Server::in_shell("ulimit -n 256", LOG.into_iter().chain(NO_DEADLINE));
    server.submit(&json!({"kind": "report"})).await;
    let address = log_address(&server);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(RawClient::greet(&address).await.expect("a place"));
    }
    for _ in 0..40 {
        assert!(RawClient::greet(&address).await.is_none(), "a fifth connection");
    }
    let lines = |text: &str| server.stderr().lines().filter(|line| line.contains(text)).count();
    let refused = lines("the limit on connections of this address is 4");
    assert!((1..20).contains(&refused), "{refused} lines for 40 refusals\n{}", server.stderr());
    // The place is free as soon as the server has seen the end of the connection.
    held.pop();
    while RawClient::greet(&address).await.is_none() {}
    held.clear();
    reads_one_event(&server).await;
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_cut_within_the_header_timeout() {
    let server = Server::with(LOG.into_iter().chain(["--header-timeout-s", "0.5"]));
    let address = log_address(&server);
    let cases = [
        ("nothing", vec![]),
        ("half of the preface", PREFACE[..12].to_vec()),
        ("the preface", PREFACE.to_vec()),
        ("the greeting", greeting()),
        ("half of a frame", [greeting(), headers(1, READ, None)[..20].to_vec()].concat()),
        ("headers without an end", [greeting(), unfinished_headers(1)].concat()),
        ("a method that isn't there", [greeting(), request(1, "/nowhere.Nothing/Read", None)].concat()),
    ];
    let mut clients = Vec::new();
    for (what, sent) in &cases {
        let mut client = RawClient::connect(&address).await;
        client.send(sent).await;
        clients.push((what, client));
    }
    for (what, client) in clients {
        assert!(is_closed_within(CUT_WITHIN, client.0).await, "a client that sends {what} is still there");
    }
}

#[tokio::test]
async fn a_tls_handshake_of_the_log_must_end_within_the_header_timeout() {
    let args = LOG.into_iter().chain(["--header-timeout-s", "0.5"]).map(Into::into);
    let server = Server::with(flags("first").into_iter().chain(args));
    let address = log_address(&server);
    let begun = std::time::Instant::now();
    for sent in [&b""[..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]] {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(sent).await.unwrap();
        assert!(is_closed_within(CUT_WITHIN, socket).await, "{sent:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "the default is 5 s: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_an_authenticated_request_is_cut_and_one_with_a_subscription_stays() {
    let (server, tokens) = server_with_tokens(&["--header-timeout-s", "0.5"]);
    server.post_as(&tokens.admin, "/v1/tasks", &json!({"kind": "report", "title": "one"})).await;
    let mut titles = super::follow(admin(&server, &tokens));
    assert_eq!(titles.next().await.as_deref(), Some("one"));
    let wrong = "Basic YXVkaXRvcjp0Yl8w";
    for (what, path, authorization) in [
        ("without a password", GOSSIP, None),
        ("with a wrong password", READ, Some(wrong)),
        ("that needs no password", GOSSIP, Some(wrong)),
    ] {
        let mut client = RawClient::greet(&log_address(&server)).await.expect("a place");
        client.send(&request(1, path, authorization)).await;
        assert!(is_closed_within(CUT_WITHIN, client.0).await, "after a request {what} it is still there");
    }
    server.post_as(&tokens.admin, "/v1/tasks", &json!({"kind": "report", "title": "two"})).await;
    assert_eq!(titles.next().await.as_deref(), Some("two"), "the subscription is older than each deadline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_message_doesnt_come_ends() {
    let server = Server::with(LOG.into_iter().chain(["--header-timeout-s", "0.5"]));
    let mut client = RawClient::greet(&log_address(&server)).await.expect("a place");
    client.send(&[headers(1, READ, None), half_message(1, 100)].concat()).await;
    // The server ends the response, and then the request. The connection stays.
    while let Some(frame) = client.next().await {
        if frame.kind == RST_STREAM {
            client.settle().await;
            return;
        }
    }
    panic!("the connection has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_4096_streams_is_refused_and_others_are_served() {
    let server = Server::with(LOG.into_iter().chain(NO_DEADLINE));
    server.submit(&json!({"kind": "report"})).await;
    let client = RawClient::greet(&log_address(&server)).await.expect("a place");
    let flood: Vec<u8> = (0..4096).flat_map(|number| headers(2 * number + 1, READ, None)).collect();
    let (mut reading, mut writing) = client.0.into_split();
    let writer = tokio::spawn(async move { writing.write_all(&flood).await.map(|()| writing) });
    let (mut refused, mut is_cut) = (0, false);
    // The limit is 100 streams. A server may also end the whole connection.
    while refused < 4096 - 100 && !is_cut {
        let Some(frame) = super::raw::next_of(&mut reading).await else { break };
        refused += usize::from(frame.kind == RST_STREAM && frame.number() == REFUSED_STREAM);
        is_cut = frame.kind == GOAWAY;
    }
    assert!(is_cut || refused == 4096 - 100, "{refused} streams are refused");
    reads_one_event(&server).await;
    writer.abort();
}

/// The memory of the process now, in MiB.
fn memory_mib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

/// The bytes of a message that never ends.
const HALF: usize = 15 * 1024;
/// The bytes of messages that a client of HTTP/2 may send before the server has said anything.
const FIRST_WINDOW: usize = 65_535;

/// Sends 99 requests without the ends of their messages, or as many as the server lets a client of HTTP/2 send.
async fn send_half_requests(client: &mut RawClient) {
    let mut window = FIRST_WINDOW;
    for stream in (0..99).map(|number| 2 * number + 1) {
        if window < HALF + 5 {
            match client.settle().await {
                Some(granted) if window + granted >= HALF + 5 => window += granted,
                Some(_) | None => return,
            }
        }
        client.send(&[headers(stream, READ, None), half_message(stream, HALF)].concat()).await;
        window -= HALF + 5;
    }
    client.settle().await;
}

/// As many of 200 clients as the server accepts, after they have sent half requests.
async fn half_requests_of_200_clients(server: &Server) -> Vec<RawClient> {
    let mut clients = Vec::new();
    for _ in 0..200 {
        if let Some(mut client) = RawClient::greet(&log_address(server)).await {
            send_half_requests(&mut client).await;
            clients.push(client);
        }
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_send_half_requests_take_a_bounded_memory() {
    let (authenticated, tokens) = server_with_tokens(&NO_DEADLINE);
    let open = Server::with(LOG.into_iter().chain(NO_DEADLINE));
    open.submit(&json!({"kind": "report"})).await;
    // Without authentication the server keeps 100 half requests of each of 128 clients, which are programs of this machine:
    // 12 KiB for a request.
    for (what, server, most) in [("with", &authenticated, 40), ("without", &open, 160)] {
        let before = memory_mib(server);
        let clients = half_requests_of_200_clients(server).await;
        let grown = memory_mib(server).saturating_sub(before);
        println!("a server {what} authentication: {grown} MiB for {} clients of 200", clients.len());
        assert!(grown <= most, "a server {what} authentication has taken {grown} MiB");
        drop(clients);
    }
    client_of(&authenticated, "adam", &tokens.admin).read_all(&ReadAllOptions::default()).await.unwrap();
    reads_one_event(&open).await;
}

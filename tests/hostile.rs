//! Hostile clients against a server whose memory is limited to 256 MiB. The server lives, is ready throughout, and loses no
//! task whose creation it has acknowledged.
//!
//! Each attack lasts some seconds. With `TASKBELL_FULL=1` it lasts a minute, with more clients.

mod clients;
mod memory;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::support::Server;
use clients::{Connection, full_batch, hostile_json, huge_filters, websocket_floods};
use memory::MemoryLimit;

/// The memory of the server, in MiB.
const MEMORY_MIB: u64 = 256;
/// One attack at a time, because each of them may take all processors.
static TURN: Mutex<()> = Mutex::const_new(());
/// The server answers `/readyz` within this time, whatever happens. It only bounds a test that would fail anyway.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Whether the attacks have their full size.
fn is_full() -> bool {
    std::env::var_os("TASKBELL_FULL").is_some()
}

/// `full` with `TASKBELL_FULL=1`, otherwise `small`.
fn sized(small: usize, full: usize) -> usize {
    if is_full() { full } else { small }
}

/// How long an attack lasts.
fn duration() -> Duration {
    Duration::from_secs(if is_full() { 60 } else { 4 })
}

/// What the healthy client has seen during an attack.
#[derive(Debug, Default)]
struct Healthy {
    /// The tasks whose creation was acknowledged.
    acknowledged: HashSet<String>,
    /// How many creations were refused with a retryable problem.
    refused: usize,
    /// The longest time of an answer from `/readyz`.
    slowest: Duration,
}

/// Runs `attack` on `clients` threads beside a healthy client, and asserts that the server withstands it. An attack is called
/// again and again until the time is over.
async fn withstand(
    server: &mut Server,
    name: &str,
    clients: usize,
    attack: impl Fn(&Server, usize, &AtomicBool) + Sync,
) {
    let _turn = TURN.lock().await;
    let limit = MemoryLimit::of(server.pid(), MEMORY_MIB);
    let before = memory::peak_mib(server.pid());
    let is_over = AtomicBool::new(false);
    let (attacked, over): (&Server, &AtomicBool) = (server, &is_over);
    let healthy = std::thread::scope(|scope| {
        for client in 0..clients {
            let attack = &attack;
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, move || {
                    while !over.load(Ordering::Relaxed) {
                        attack(attacked, client, over);
                    }
                })
                .expect("a thread");
        }
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch(attacked)));
        is_over.store(true, Ordering::Relaxed);
        watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let peak = memory::peak_mib(server.pid());
    println!(
        "{name}: {before} -> {peak} MiB{}, {} tasks acknowledged, {} refused, /readyz {:?} at most",
        if limit.is_some() { " in a limit" } else { "; no limit can be set on this machine" },
        healthy.acknowledged.len(),
        healthy.refused,
        healthy.slowest,
    );
    assert!(peak <= MEMORY_MIB, "{name}: the server had {peak} MiB");
    assert!(!healthy.acknowledged.is_empty(), "{name}: the healthy client was starved");
    server.restart();
    drop(limit);
    let kept = healthy_tasks(server).await;
    let lost: Vec<_> = healthy.acknowledged.difference(&kept).collect();
    assert!(lost.is_empty(), "{name}: {} of {} acknowledged tasks are lost", lost.len(), healthy.acknowledged.len());
}

/// The healthy client: creates tasks and asks whether the server is ready, until the attack is over.
fn watch(server: &Server) -> Healthy {
    let (mut healthy, end) = (Healthy::default(), Instant::now() + duration());
    while Instant::now() < end {
        let begun = Instant::now();
        let ready = Connection::open(server).and_then(|mut client| client.get("/readyz", READY_WITHIN));
        let elapsed = begun.elapsed();
        let Ok((status, body)) = ready else { panic!("/readyz: {ready:?} after {elapsed:?}\n{}", server.stderr()) };
        assert_eq!(status, 200, "/readyz: {body}");
        healthy.slowest = healthy.slowest.max(elapsed);
        let task = json!({"kind": "healthy", "owner": "healthy"});
        let created =
            Connection::open(server).and_then(|mut client| client.post("/v1/tasks", &task.to_string(), READY_WITHIN));
        match created {
            Ok((201, body)) => {
                let task: Value = serde_json::from_str(&body).expect("a task");
                healthy.acknowledged.insert(task["id"].as_str().expect("its id").to_owned());
            }
            Ok((429 | 503, body)) => {
                assert!(body.contains("\"retryable\":true"), "{body}");
                healthy.refused += 1;
            }
            other => panic!("a create: {other:?}"),
        }
    }
    healthy
}

/// The ids of all tasks of the healthy client.
async fn healthy_tasks(server: &Server) -> HashSet<String> {
    let (mut ids, mut cursor) = (HashSet::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/tasks?owner=healthy&limit=200{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let items = page.body["items"].as_array().expect("items");
        ids.extend(items.iter().map(|task| task["id"].as_str().expect("an id").to_owned()));
        match page.body["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

/// Fills the log with `count` tasks of another owner, each with an input of this many bytes.
async fn fill(server: &Server, count: usize, input_bytes: usize) {
    let per_batch = (8 * 1024 * 1024 / (input_bytes + 200)).clamp(1, 1000);
    for from in (0..count).step_by(per_batch) {
        let item =
            |n| json!({"kind": "a", "owner": "many", "title": format!("task {n}"), "input": "x".repeat(input_bytes)});
        let items: Vec<Value> = (from..count.min(from + per_batch)).map(item).collect();
        let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_small_server_withstands_large_batches_at_once() {
    let mut server = Server::with(["--max-tasks-per-owner", "20000"]);
    let batch = full_batch();
    withstand(&mut server, "large batches", sized(8, 64), |server, _, _| {
        let _ = Connection::open(server).and_then(|mut client| client.post("/v1/tasks/batch", &batch, READY_WITHIN));
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_deep_repeated_and_countless_values_in_json() {
    let mut server = Server::with(["--max-tasks-per-owner", "20000"]);
    let bodies = hostile_json();
    withstand(&mut server, "hostile JSON", sized(8, 32), |server, client, _| {
        for (path, body) in bodies.iter().cycle().skip(client).take(bodies.len()) {
            let _ = Connection::open(server).and_then(|mut client| client.post(path, body, READY_WITHIN));
        }
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_floods_of_websocket_frames() {
    let mut server = Server::start();
    let floods = websocket_floods();
    withstand(&mut server, "websocket floods", sized(20, 100), |server, client, is_over| {
        let Ok(socket) = Connection::open_websocket(server) else { return };
        while !is_over.load(Ordering::Relaxed) && socket.send(&floods[client % floods.len()]).is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_sockets_that_never_read() {
    let mut server = Server::start();
    let each = sized(20, 100);
    withstand(&mut server, "sockets that never read", 10, |server, _, is_over| {
        let subscribe = clients::text_frame(br#"{"type":"subscribe","filter":{"owner":"healthy"}}"#);
        let mut sockets: Vec<Connection> = (0..each).filter_map(|_| Connection::open_websocket(server).ok()).collect();
        while !is_over.load(Ordering::Relaxed) {
            sockets.retain_mut(|socket| socket.send(&subscribe).is_ok());
            let mut client = Connection::open(server);
            let _ = client.as_mut().map(|client| client.get("/v1/tasks?owner=healthy", READY_WITHIN));
        }
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_slow_headers_and_slow_bodies() {
    let mut server = Server::start();
    let each = sized(30, 300);
    withstand(&mut server, "slow headers and bodies", 10, |server, client, is_over| {
        let begin = if client % 2 == 0 { "GET /v1/tasks HTTP/1.1\r\nX-Slow: " } else {
            "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        };
        let open = || Connection::open(server).ok().filter(|client| client.send(begin.as_bytes()).is_ok());
        let mut slow: Vec<Connection> = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            slow.extend((slow.len()..each).filter_map(|_| open()));
            slow.retain(|client| client.send(b"a").is_ok());
            // The pause is a request of its own, so that the bytes trickle.
            let _ = Connection::open(server).and_then(|mut client| client.get("/healthz", READY_WITHIN));
        }
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_many_long_polls() {
    let mut server = Server::with(["--max-long-polls", "500"]);
    let each = sized(100, 300);
    let take = json!({"worker": "w", "kinds": ["none"], "wait_s": 30}).to_string();
    withstand(&mut server, "long polls", 10, |server, _, is_over| {
        let request = clients::post_request("/v1/leases", &take);
        let open = || Connection::open(server).ok().filter(|client| client.send(request.as_bytes()).is_ok());
        let mut polls: Vec<Connection> = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            polls.extend((polls.len()..each).filter_map(|_| open()));
            polls.retain(|client| !client.has_answer());
            let _ = Connection::open(server).and_then(|mut client| client.get("/healthz", READY_WITHIN));
        }
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_followers_of_the_log_that_never_read() {
    let mut server = Server::start();
    fill(&server, 400, 60_000).await;
    let each = sized(10, 50);
    withstand(&mut server, "followers that never read", 10, |server, client, is_over| {
        let path = if client % 2 == 0 { "/v1/log?follow=true" } else { "/v1/log" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let open = || Connection::open(server).ok().filter(|client| client.send(request.as_bytes()).is_ok());
        let followers: Vec<Connection> = (0..each).filter_map(|_| open()).collect();
        while !is_over.load(Ordering::Relaxed) {
            let _ = Connection::open(server).and_then(|mut client| client.get("/healthz", READY_WITHIN));
        }
        drop(followers);
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_huge_filters() {
    let mut server = Server::start();
    let requests = huge_filters();
    withstand(&mut server, "huge filters", sized(8, 32), |server, client, _| {
        for request in requests.iter().cycle().skip(client).take(requests.len()) {
            let _ = Connection::open(server).and_then(|mut client| client.exchange(request, READY_WITHIN));
        }
    })
    .await;
}

#[tokio::test]
async fn a_small_server_withstands_searches_through_many_tasks() {
    let mut server = Server::start();
    fill(&server, sized(15_000, 100_000), 10).await;
    withstand(&mut server, "searches", sized(30, 100), |server, client, _| {
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

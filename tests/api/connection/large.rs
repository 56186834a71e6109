//! Large bodies: those in flight have a budget of bytes, and other requests are served beside them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::super::support::{HttpResponse, Server};
use super::client::Client;

const LARGE: usize = 14 * 1024 * 1024;
const HEAD: &str = "Content-Type: application/json\r\n";

/// Announces a large batch; the first response is 100 where the server takes it.
fn announce(server: &Server, length: usize) -> (Client, HttpResponse) {
    let mut client = Client::connect(server);
    client.send_head("POST /v1/tasks/batch", &format!("{HEAD}Content-Length: {length}\r\nExpect: 100-continue\r\n"));
    let response = client.response().expect("a response");
    (client, response)
}

/// A batch of this many bytes.
fn batch(length: usize) -> Vec<u8> {
    let mut body = json!({"items": [{"kind": "a"}]}).to_string().into_bytes();
    body.resize(length, b' ');
    body
}

#[track_caller]
fn assert_busy(response: &HttpResponse) {
    response.assert_problem(503, "overloaded");
    assert_eq!((&response.body["retryable"], response.header("retry-after")), (&json!(true), "1"), "{response:?}");
    assert_eq!(response.header("connection"), "close", "{response:?}");
}

#[tokio::test]
async fn large_bodies_beyond_the_budget_are_refused_before_they_are_sent_and_small_ones_are_taken() {
    let server = Server::start();
    let (taken, refused): (Vec<_>, Vec<_>) =
        (0..32).map(|_| announce(&server, LARGE)).partition(|(_, response)| response.status == 100);
    assert!(!taken.is_empty() && !refused.is_empty(), "{} of 32 are taken", taken.len());
    for (_, response) in &refused {
        assert_busy(response);
    }
    for _ in 0..20 {
        server.submit(&json!({"kind": "small", "input": "x".repeat(40_000)})).await;
    }
    assert_eq!(server.get("/readyz").await.status, 200);
    let count = taken.len();
    let mut taken: Vec<Client> = taken.into_iter().map(|(client, _)| client).collect();
    for client in &mut taken {
        client.send(&batch(LARGE));
    }
    for mut client in taken {
        let response = client.response().expect("a response");
        assert_eq!((response.status, response.body["items"].as_array().map(Vec::len)), (200, Some(1)), "{response:?}");
    }
    let again = (0..count).map(|_| announce(&server, LARGE)).filter(|(_, response)| response.status == 100).count();
    assert!(again >= 1, "the budget is free again");
}

#[tokio::test]
async fn a_large_body_without_a_length_is_refused_when_the_budget_is_used_up() {
    let server = Server::start();
    let mut held = Vec::new();
    loop {
        let (client, response) = announce(&server, LARGE);
        if response.status != 100 {
            break;
        }
        held.push(client);
    }
    let mut rest = Vec::new();
    for length in [1024 * 1024, 200 * 1024, 70 * 1024] {
        loop {
            let (client, response) = announce(&server, length);
            if response.status != 100 {
                break;
            }
            rest.push(client);
        }
    }
    let mut client = Client::connect(&server);
    client.send_head("POST /v1/tasks/batch", &format!("{HEAD}Transfer-Encoding: chunked\r\n"));
    for _ in 0..4 {
        client.send(format!("{:x}\r\n{}\r\n", 32_768, " ".repeat(32_768)).as_bytes());
    }
    assert_busy(&client.response().expect("a response"));
    drop((held, rest));
}

#[tokio::test]
async fn a_large_body_keeps_its_part_of_the_budget_while_it_arrives() {
    let server = Server::start();
    let mut held = Vec::new();
    for _ in 0..100 {
        let (mut client, response) = announce(&server, LARGE);
        if response.status != 100 {
            assert_busy(&response);
            return;
        }
        client.send(b"{");
        held.push(client);
    }
    panic!("{} bodies of 14 MiB are taken at once", held.len());
}

/// The greatest memory of the server's process so far, in MiB.
fn peak_mib(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// A full batch: as many tasks with as large inputs as fit.
fn full_batch() -> Vec<u8> {
    let item = json!({"kind": "a", "input": "x".repeat(14_000)});
    json!({"items": vec![item; 1_000]}).to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_batches_at_once_are_taken_one_after_the_other() {
    let full = std::env::var_os("TASKBELL_FULL").is_some();
    let senders = if full { 64 } else { 6 };
    let server = Server::start();
    let body = full_batch();
    let before = peak_mib(&server);
    let (mut longest, mut left, mut busy) = (Duration::ZERO, senders, 0);
    std::thread::scope(|scope| {
        let (sender, ended) = std::sync::mpsc::channel();
        for _ in 0..senders {
            let (server, body, sender) = (&server, &body, sender.clone());
            scope.spawn(move || sender.send(send_until_taken(server, body)).unwrap());
        }
        while left > 0 {
            let begun = Instant::now();
            let mut client = Client::connect(&server);
            client.send_head("GET /readyz", "");
            let ready = client.response().expect("a response");
            longest = longest.max(begun.elapsed());
            assert!(matches!(ready.status, 200 | 503), "{ready:?}");
            while let Ok(refusals) = ended.recv_timeout(Duration::from_millis(20)) {
                busy += refusals;
                left -= 1;
            }
        }
    });
    let peak = peak_mib(&server);
    println!("{senders} batches of 14 MiB: {before} -> {peak} MiB, {busy} refusals, /readyz {longest:?} at most");
    assert_eq!(server.get("/v1/counters").await.body["counts"]["queued"], senders * 1_000);
    if full {
        assert!(longest < Duration::from_secs(5), "/readyz took {longest:?}");
    }
}

/// Sends the batch again until the server takes it; how often it was refused.
fn send_until_taken(server: &Server, body: &[u8]) -> usize {
    for refusals in 0.. {
        let mut client = Client::connect(server);
        client.send_head("POST /v1/tasks/batch", &format!("{HEAD}Content-Length: {}\r\n", body.len()));
        client.send(body);
        match client.response().expect("a response") {
            HttpResponse { status: 200, .. } => return refusals,
            response => assert_busy(&response),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    unreachable!("the loop has no end")
}

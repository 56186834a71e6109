//! Requests that were right once, and a seeded hand that spoils them: nothing breaks, and every refusal is a problem.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::super::support::Server;
use super::wire;

const SEED: u64 = 0x7a5b_be11;
/// Requests of each hand, and how long it goes on at most.
const REQUESTS: usize = 1500;
const TIME: Duration = Duration::from_secs(8);

const PATHS: [&str; 23] = [
    "/v1/tasks",
    "/v1/tasks/batch",
    "/v1/tasks/cancel",
    "/v1/tasks/ID",
    "/v1/tasks/ID/events",
    "/v1/tasks/ID/cancel",
    "/v1/tasks/ID/escalate",
    "/v1/tasks/ID/retry",
    "/v1/counters",
    "/v1/bell/seen",
    "/v1/queues",
    "/v1/queues/q/pause",
    "/v1/queues/q/resume",
    "/v1/schedules",
    "/v1/schedules/ID",
    "/v1/live",
    "/v1/log",
    "/v1/log/head",
    "/healthz",
    "/readyz",
    "/metrics",
    "/tasks/ID",
    "/ui/app.js",
];
const METHODS: [&str; 8] = ["GET", "GET", "GET", "POST", "POST", "POST", "HEAD", "DELETE"];
const BODIES: [&str; 9] = [
    r#"{"cron":"0 0 29 2 *","time_zone":"Europe/Zurich","missed":"skip","task":{"kind":"a","input":[1],"labels":{}}}"#,
    r#"{"kind":"a","title":"t","input":{"x":[1,2,{"y":null}]},"queue":"q","priority":1,"labels":{"a":"b"},"unique_key":"u"}"#,
    r#"{"kind":"a","run_at":"2999-01-01T00:00:00Z","max_attempts":3,"timeout_s":5,"owner":"ann","parent":null}"#,
    r#"{"items":[{"kind":"a","idempotency_key":"k"},{"kind":"b"}]}"#,
    r#"{"filter":{"kind":["a"],"status":"queued","label":["a:b"]},"reason":"r","dry_run":true}"#,
    r#"{"reason":"because"}"#,
    r#"{"rung":"revoke","reason":"now"}"#,
    r#"{"position":1}"#,
    r#"{"kind":"content.distribute","input":{"source":"/tmp/x","targets":["/tmp/../etc"],"verify":true}}"#,
];
const TOKENS: [&str; 24] = [
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "18446744073709551616",
    "1.5",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[]",
    "{}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\"",
    "{\"kind\":\"a\",",
    ",",
    ":",
    "}",
    "]",
    "\u{202e}",
    "\u{0}",
    "\u{ffff}",
    "\"9999-12-31T23:59:60Z\"",
    "\"../../etc\"",
];
const NAMES: [&str; 20] = [
    "status",
    "kind",
    "queue",
    "owner",
    "label",
    "q",
    "created_after",
    "created_before",
    "finished_after",
    "finished_before",
    "parent",
    "order",
    "limit",
    "cursor",
    "as_of",
    "after",
    "type",
    "stream",
    "unknown",
    "%6cimit",
];
const VALUES: [&str; 22] = [
    "",
    "a",
    "queued",
    "queued,failed",
    "a:b",
    "asc",
    "1",
    "0",
    "-1",
    "200",
    "99999999999999999999",
    "%00",
    "%ff",
    "%",
    "%zz",
    "2026-01-01T00:00:00Z",
    "-009999-01-02T00:00:00Z",
    "Created",
    "bell-local",
    "+",
    "%F0%9F%94%94",
    "a,,b",
];

/// One request: its line, its headers, its body.
fn request(hand: &mut StdRng, id: &str) -> (String, String, Vec<u8>) {
    let pick = |hand: &mut StdRng, from: &[&str]| (*from.choose(hand).unwrap()).to_owned();
    let mut path = pick(hand, &PATHS).replace("ID", if hand.random_ratio(1, 8) { "%ff%2fx" } else { id });
    if hand.random_ratio(1, 10) {
        let at = hand.random_range(1..=path.len());
        path.insert_str(at, &pick(hand, &["/", "%00", "%", "..", "x", "%c3", ";", "//"]));
    }
    for n in 0..hand.random_range(0..4) {
        path.push(if n == 0 { '?' } else { '&' });
        path.extend([&*pick(hand, &NAMES), "=", &*pick(hand, &VALUES)]);
    }
    let mut body = pick(hand, &BODIES).into_bytes();
    for _ in 0..hand.random_range(0..4) {
        spoil(hand, &mut body);
    }
    let mut headers = format!("Content-Length: {}\r\n", body.len());
    if hand.random_ratio(9, 10) {
        headers.push_str("Content-Type: application/json\r\n");
    }
    if hand.random_ratio(1, 6) {
        headers.extend(["Idempotency-Key: ", &*pick(hand, &["k", "", "ü", "a b"]), "\r\n"]);
    }
    (format!("{} {path}", pick(hand, &METHODS)), headers, body)
}

fn spoil(hand: &mut StdRng, body: &mut Vec<u8>) {
    let at = hand.random_range(0..=body.len());
    match hand.random_range(0..5) {
        0 => body.truncate(at),
        1 if at < body.len() => body[at] = hand.random(),
        2 if at < body.len() => _ = body.remove(at),
        3 => _ = body.splice(at..at, body[..at / 2].to_vec()).count(),
        _ => {
            let token = TOKENS.choose(hand).unwrap();
            // At the place of a value, where that is likely to be read.
            let at = body[at..].iter().position(|byte| *byte == b':').map_or(at, |colon| at + colon + 1);
            let end = body[at..].iter().position(|byte| b",}]".contains(byte)).map_or(at, |end| at + end);
            let _ = body.splice(at..end, token.bytes()).count();
        }
    }
}

#[tokio::test]
async fn thousands_of_spoiled_requests_break_nothing() {
    let server = Server::start();
    let id = server.submit(&serde_json::json!({"kind": "a"})).await;
    let done: usize = std::thread::scope(|scope| {
        let (server, id) = (&server, id.as_str());
        let hands: Vec<_> = (0..4).map(|n| scope.spawn(move || spoil_requests(server, id, SEED + n))).collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).sum()
    });
    assert!(done >= 1000, "only {done} requests");
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    // A client of its own: the other's connection has been idle for too long.
    let client = reqwest::Client::new();
    let get = |path: &str| server.send(client.get(server.url() + path));
    assert_eq!(get("/readyz").await.status, 200);
    let events = get("/v1/log").await;
    assert_eq!(events.text.lines().count() as u64, events.position(), "the log can be read to its end");
    assert_eq!(get("/v1/tasks?limit=200").await.status, 200);
}

fn spoil_requests(server: &Server, id: &str, seed: u64) -> usize {
    let mut hand = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    for done in 0..REQUESTS {
        if begun.elapsed() > TIME {
            return done;
        }
        let (line, headers, body) = request(&mut hand, id);
        let answer = wire::raw(server, &line, &headers, &body);
        let told = || format!("seed {seed}: {line}\n{headers}\n{}\n{answer:?}", String::from_utf8_lossy(&body));
        assert!(answer.status < 500, "{}", told());
        if answer.status >= 400 {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{}", told());
            let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
            if !line.starts_with("HEAD") {
                answer.assert_problem(answer.status, &code);
            }
            assert!(line.starts_with("HEAD") || !matches!(code.as_str(), "" | "internal"), "{}", told());
        }
    }
    REQUESTS
}

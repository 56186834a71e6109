//! Sends valid requests with random mutations from a seed. No request may break the server, and every refusal is a problem
//! response. With `TASKBELL_SECURE=1` the requests come by TLS, about half of them with the right token.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::super::support::figures;
use super::super::support::{Access, Server};
use super::raw_http;
use crate::worker_soak::checker::Checker;

const SEED: u64 = 0x7a5b_be11;
/// The number of mutated requests for each seed.
const REQUESTS: usize = 1500;
/// The longest time of all requests of a seed.
const TIME_LIMIT: Duration = Duration::from_secs(8);

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
/// The bodies of requests by workers.
const WORKER_BODIES: [(&str, &str); 5] = [
    ("/v1/leases", r#"{"worker":"w","kinds":["a","b"],"queues":["default","q"],"max":3,"wait_s":0}"#),
    (
        "/v1/leases/heartbeat",
        r#"{"worker":"w","leases":[{"lease":"LEASE","progress":{"fraction":0.5,"message":"m"}},{"lease":"LEASE","seen":"cancel"}],"wait_s":0}"#,
    ),
    ("/v1/leases/cancel-ack", r#"{"lease":"LEASE","stopping_after":"s","expected_end":"2999-01-01T00:00:00Z"}"#),
    (
        "/v1/leases/finish",
        r#"{"items":[{"lease":"LEASE","outcome":"succeeded","message":"m","result":{"x":1},"output":{"tail":"t","dropped_bytes":1}},{"lease":"LEASE","outcome":"cancelled"}]}"#,
    ),
    (
        "/v1/leases/finish",
        r#"{"items":[{"lease":"LEASE","outcome":"failed","error":{"code":"c","message":"m"},"retryable":true},{"lease":"LEASE","outcome":"released"}]}"#,
    ),
];
/// Bodies that are no valid JSON or no object.
const INVALID_BODIES: [&str; 8] = [
    "",
    "x",
    "a.b.c",
    "01a204a3-ca2e-740e-a1e4-926c41d8e05f.1.5ed5e05f10a94f169bafa66dcfbb373f",
    "01a204a3-ca2e-740e-a1e4-926c41d8e05f.99999999999.x",
    "01a204a3-ca2e-740e-a1e4-926c41d8e05f.1.\\u0000",
    "../../etc.1.x",
    "....",
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

/// A mutated request: its line, its headers, its body.
fn request(rng: &mut StdRng, id: &str) -> (String, String, Vec<u8>) {
    let pick = |rng: &mut StdRng, from: &[&str]| (*from.choose(rng).unwrap()).to_owned();
    let mut path = pick(rng, &PATHS).replace("ID", if rng.random_ratio(1, 8) { "%ff%2fx" } else { id });
    if rng.random_ratio(1, 10) {
        let at = rng.random_range(1..=path.len());
        path.insert_str(at, &pick(rng, &["/", "%00", "%", "..", "x", "%c3", ";", "//"]));
    }
    for n in 0..rng.random_range(0..4) {
        path.push(if n == 0 { '?' } else { '&' });
        path.extend([&*pick(rng, &NAMES), "=", &*pick(rng, &VALUES)]);
    }
    let body = pick(rng, &BODIES);
    let (mut headers, body) = mutated(rng, body);
    if rng.random_ratio(1, 6) {
        headers.extend(["Idempotency-Key: ", &*pick(rng, &["k", "", "ü", "a b"]), "\r\n"]);
    }
    (format!("{} {path}", pick(rng, &METHODS)), headers, body)
}

/// A mutated request of a worker, with a lease that it holds, has held or has never held; sometimes a cancel of such a
/// task.
fn worker_request(rng: &mut StdRng, leases: &[String]) -> (String, String, Vec<u8>) {
    if rng.random_ratio(1, 12) {
        let (headers, body) = mutated(rng, r#"{"reason":"r"}"#.to_owned());
        return (format!("POST /v1/tasks/{}/cancel", &leases.choose(rng).unwrap()[..36]), headers, body);
    }
    let (path, words) = *WORKER_BODIES.choose(rng).unwrap();
    let mut parts = words.split("LEASE");
    let mut body = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut lease = leases.choose(rng).unwrap().clone();
        match rng.random_range(0..6) {
            0 => (*INVALID_BODIES.choose(rng).unwrap()).clone_into(&mut lease),
            1 => _ = lease.pop(),
            _ => {}
        }
        body.extend([&*lease, part]);
    }
    let (headers, body) = mutated(rng, body);
    let method = if rng.random_ratio(1, 20) { METHODS.choose(rng).unwrap() } else { "POST" };
    (format!("{method} {path}"), headers, body)
}

fn mutated(rng: &mut StdRng, body: String) -> (String, Vec<u8>) {
    let mut body = body.into_bytes();
    for _ in 0..rng.random_range(0..4) {
        mutate(rng, &mut body);
    }
    let mut headers = format!("Content-Length: {}\r\n", body.len());
    if rng.random_ratio(9, 10) {
        headers.push_str("Content-Type: application/json\r\n");
    }
    (headers, body)
}

fn mutate(rng: &mut StdRng, body: &mut Vec<u8>) {
    let at = rng.random_range(0..=body.len());
    match rng.random_range(0..5) {
        0 => body.truncate(at),
        1 if at < body.len() => body[at] = rng.random(),
        2 if at < body.len() => _ = body.remove(at),
        3 => _ = body.splice(at..at, body[..at / 2].to_vec()).count(),
        _ => {
            let token = TOKENS.choose(rng).unwrap();
            // The mutation replaces a value, because the server probably parses it.
            let at = body[at..].iter().position(|byte| *byte == b':').map_or(at, |colon| at + colon + 1);
            let end = body[at..].iter().position(|byte| b",}]".contains(byte)).map_or(at, |end| at + end);
            let _ = body.splice(at..end, token.bytes()).count();
        }
    }
}

async fn send_all(access: Access, requests: usize) {
    let mut server = Server::with_access(access, Vec::<String>::new());
    let id = server.submit(&serde_json::json!({"kind": "a"})).await;
    let mut leases = Vec::new();
    for _ in 0..60 {
        server.submit(&serde_json::json!({"kind": "held", "max_attempts": 9})).await;
        let taken = server.post("/v1/leases", &serde_json::json!({"worker": "w", "kinds": ["held"]})).await;
        leases.push(taken.body["leases"][0]["lease"].as_str().unwrap().to_owned());
    }
    let done: usize = std::thread::scope(|scope| {
        let (server, id, leases) = (&server, id.as_str(), &leases);
        let seeds = SEED..SEED + 4;
        let threads: Vec<_> = seeds
            .flat_map(|seed| {
                [
                    scope.spawn(move || send_mutated(server, seed, requests, |rng| request(rng, id))),
                    scope.spawn(move || send_mutated(server, seed, requests, |rng| worker_request(rng, leases))),
                ]
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(done >= requests.min(500), "only {done} requests");
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    // The connection of the old client has been idle for too long.
    server.renew_client();
    assert_eq!(server.get("/readyz").await.status, 200);
    let events = server.get("/v1/log").await;
    assert_eq!(events.text.lines().count() as u64, events.position(), "the log can be read to its end");
    let counts = Checker::check_log(&events.text).event_counts;
    figures::report(access, &format!("mutated requests: {done} led to {counts:?}"));
    assert!(counts.contains_key("Completed succeeded") && counts.contains_key("Released handed_back"), "{counts:?}");
    assert_eq!(server.get("/v1/tasks?limit=200").await.status, 200);
}

#[tokio::test]
async fn thousands_of_mutated_requests_break_nothing() {
    send_all(Access::of_environment(), REQUESTS).await;
}

#[tokio::test]
async fn mutated_requests_to_a_server_with_tls_and_authentication_break_nothing() {
    send_all(Access::Secured, 300).await;
}

fn send_mutated(
    server: &Server,
    seed: u64,
    requests: usize,
    request: impl Fn(&mut StdRng) -> (String, String, Vec<u8>),
) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    for done in 0..requests {
        if begun.elapsed() > TIME_LIMIT {
            return done;
        }
        let (line, mut headers, body) = request(&mut rng);
        headers.push_str(&server.fuzzed_authorization(&mut rng));
        let answer = raw_http::raw(server, &line, &headers, &body);
        let report = || format!("seed {seed}: {line}\n{headers}\n{}\n{answer:?}", String::from_utf8_lossy(&body));
        assert!(answer.status < 500, "{}", report());
        if answer.status >= 400 {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{}", report());
            let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
            if !line.starts_with("HEAD") {
                answer.assert_problem(answer.status, &code);
            }
            assert!(line.starts_with("HEAD") || !matches!(code.as_str(), "" | "internal"), "{}", report());
        }
    }
    requests
}

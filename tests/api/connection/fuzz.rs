//! Seeded random bytes that look like HTTP: nothing panics, no response is a 5xx but an overload, and memory stays flat.
//!
//! `TASKBELL_FULL=1` sends 100,000 inputs: `cargo test --test taskbell connection::fuzz -- --nocapture`. `TASKBELL_SEED` sets
//! the first seed. With `TASKBELL_SECURE=1` the inputs come by TLS, about half of them with the right token; some are no TLS.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::super::super::support::figures::{self, sized};
use super::super::super::support::{Access, RawStream, Server, client_hello};

const SEED: u64 = 0x6874_7470;
/// Many, because an input that the server waits for the rest of takes a thread for [`WAIT`].
const THREADS: usize = 24;
/// An input that the server waits for the rest of is given up after this time.
const WAIT: Duration = Duration::from_millis(100);
/// Memory may grow by this much after the first tenth of the inputs, in KiB.
const GROWTH_MAX: u64 = 10 * 1024;

const LINES: [&str; 22] = [
    "GET /healthz HTTP/1.1",
    "GET /v1/tasks?limit=5 HTTP/1.1",
    "HEAD /v1/log HTTP/1.1",
    "GET /v1/log?limit=3 HTTP/1.1",
    "POST /v1/tasks HTTP/1.1",
    "POST /v1/tasks HTTP/1.1",
    "POST /v1/tasks/batch HTTP/1.1",
    "POST /v1/leases/finish HTTP/1.1",
    "POST /v1/leases/heartbeat HTTP/1.1",
    "GET /v1/live HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "CONNECT localhost:80 HTTP/1.1",
    "GET http://localhost/healthz HTTP/1.1",
    "GET //healthz HTTP/1.1",
    "GET /%ff HTTP/1.1",
    "GET /\u{e9} HTTP/1.1",
    "GET /healthz HTTP/1.0",
    "POST /v1/tasks HTTP/1.0",
    "PRI * HTTP/2.0",
    "GET /healthz",
    "BREW /v1/tasks HTTP/1.1",
    "TRACE / HTTP/1.1",
];
const HEADERS: [&str; 31] = [
    "Host: localhost",
    "Host: localhost",
    "Host:",
    "Content-Length: BODY",
    "Content-Length: BODY",
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: -5",
    "Content-Length: 18446744073709551615",
    "Content-Length: 18446744073709551616",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Content-Type: application/json",
    "Content-Type: application/json",
    "Content-Type: text/plain",
    "Content-Encoding: gzip",
    "Expect: 100-continue",
    "Expect: x",
    "Connection: close",
    "Connection: keep-alive, close",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "X: \u{e9}",
    "X:\t y \t",
    " folded",
    "no colon",
];
const BODIES: [&str; 6] = [
    r#"{"kind":"a","unique_key":"u"}"#,
    r#"{"items":[{"kind":"a","unique_key":"u"}]}"#,
    "5\r\n{\"kin\r\n18\r\nd\":\"a\",\"unique_key\":\"u\"}\r\n0\r\n\r\n",
    "ffffffffffffffff\r\n",
    "0\r\nX: y\r\n\r\n",
    "\r\n\r\n\r\n",
];
const RUBBISH: [&[u8]; 12] =
    [b"\r\n", b"\n", b"\r", b"\0", b"\xff", b" ", b":", b"\t", b"0", b"HTTP/1.1", b"\x85\x80\0\0\0\0", b"\r\n\r\n"];

/// Some requests on one connection, well-formed or not.
fn input(server: &Server, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let authorization = server.fuzzed_authorization(rng);
        bytes.extend(request(rng, &authorization));
    }
    for _ in 0..[0, 0, 1, 1, 2, 5].choose(rng).copied().unwrap_or_default() {
        mutate(rng, &mut bytes);
    }
    bytes
}

fn request(rng: &mut StdRng, authorization: &str) -> Vec<u8> {
    let body = *BODIES.choose(rng).unwrap();
    let mut text = format!("{}\r\n", LINES.choose(rng).unwrap());
    if rng.random_ratio(4, 5) {
        text.push_str("Host: localhost\r\nContent-Type: application/json\r\n");
    }
    text.push_str(authorization);
    if rng.random_ratio(1, 2) {
        text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    for _ in 0..[0, 0, 0, 1, 2, 4].choose(rng).copied().unwrap_or_default() {
        text.push_str(&HEADERS.choose(rng).unwrap().replace("BODY", &body.len().to_string()));
        text.push_str("\r\n");
    }
    if rng.random_ratio(1, 50) {
        text.extend(["X: ", &"x".repeat(rng.random_range(0..40_000)), "\r\n"]);
    }
    if rng.random_ratio(1, 50) {
        text.push_str(&"X: y\r\n".repeat(rng.random_range(0..200)));
    }
    (text + "\r\n" + body).into_bytes()
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..5) {
        0 => {
            let part = *RUBBISH.choose(rng).unwrap();
            bytes.splice(at..at, part.iter().copied());
        }
        1 if at < bytes.len() => bytes[at] = rng.random(),
        2 => bytes.truncate(at),
        3 if at < bytes.len() => _ = bytes.remove(at),
        _ => {
            let end = rng.random_range(at..=bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
    }
}

/// Half a TLS handshake, or rubbish in its place.
fn no_handshake(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = client_hello();
    for _ in 0..rng.random_range(0..6) {
        mutate(rng, &mut bytes);
    }
    bytes
}

/// Sends an input, and returns what the server sends before it closes the connection or waits for more.
fn exchange(mut socket: RawStream, bytes: &[u8]) -> Vec<u8> {
    socket.tcp().set_read_timeout(Some(WAIT)).unwrap();
    socket.tcp().set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = socket.write_all(bytes);
    let (mut received, mut part) = (Vec::new(), [0; 8 * 1024]);
    loop {
        match socket.read(&mut part) {
            Ok(0) => return received,
            Ok(count) => received.extend(&part[..count]),
            Err(error) => {
                let wanted = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionReset];
                let of_tls = matches!(socket, RawStream::Tls(_))
                    && matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe);
                assert!(wanted.contains(&error.kind()) || of_tls, "{error}");
                return received;
            }
        }
    }
}

/// The statuses of the responses, by their status lines.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect()
}

/// Sends an input. Returns it and what the server has sent.
fn send_input(server: &Server, rng: &mut StdRng) -> (Vec<u8>, Vec<u8>) {
    if server.is_secured() && rng.random_ratio(1, 8) {
        let bytes = no_handshake(rng);
        let socket = RawStream::Plain(TcpStream::connect(server.address()).expect("a connection"));
        let received = exchange(socket, &bytes);
        assert!(statuses(&received).is_empty(), "a response without TLS to {bytes:?}");
        return (bytes, received);
    }
    let bytes = input(server, rng);
    let received = exchange(server.connect_raw("127.0.0.1").expect("a connection"), &bytes);
    (bytes, received)
}

/// Sends this many inputs, and counts the responses of each class.
fn send_inputs(server: &Server, seeds: std::ops::Range<u64>) -> [usize; 6] {
    let next = AtomicUsize::new(0);
    let counts: [AtomicUsize; 6] = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = seeds.start + next.fetch_add(1, Ordering::Relaxed) as u64;
                    if seed >= seeds.end {
                        break;
                    }
                    let (bytes, received) = send_input(server, &mut StdRng::seed_from_u64(seed));
                    for status in statuses(&received) {
                        let report = || {
                            let received = String::from_utf8_lossy(&received).into_owned();
                            format!("seed {seed}: {:?}\n{received}", String::from_utf8_lossy(&bytes))
                        };
                        assert!(status < 500 || matches!(status, 501 | 503 | 505), "{}", report());
                        counts[usize::from(status / 100).min(5)].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    counts.map(AtomicUsize::into_inner)
}

async fn send_all(access: Access, inputs: usize) {
    let seed = std::env::var("TASKBELL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let (server, inputs) = (Server::with_access(access, Vec::<String>::new()), inputs as u64);
    let begun = Instant::now();
    send_inputs(&server, seed..seed + inputs / 10);
    let before = figures::memory_kib(&server, "VmRSS");
    let counts = send_inputs(&server, seed + inputs / 10..seed + inputs);
    let (after, peak) = (figures::memory_kib(&server, "VmRSS"), figures::memory_kib(&server, "VmHWM"));
    let took = begun.elapsed().as_secs();
    let memory = format!("{before} KiB after a tenth of them, {peak} peak, {after} after all");
    figures::report(
        access,
        &format!("HTTP fuzzer: {inputs} inputs in {took} s; responses by class {counts:?}; {memory}"),
    );
    assert!(counts[2] > 0 && counts[4] > 0, "{counts:?}");
    assert!(after < before + GROWTH_MAX, "{before} -> {after} KiB");
    assert_eq!(server.get("/healthz").await.status, 200);
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_break_nothing_and_leave_no_memory_behind() {
    send_all(Access::of_environment(), sized(2_000, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_to_a_server_with_tls_and_authentication_break_nothing() {
    send_all(Access::Secured, sized(400, 400)).await;
}

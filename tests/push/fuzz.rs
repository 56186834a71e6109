//! Sends valid and mutated websocket frames from a seed. No input may break the server or make its memory grow. With
//! `TASKBELL_SECURE=1` the frames come by TLS, and some behind a handshake with a wrong token or none.

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::wire::{BINARY, CLOSE, CONTINUE, LAST, PING, PONG, TEXT, frame, header, memory_kib};
use crate::support::figures::{self, sized};
use crate::support::{Access, LiveSocket, Server, SocketStream, TEST_TIMEOUT};

const SEED: u64 = 0x50c_4e7;
/// How many sockets send inputs at the same time.
const SENDERS: u64 = 8;
/// How much more memory the server may use after all inputs, in KiB.
const GROWTH_MAX_KIB: u64 = 10 * 1024;

const MESSAGES: [&str; 12] = [
    r#"{"type":"resync"}"#,
    r#"{"type":"unsubscribe"}"#,
    r#"{"type":"seen","position":0}"#,
    r#"{"type":"seen","position":18446744073709551616}"#,
    r#"{"type":"subscribe","filter":{}}"#,
    r#"{"type":"subscribe","filter":{"kind":["a","b"],"status":["queued"],"label":["a:b"],"q":"x"}}"#,
    r#"{"type":"subscribe","filter":{"ids":["01a204a3-ca2e-740e-a1e4-926c41d8e05f"]}}"#,
    r#"{"type":"subscribe","filter":{"created_after":"2999-01-01T00:00:00Z","parent":"x"}}"#,
    r#"{"$serde_json::private::RawValue":"{\"type\":\"resync\"}"}"#,
    r#"{"type":"subscribe","filter":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"#,
    r#"["resync"]"#,
    "",
];
const OPCODES: [u8; 9] = [CONTINUE, TEXT, TEXT, TEXT, BINARY, CLOSE, PING, PONG, 0x0b];
/// The longest body of a frame that the server accepts.
const LENGTH_MAX: usize = 16 * 1024;
const LENGTHS: [u64; 9] = [0, 125, 126, 127, 16_384, 16_385, 65_535, 65_536, u64::MAX];

/// One input: a few frames, most of them valid, some mutated.
fn input(random: &mut StdRng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..random.random_range(1..5)).flat_map(|_| part(random)).collect();
    match random.random_range(0..8) {
        0 => mutate(&mut bytes, random),
        1 => bytes.truncate(random.random_range(0..=bytes.len())),
        _ => {}
    }
    bytes
}

fn part(random: &mut StdRng) -> Vec<u8> {
    let message = MESSAGES.choose(random).unwrap().as_bytes();
    match random.random_range(0..12) {
        0..5 => frame(TEXT | LAST, message),
        5 => fragments(message, random),
        6 => frame(PING | LAST, &vec![b'?'; random.random_range(0..126)]),
        7 => frame(CLOSE | LAST, &random.random_range(900_u16..5100).to_be_bytes()),
        8 => {
            let mut message = message.to_vec();
            mutate(&mut message, random);
            frame(TEXT | LAST, &message)
        }
        9 => frame(TEXT | LAST, &vec![*b" \xff{".choose(random).unwrap(); random.random_range(0..16_400)]),
        10 => {
            header(OPCODES.choose(random).unwrap() | random.random_range(0..16) << 4, *LENGTHS.choose(random).unwrap())
        }
        _ => (0..random.random_range(0..40)).map(|_| random.random()).collect(),
    }
}

/// The message in fragments, with control frames between them.
fn fragments(message: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = frame(TEXT, b"");
    for piece in message.chunks(random.random_range(1..20)) {
        bytes.extend(frame(CONTINUE, piece));
        if random.random_range(0..4) == 0 {
            bytes.extend(frame(PONG | LAST, piece));
        }
    }
    bytes.extend(frame(CONTINUE | LAST, b""));
    bytes
}

/// Changes, removes or repeats a few bytes.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..3) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, random.random()),
        }
    }
}

/// Sends an input behind a handshake that the server refuses, or whose token is right after all.
async fn send_behind_handshake(server: &Server, random: &mut StdRng) {
    let authorization = server.fuzzed_authorization(random);
    let handshake = format!(
        "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
    );
    let bytes = [handshake.as_bytes(), &input(random)].concat();
    let tcp = TcpStream::connect(server.address()).await.expect("a connection");
    let mut client = SocketStream::over(tcp, &server.url()).await.expect("a TLS handshake");
    let _ = client.write_all(&bytes).await;
    let _ = client.flush().await;
    let mut received = Vec::new();
    while !received.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = tokio::time::timeout(TEST_TIMEOUT, client.read_buf(&mut received)).await.expect("an answer in time");
        if !matches!(read, Ok(1..)) {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&received);
    assert!(answer.starts_with("HTTP/1.1 101") || answer.starts_with("HTTP/1.1 4"), "{handshake}{answer}");
}

/// Sends inputs on one socket after the other. After each input a ping shows whether the socket is still open.
async fn send_inputs(server: &Server, seed: u64, inputs: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sent = 0;
    while sent < inputs {
        if server.is_secured() && random.random_ratio(1, 3) {
            sent += 1;
            send_behind_handshake(server, &mut random).await;
            continue;
        }
        let mut live = LiveSocket::open(server).await;
        while sent < inputs {
            sent += 1;
            let bytes = input(&mut random);
            let answer = tokio::time::timeout(TEST_TIMEOUT, answers(&mut live, &bytes)).await;
            let is_open = answer.unwrap_or_else(|_| panic!("no answer to input {sent} of seed {seed}: {bytes:?}"));
            if !is_open {
                break;
            }
        }
    }
}

/// Sends the input and then a ping. Returns whether the server answers the ping; otherwise it has closed the socket.
async fn answers(live: &mut LiveSocket, input: &[u8]) -> bool {
    let rest = vec![0; missing(input)];
    let bytes = [input, &rest, &frame(PING | LAST, b"end of input")].concat();
    if live.raw().get_mut().write_all(&bytes).await.is_err() {
        return false;
    }
    loop {
        match live.raw().next().await {
            Some(Ok(Message::Pong(body))) if &body[..] == b"end of input" => return true,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
            Some(Ok(_)) => {}
        }
    }
}

/// How many bytes complete the last frame. 0 also where the server closes the socket for a frame.
fn missing(mut bytes: &[u8]) -> usize {
    while let [_, second, ..] = *bytes {
        let header = match second & 0x7f {
            127 => 14,
            126 => 8,
            _ => 6,
        };
        let length = match second & 0x7f {
            short @ ..126 => u64::from(short),
            _ if bytes.len() < header => return header - bytes.len() + LENGTH_MAX,
            _ => bytes[2..header - 4].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= LENGTH_MAX) else { return 0 };
        match bytes.get(header + length..) {
            Some(rest) => bytes = rest,
            None => return header + length - bytes.len(),
        }
    }
    // One byte of a header: these zeros make it a frame without a mask.
    bytes.len()
}

async fn send_all(access: Access, inputs: usize) {
    let server = Server::with_access(access, Vec::<String>::new());
    let begun = std::time::Instant::now();
    let run = |first: u64, inputs: usize| {
        let each = inputs / usize::try_from(SENDERS).unwrap();
        join_all((0..SENDERS).map(|n| send_inputs(&server, SEED + first + n, each)).collect::<Vec<_>>())
    };
    // The first inputs fill caches and the memory of the allocator.
    run(1000, inputs / 4).await;
    let before = memory_kib(&server);
    run(0, inputs).await;
    assert_eq!(server.get("/readyz").await.status, 200);
    let mut live = LiveSocket::open(&server).await;
    live.next_of_type("snapshot").await;
    let (after, took) = (memory_kib(&server), begun.elapsed().as_secs());
    let memory = format!("{before} KiB after the first quarter, {after} after all");
    figures::report(access, &format!("websocket fuzzer: {inputs} inputs in {took} s; {memory}"));
    assert!(after.saturating_sub(before) <= GROWTH_MAX_KIB, "{before} -> {after} KiB");
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frames_break_the_server_or_make_its_memory_grow() {
    send_all(Access::of_environment(), sized(1_600, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frames_break_a_server_with_tls_and_authentication() {
    send_all(Access::Secured, 160).await;
}

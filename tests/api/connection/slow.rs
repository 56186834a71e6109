//! Clients that send their heads and bodies slowly are cut, and don't disturb others.
//!
//! `TASKBELL_FULL=1` runs 4,000 slow heads and 2,000 slow bodies:
//! `cargo test --release --test taskbell connection::slow -- --nocapture`.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::super::super::support::{Server, TEST_TIMEOUT};

/// A slow client sends a byte in this time.
const PACE: Duration = Duration::from_millis(400);
/// All slow clients are cut within this time.
const CUT: Duration = Duration::from_secs(10);

/// What a slow client sends: at once, and then byte by byte for ever.
struct Slow {
    name: &'static str,
    at_once: String,
    bytes: &'static str,
    /// The statuses of the responses before the connection is closed.
    statuses: &'static [u16],
}

fn heads() -> Vec<Slow> {
    let slow = |name, at_once: &str, bytes, statuses| Slow { name, at_once: at_once.to_owned(), bytes, statuses };
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    vec![
        slow("nothing", "", "", &[]),
        slow("a request line", "G", "E", &[408]),
        slow("header lines", get, "X: y\r\n", &[408]),
        slow("empty lines", "", "\r\n", &[408]),
        slow("a second head", &format!("{get}\r\nGET /h"), "e", &[200, 408]),
    ]
}

fn bodies() -> Vec<Slow> {
    let slow = |name, at_once: &str, bytes, statuses| Slow { name, at_once: at_once.to_owned(), bytes, statuses };
    let post = |path: &str, headers: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n")
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let begun = format!("{}{}", post("/v1/tasks/batch", "Content-Length: 1000000\r\n"), " ".repeat(100_000));
    vec![
        slow("a body", &post("/v1/tasks", "Content-Length: 60000\r\n"), " ", &[408]),
        slow("a body that never begins", &post("/v1/tasks", "Content-Length: 60000\r\n"), "", &[408]),
        slow("chunks", &post("/v1/tasks", chunked), "1\r\n \r\n", &[408]),
        slow("a chunk's extension", &post("/v1/tasks", chunked), "1;", &[408]),
        slow("a trailer", &format!("{}1\r\n0\r\n0\r\nX", post("/v1/tasks", chunked)), "x", &[408]),
        slow("a body after a quick beginning", &begun, " ", &[408]),
        slow("a body that no handler reads", &post("/v1/nothing", chunked), "1\r\n \r\n", &[404]),
        slow(
            "a body of a known length that no handler reads",
            &post("/v1/nothing", "Content-Length: 9\r\n"),
            "",
            &[404],
        ),
    ]
}

/// How a slow client ended: its name, the statuses of the responses, and how long the connection lasted.
type End = (&'static str, Vec<u16>, &'static [u16], Duration);

/// Sends slowly until the server has closed the connection.
async fn send_slowly(mut socket: TcpStream, slow: Slow) -> End {
    let begun = Instant::now();
    let (mut received, mut closed) = (Vec::new(), false);
    let _ = socket.write_all(slow.at_once.as_bytes()).await;
    let mut bytes = slow.bytes.bytes().cycle();
    let mut pace = tokio::time::interval(PACE);
    while !closed {
        tokio::select! {
            read = socket.read_buf(&mut received) => closed = !matches!(read, Ok(1..)),
            _ = pace.tick() => if let Some(byte) = bytes.next() {
                let _ = socket.write_all(&[byte]).await;
            },
        }
    }
    let text = String::from_utf8_lossy(&received);
    let statuses = text.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect();
    (slow.name, statuses, slow.statuses, begun.elapsed())
}

/// Connects from one of several loopback addresses, because each has ports for some 28,000 connections only.
async fn connect(server: &Server, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("127.0.0.{}:0", 2 + number % 4).parse().unwrap()).unwrap();
    socket.connect(server.url().replace("http://", "").parse().unwrap()).await.expect("a connection")
}

/// How long each of the requests of a healthy client took until all slow clients are cut.
async fn healthy(server: &Server, mut all_cut: tokio::sync::watch::Receiver<bool>) -> Vec<Duration> {
    let mut taken = Vec::new();
    while !*all_cut.borrow_and_update() {
        let begun = Instant::now();
        let status = if taken.len() % 2 == 0 {
            server.get("/v1/tasks").await.status
        } else {
            server.post("/v1/tasks", &serde_json::json!({"kind": "a", "unique_key": "one"})).await.status
        };
        assert!(matches!(status, 200 | 201), "a healthy client gets {status}");
        taken.push(begun.elapsed());
        let _ = tokio::time::timeout(Duration::from_millis(5), all_cut.changed()).await;
    }
    taken.sort_unstable();
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_cut_while_healthy_ones_are_served() {
    let full = std::env::var_os("TASKBELL_FULL").is_some();
    let (heads_wanted, bodies_wanted) = if full { (4_000, 2_000) } else { (200, 100) };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let server = Server::start();
    let all = std::iter::repeat_with(heads).flatten().take(heads_wanted);
    let all = all.chain(std::iter::repeat_with(bodies).flatten().take(bodies_wanted));
    let mut clients = JoinSet::new();
    for (number, slow) in all.enumerate() {
        let socket = connect(&server, number).await;
        clients.spawn(send_slowly(socket, slow));
    }
    let (cut, all_cut) = tokio::sync::watch::channel(false);
    let collect = async {
        let mut longest = Duration::ZERO;
        while let Some(end) =
            tokio::time::timeout(TEST_TIMEOUT, clients.join_next()).await.expect("all are cut in time")
        {
            let (name, statuses, wanted, lasted) = end.unwrap();
            assert_eq!(statuses, wanted, "{name}, cut after {lasted:?}");
            longest = longest.max(lasted);
        }
        cut.send(true).unwrap();
        longest
    };
    let (longest, taken) = tokio::join!(collect, healthy(&server, all_cut));
    let at = |percent: usize| taken[(taken.len() * percent).div_ceil(100) - 1];
    println!("{heads_wanted} slow heads, {bodies_wanted} slow bodies: the last is cut after {longest:?}");
    println!("{} healthy requests: p50 {:?}, p99 {:?}, longest {:?}", taken.len(), at(50), at(99), at(100));
    if full {
        assert!(longest <= CUT, "the last slow client is cut after {longest:?}");
        assert!(at(99) <= Duration::from_millis(250), "p99 of healthy requests is {:?}", at(99));
    }
}

//! Clients that send their heads and bodies slowly are cut, and don't disturb others.
//!
//! `TASKBELL_FULL=1` runs 4,000 slow heads and 2,000 slow bodies:
//! `cargo test --release --test taskbell connection::slow -- --nocapture`. With `TASKBELL_SECURE=1` they come by TLS, and 1,000
//! slow TLS handshakes beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::super::support::figures::{self, Latencies, is_full, sized};
use super::super::super::support::{Access, Server, SocketStream, TEST_TIMEOUT, client_hello};

/// A slow client sends a byte in this time.
const PACE: Duration = Duration::from_millis(400);
const HOST: &str = "Host: localhost\r\n";
/// All slow clients are cut within this time.
const CUT: Duration = Duration::from_secs(10);
/// The p99 of healthy requests may be five times as long as it should be, because other programs run on the machine too.
const P99_MAX: Duration = Duration::from_millis(250);
/// How many TLS handshakes run at the same time. The server has a deadline for each.
const HANDSHAKES: usize = 16;

/// What a slow client sends: at once, and then byte by byte for ever.
struct Slow {
    name: &'static str,
    at_once: Vec<u8>,
    bytes: &'static [u8],
    /// The statuses of the responses before the connection is closed.
    statuses: &'static [u16],
}

fn slow(name: &'static str, at_once: &str, bytes: &'static str, statuses: &'static [u16]) -> Slow {
    Slow { name, at_once: at_once.as_bytes().to_vec(), bytes: bytes.as_bytes(), statuses }
}

/// Clients that never end their TLS handshake.
fn handshakes() -> Vec<Slow> {
    let hello = client_hello();
    let (begin, huge) = (hello[..hello.len() / 2].to_vec(), vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]);
    // At this pace the rest of a real one would take minutes.
    let slow = |name, at_once: &[u8], bytes| Slow { name, at_once: at_once.to_vec(), bytes, statuses: &[] };
    vec![
        slow("half a ClientHello, byte by byte", &begin, b"\0"),
        slow("half a ClientHello and nothing more", &begin, b""),
        slow("the header of a record", &hello[..5], b""),
        slow("a ClientHello of 16 KiB, byte by byte", &huge, b"\x03"),
        slow("a ClientHello whose answer gets none", &hello, b""),
    ]
}

fn heads() -> Vec<Slow> {
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

/// A server with authentication refuses a request without a token at once. So each slow request has one.
fn with_authorization(server: &Server, mut slow: Slow) -> Slow {
    let text = String::from_utf8(slow.at_once).unwrap();
    slow.at_once = text.replace(HOST, &format!("{HOST}{}", server.authorization())).into_bytes();
    slow
}

/// How a slow client ended: its name, the statuses of the responses, and how long the connection lasted.
type End = (&'static str, Vec<u16>, &'static [u16], Duration);

/// Sends slowly until the server has closed the connection.
async fn send_slowly(mut socket: SocketStream, slow: Slow, begun: Instant) -> End {
    let (mut received, mut closed) = (Vec::new(), false);
    let _ = socket.write_all(&slow.at_once).await;
    let mut bytes = slow.bytes.iter().cycle();
    let mut pace = tokio::time::interval(PACE);
    while !closed {
        tokio::select! {
            read = socket.read_buf(&mut received) => closed = !matches!(read, Ok(1..)),
            _ = pace.tick() => if let Some(byte) = bytes.next() {
                let _ = socket.write_all(&[*byte]).await;
                let _ = socket.flush().await;
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
    socket.connect(server.address().parse().unwrap()).await.expect("a connection")
}

/// The slow clients of a server, and how many of them there are at the same time.
struct SlowClients<'a> {
    server: &'a Server,
    running: JoinSet<End>,
    started: usize,
    open: Arc<AtomicUsize>,
    most_open: usize,
    handshakes: Arc<Semaphore>,
}

impl SlowClients<'_> {
    /// Starts a client that is slow in its handshake.
    async fn start_without_tls(&mut self, slow: Slow) {
        let socket = connect(self.server, self.started).await;
        self.spawn(Instant::now(), slow, async { SocketStream::Plain(socket) });
    }

    /// Starts a client that is slow above TLS, if the server has it.
    async fn start(&mut self, slow: Slow) {
        let permit = self.handshakes.clone().acquire_owned().await.unwrap();
        let (begun, url) = (Instant::now(), self.server.url());
        let socket = connect(self.server, self.started).await;
        let slow = with_authorization(self.server, slow);
        self.spawn(begun, slow, async move {
            let stream = SocketStream::over(socket, &url).await.expect("a handshake");
            drop(permit);
            stream
        });
    }

    fn spawn(&mut self, begun: Instant, slow: Slow, stream: impl Future<Output = SocketStream> + Send + 'static) {
        self.started += 1;
        let open = self.open.clone();
        self.most_open = self.most_open.max(open.fetch_add(1, Ordering::Relaxed) + 1);
        self.running.spawn(async move {
            let end = send_slowly(stream.await, slow, begun).await;
            open.fetch_sub(1, Ordering::Relaxed);
            end
        });
    }

    /// Waits until all are cut; the longest time until then.
    async fn all_cut(&mut self) -> Duration {
        let mut longest = Duration::ZERO;
        while let Some(end) =
            tokio::time::timeout(TEST_TIMEOUT, self.running.join_next()).await.expect("all are cut in time")
        {
            let (name, statuses, wanted, lasted) = end.unwrap();
            assert_eq!(statuses, wanted, "{name}, cut after {lasted:?}");
            longest = longest.max(lasted);
        }
        longest
    }
}

/// How long each of the requests of a healthy client took until all slow clients are cut.
async fn healthy(server: &Server, mut all_cut: tokio::sync::watch::Receiver<bool>) -> Latencies {
    let mut taken = Latencies::default();
    while !*all_cut.borrow_and_update() {
        let begun = Instant::now();
        let status = if taken.count() % 2 == 0 {
            server.get("/v1/tasks").await.status
        } else {
            server.post("/v1/tasks", &serde_json::json!({"kind": "a", "unique_key": "one"})).await.status
        };
        assert!(matches!(status, 200 | 201), "a healthy client gets {status}");
        taken.add(begun.elapsed());
        let _ = tokio::time::timeout(Duration::from_millis(5), all_cut.changed()).await;
    }
    taken
}

/// Starts so many slow handshakes, heads and bodies beside a healthy client.
async fn send_all_slowly(access: Access, [of_handshakes, of_heads, of_bodies]: [usize; 3]) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    // The budget of bodies counts the declared lengths, and one subject may take a quarter of it. A body beyond that is refused at
    // once. Here all slow bodies have room, so that each of them has to be cut.
    let server = Server::with_access(access, ["--max-bodies-in-flight-bytes", "2147483648"]);
    let before = figures::memory_mib(&server);
    let (cut, all_cut) = tokio::sync::watch::channel(false);
    let slow_clients = async {
        let (running, handshakes_at_once) = (JoinSet::new(), Arc::new(Semaphore::new(HANDSHAKES)));
        let (open, most_open) = (Arc::default(), 0);
        let mut clients =
            SlowClients { server: &server, running, started: 0, open, most_open, handshakes: handshakes_at_once };
        for slow in std::iter::repeat_with(handshakes).flatten().take(of_handshakes) {
            clients.start_without_tls(slow).await;
        }
        let all = std::iter::repeat_with(heads).flatten().take(of_heads);
        for slow in all.chain(std::iter::repeat_with(bodies).flatten().take(of_bodies)) {
            clients.start(slow).await;
        }
        let longest = clients.all_cut().await;
        cut.send(true).unwrap();
        (longest, clients.most_open)
    };
    let ((longest, most_open), mut taken) = tokio::join!(slow_clients, healthy(&server, all_cut));
    let counts = format!("{of_handshakes} handshakes, {of_heads} heads, {of_bodies} bodies, {most_open} at once");
    let memory =
        format!("{before} MiB before, {} peak, {} after", figures::peak_mib(&server), figures::memory_mib(&server));
    let cut_after = format!("slowest cut {:.1} s", longest.as_secs_f64());
    figures::report(access, &format!("slow clients: {counts}; {cut_after}; {}; {memory}", taken.text()));
    if is_full() {
        assert!(longest <= CUT, "the last slow client is cut after {longest:?}");
        assert!(taken.percentile(99) <= P99_MAX, "p99 of healthy requests is {:?}", taken.percentile(99));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_cut_while_healthy_ones_are_served() {
    let access = Access::of_environment();
    let of_handshakes = if access == Access::Secured { sized(40, 1_000) } else { 0 };
    send_all_slowly(access, [of_handshakes, sized(200, 4_000), sized(100, 2_000)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_of_a_server_with_tls_and_authentication_are_cut() {
    send_all_slowly(Access::Secured, [10, 20, 16]).await;
}

/// Sends nothing for a while before its TLS handshake and before its first head, and then the head slowly.
async fn send_slowly_at_every_step(access: Access) -> Duration {
    // With authentication the slow bodies are of one subject, which may take a quarter of the budget of all bodies. Those beyond it
    // are refused at once, so the budget is large enough for all.
    let server = Server::with_access(access, ["--max-bodies-in-flight-bytes", "536870912"]);
    let (begun, socket) = (Instant::now(), connect(&server, 0).await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stream = SocketStream::over(socket, &server.url()).await.expect("a handshake");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let head = slow("every step", "GET /healthz HTTP/1.1\r\n", "X: y\r\n", &[408]);
    let (_, statuses, _, lasted) = send_slowly(stream, head, begun).await;
    // On a busy machine the connection may end before its head begins.
    assert!(matches!(statuses[..], [] | [408]), "{statuses:?} after {lasted:?}");
    lasted
}

#[tokio::test]
async fn a_client_that_is_slow_at_every_step_gets_no_more_time() {
    let (open, secured) =
        tokio::join!(send_slowly_at_every_step(Access::Open), send_slowly_at_every_step(Access::Secured));
    assert!(open <= CUT && secured <= CUT, "cut after {open:?}, with TLS after {secured:?}");
}

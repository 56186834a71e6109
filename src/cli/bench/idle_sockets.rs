//! Websockets that are open during a measurement. One thread of their own reads them all, and it looks at no more of a frame
//! than its type and its position, because the sockets, the load and the server share the cores.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

use super::connection::ServerAddress;
use crate::cli::command_error::CommandError;

/// How many handshakes run at the same time.
const HANDSHAKES: usize = 16;
/// The longest head of a response to a handshake, in bytes.
const HEAD_MAX: usize = 4096;
/// The time for which a socket waits for its first frame, and [`IdleSockets::wait_for`] for the last socket.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The beginning of a frame with counters.
const COUNTERS: &[u8] = b"{\"type\":\"counters\"";

/// What the thread of the sockets has read.
#[derive(Default)]
struct Readings {
    /// Frames with changed counters, of all sockets.
    frames: AtomicU64,
    /// The position that is waited for.
    goal: AtomicU64,
    /// How many sockets have counters of this position or of a later one.
    at_goal: AtomicUsize,
    /// The position of the last counters of each socket.
    positions: RwLock<Vec<AtomicU64>>,
    /// The last socket has reached the goal.
    reached: Notify,
    /// A socket was closed by the server.
    closed: AtomicUsize,
}

/// Open sockets. Their drop closes them.
pub(super) struct IdleSockets {
    readings: Arc<Readings>,
    count: usize,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl IdleSockets {
    /// Opens a socket for each of these paths.
    ///
    /// # Errors
    /// The server refuses one.
    pub(super) async fn open(server: &ServerAddress, paths: Vec<String>) -> Result<Self, CommandError> {
        let count = paths.len();
        let readings = Arc::new(Readings {
            positions: RwLock::new(paths.iter().map(|_| AtomicU64::new(0)).collect()),
            ..Readings::default()
        });
        let (opened_sender, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (server, shared) = (server.clone(), Arc::clone(&readings));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let opened_all = runtime.map_err(CommandError::from).and_then(|runtime| {
                let sockets = runtime.block_on(open_all(&server, paths))?;
                Ok((runtime, sockets))
            });
            match opened_all {
                Ok((runtime, sockets)) => {
                    for (index, socket) in sockets.into_iter().enumerate() {
                        runtime.spawn(read_frames(socket, index, Arc::clone(&shared)));
                    }
                    let _ = opened_sender.send(Ok(()));
                    let _ = runtime.block_on(ended);
                }
                Err(error) => drop(opened_sender.send(Err(error))),
            }
        });
        opened.await.map_err(|_| CommandError::failed("the thread of the sockets has ended"))??;
        Ok(Self { readings, count, end: Some(end), thread: Some(thread) })
    }

    /// How many frames with changed counters all sockets have got.
    pub(super) fn frames(&self) -> u64 {
        self.readings.frames.load(Ordering::Relaxed)
    }

    /// Waits until every socket has the counters of this position, or of a later one. Returns the time since `start`.
    ///
    /// # Errors
    /// A socket was closed, or it takes too long.
    pub(super) async fn wait_for(&self, position: u64, start: Instant) -> Result<Duration, CommandError> {
        let readings = &self.readings;
        {
            // With the write lock, the thread of the sockets counts none while the goal changes.
            let positions = readings.positions.write().unwrap_or_else(PoisonError::into_inner);
            readings.goal.store(position, Ordering::Relaxed);
            let reached = positions.iter().filter(|known| known.load(Ordering::Relaxed) >= position);
            readings.at_goal.store(reached.count(), Ordering::Relaxed);
        }
        let wait = async {
            while readings.at_goal.load(Ordering::Relaxed) < self.count {
                readings.reached.notified().await;
            }
        };
        let waited = tokio::time::timeout(WAIT_MAX, wait).await;
        let closed = readings.closed.load(Ordering::Relaxed);
        if waited.is_err() || closed > 0 {
            let at_goal = readings.at_goal.load(Ordering::Relaxed);
            return Err(CommandError::failed(format!(
                "{at_goal} of {} sockets have the counters of position {position} after {WAIT_MAX:?}; {closed} were closed",
                self.count
            )));
        }
        Ok(start.elapsed())
    }
}

impl Drop for IdleSockets {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn open_all(server: &ServerAddress, paths: Vec<String>) -> Result<Vec<Socket>, CommandError> {
    let mut paths: VecDeque<String> = paths.into();
    let mut sockets = Vec::with_capacity(paths.len());
    while !paths.is_empty() {
        let some = paths.drain(..HANDSHAKES.min(paths.len()));
        let opening = some.map(|path| tokio::time::timeout(WAIT_MAX, Socket::open(server, path)));
        for opened in futures_util::future::join_all(opening).await {
            sockets.push(opened.map_err(|_| CommandError::failed("a websocket's handshake takes too long"))??);
        }
    }
    Ok(sockets)
}

/// One open socket, and the bytes of a frame that is not complete yet.
struct Socket {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Socket {
    async fn open(server: &ServerAddress, path: String) -> Result<Self, CommandError> {
        let mut stream = TcpStream::connect(server.host_and_port()).await?;
        stream.write_all(server.websocket_request(&path).as_bytes()).await?;
        let mut bytes = Vec::with_capacity(1024);
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > HEAD_MAX {
                return Err(CommandError::failed("a websocket's handshake was not answered"));
            }
        };
        if !bytes.starts_with(b"HTTP/1.1 101 ") {
            let text = String::from_utf8_lossy(&bytes);
            return Err(CommandError::failed(format!("a websocket was refused (--max-sockets…): {text:.500}")));
        }
        bytes.drain(..head);
        Ok(Self { stream, bytes })
    }

    /// Takes the next complete frame's body; `None` if more bytes are needed. The server's frames have no mask.
    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let (start, length) = match (*self.bytes.get(1)? & 0x7f, self.bytes.get(2..4), self.bytes.get(2..10)) {
            (length @ 0..126, _, _) => (2, usize::from(length)),
            (126, Some(length), _) => (4, usize::from(u16::from_be_bytes(length.try_into().ok()?))),
            (127, _, Some(length)) => (10, usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?),
            _ => return None,
        };
        let body = self.bytes.get(start..start + length)?.to_vec();
        self.bytes.drain(..start + length);
        Some(body)
    }
}

/// Reads the socket until the server closes it.
async fn read_frames(mut socket: Socket, index: usize, readings: Arc<Readings>) {
    loop {
        while let Some(frame) = socket.take_frame() {
            if let Some(position) = counters_position(&frame) {
                readings.note(index, position);
            }
        }
        if !matches!(socket.stream.read_buf(&mut socket.bytes).await, Ok(1..)) {
            readings.closed.fetch_add(1, Ordering::Relaxed);
            readings.reached.notify_one();
            return;
        }
    }
}

impl Readings {
    fn note(&self, socket: usize, position: u64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        let positions = self.positions.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = positions.get(socket) else { return };
        let (before, goal) = (known.swap(position, Ordering::Relaxed), self.goal.load(Ordering::Relaxed));
        if before < goal && position >= goal && self.at_goal.fetch_add(1, Ordering::Relaxed) + 1 == positions.len() {
            self.reached.notify_one();
        }
    }
}

/// The position of a frame with changed counters; `None` for another frame.
fn counters_position(frame: &[u8]) -> Option<u64> {
    const FIELD: &[u8] = b",\"position\":";
    let fields = frame.strip_prefix(COUNTERS)?;
    let at = fields.windows(FIELD.len()).position(|window| window == FIELD)?;
    let digits = fields[at + FIELD.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

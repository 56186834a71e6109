//! A client of HTTP/2 that sends whatever a test wants, byte by byte.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::TEST_TIMEOUT;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The method that reads streams.
pub const READ: &str = "/event_store.client.streams.Streams/Read";
/// The method that returns the members of the cluster.
pub const GOSSIP: &str = "/event_store.client.gossip.Gossip/Read";

/// The kinds of frames that the tests look at.
pub const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
/// The code of a stream that the server has not looked at.
pub const REFUSED_STREAM: u32 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A frame that the server has sent.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    /// 0 is the whole connection.
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a frame that ends a stream, or the bytes by which a frame makes a window larger.
    pub fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("a number"))
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A text of HPACK without compression.
fn text(text: &str, into: &mut Vec<u8>) {
    if let Ok(length @ ..127) = u8::try_from(text.len()) {
        into.push(length);
    } else {
        let rest = u8::try_from(text.len() - 127).expect("a text that is not longer than the tests need");
        assert!(rest < 128, "{text} is longer than the tests need");
        into.extend([127, rest]);
    }
    into.extend(text.as_bytes());
}

fn header_block(path: &str, authorization: Option<&str>) -> Vec<u8> {
    let headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    let more = [("content-type", "application/grpc"), ("te", "trailers")];
    let authorization = authorization.map(|value| ("authorization", value));
    let mut block = Vec::new();
    for (name, value) in headers.into_iter().chain(more).chain(authorization) {
        block.push(0);
        text(name, &mut block);
        text(value, &mut block);
    }
    block
}

/// The headers of a request, whose message follows.
pub fn headers(stream: u32, path: &str, authorization: Option<&str>) -> Vec<u8> {
    frame(1, END_HEADERS, stream, &header_block(path, authorization))
}

/// Headers that never end.
pub fn unfinished_headers(stream: u32) -> Vec<u8> {
    frame(1, 0, stream, &header_block(READ, None))
}

/// A whole request with an empty message.
pub fn request(stream: u32, path: &str, authorization: Option<&str>) -> Vec<u8> {
    [headers(stream, path, authorization), frame(0, END_STREAM, stream, &[0; 5])].concat()
}

/// A part of the message of a request, in frames. The message says that it is longer than it will ever be.
pub fn half_message(stream: u32, bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes + 1).expect("a short message").to_be_bytes();
    let message = [&[0], &length[..], &vec![0; bytes]].concat();
    message.chunks(16_384).flat_map(|part| frame(0, 0, stream, part)).collect()
}

/// The first bytes of every client.
pub fn greeting() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// One connection.
pub struct RawClient(pub TcpStream);

impl RawClient {
    /// A connection that has sent nothing.
    pub async fn connect(address: &str) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// A connection on which the server has answered the greeting. `None` if the server has closed it.
    pub async fn greet(address: &str) -> Option<Self> {
        let mut client = Self::connect(address).await;
        client.send(&greeting()).await;
        client.next().await.map(|_| client)
    }

    /// Sends these bytes. If the server has closed the connection, a later read shows it.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(TEST_TIMEOUT, self.0.write_all(bytes)).await.expect("a server that reads");
    }

    /// The next frame; `None` if the server has closed the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        next_of(&mut self.0).await
    }

    /// Waits until the server has looked at everything that was sent. Returns how many more bytes of messages the client may send
    /// on the connection since then; `None` if the server has closed it.
    pub async fn settle(&mut self) -> Option<usize> {
        self.send(&frame(PING, 0, 0, b"settling")).await;
        let mut granted = 0;
        loop {
            let frame = self.next().await?;
            if frame.kind == PING && frame.flags & ACK != 0 {
                return Some(granted);
            }
            if frame.kind == WINDOW_UPDATE && frame.stream == 0 {
                granted += frame.number() as usize;
            }
        }
    }
}

/// Whether the server closes this connection within the time.
pub async fn is_closed_within(time: Duration, mut stream: impl AsyncRead + Unpin) -> bool {
    let mut received = Vec::new();
    tokio::time::timeout(time, stream.read_to_end(&mut received)).await.is_ok()
}

/// The next frame on this half of a connection; `None` if the server has closed it.
pub async fn next_of(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    let payload = async {
        stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.ok()?;
        Some(payload)
    };
    let payload = tokio::time::timeout(TEST_TIMEOUT, payload).await.expect("a frame in time")?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}

//! Websocket frames as bytes, also those that no correct client sends.

use tokio::io::AsyncWriteExt as _;

use crate::support::{LiveSocket, Server, TEST_TIMEOUT};

/// The opcodes of frames.
pub const CONTINUE: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The bit that marks the last frame of a message.
pub const LAST: u8 = 0x80;
/// The mask of all frames here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The header of a masked frame whose body has this length. `first` is the first byte.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => bytes.push(0x80 | length),
        (_, Ok(length)) => {
            bytes.push(0xfe);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// A complete masked frame.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, body.len() as u64);
    bytes.extend(body.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A socket whose first two frames were read.
pub async fn open(server: &Server) -> LiveSocket {
    let mut live = LiveSocket::open(server).await;
    live.next_of_type("snapshot").await;
    live
}

/// Writes these bytes to the connection, beside the client's own frames.
pub async fn write(live: &mut LiveSocket, bytes: &[u8]) {
    live.raw().get_mut().write_all(bytes).await.expect("the connection takes bytes");
}

/// Reads until the server closes the socket; the close code. `None` if the connection ends without a close frame.
pub async fn close_code(live: &mut LiveSocket) -> Option<u16> {
    let close = async {
        loop {
            if let Err(close) = live.next_or_close().await {
                return close.map(|close| close.code.into());
            }
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, close).await.expect("a close frame in time")
}

/// How much memory a process has allocated and used, in KiB: without the pages of its program and its files.
pub fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the status of the process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the field");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

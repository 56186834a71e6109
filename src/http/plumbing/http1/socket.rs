//! The socket of a connection, which the HTTP server reads and writes, and which other threads may ask whether the client has
//! closed it. Both use one file descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// How many bytes the kernel keeps that it can't send yet, after [`SocketObserver::bound_unsent_bytes`].
const UNSENT_MAX: u32 = 64 * 1024;

/// The socket of a connection.
#[derive(Debug)]
pub struct Socket {
    read: OwnedReadHalf,
    write: Arc<Mutex<OwnedWriteHalf>>,
}

/// The socket of a connection that may have ended.
#[derive(Clone, Debug)]
pub struct SocketObserver(Weak<Mutex<OwnedWriteHalf>>);

impl Socket {
    /// Takes the socket over.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write: Arc::new(Mutex::new(write)) }
    }

    /// Makes an observer, which doesn't keep the socket open.
    #[must_use]
    pub fn observer(&self) -> SocketObserver {
        SocketObserver(Arc::downgrade(&self.write))
    }

    fn write_half(&self) -> MutexGuard<'_, OwnedWriteHalf> {
        lock(&self.write)
    }
}

impl SocketObserver {
    /// Whether the client has closed the connection, or the server has.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let Some(write) = self.0.upgrade() else { return true };
        let half = lock(&write);
        let stream: &TcpStream = half.as_ref();
        match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes == 0 || has_sent_all(stream),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Makes the kernel keep at most `UNSENT_MAX` bytes that it can't send yet, besides those that the client may take.
    pub fn bound_unsent_bytes(&self) {
        // If this fails, the kernel keeps more.
        self.with_socket(|socket| socket.set_tcp_notsent_lowat(UNSENT_MAX));
    }

    /// Ends the connection at once. Bytes that are not sent yet are dropped.
    pub fn abort(&self) {
        // If this fails, the connection has ended already.
        self.with_socket(|socket| {
            socket.set_linger(Some(Duration::ZERO))?;
            socket.shutdown(Shutdown::Both)
        });
    }

    fn with_socket(&self, change: impl FnOnce(SockRef<'_>) -> io::Result<()>) {
        if let Some(write) = self.0.upgrade() {
            let half = lock(&write);
            let stream: &TcpStream = half.as_ref();
            let _ = change(SockRef::from(stream));
        }
    }
}

/// Whether the client has closed its side of the connection behind bytes that the server has not read. A client over TLS says
/// goodbye before it closes.
#[cfg(target_os = "linux")]
fn has_sent_all(stream: &TcpStream) -> bool {
    let mut socket = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut socket, Some(&now)).is_ok() && socket[0].revents().contains(PollFlags::RDHUP)
}

#[cfg(not(target_os = "linux"))]
fn has_sent_all(_: &TcpStream) -> bool {
    false
}

/// A thread that panicked has left nothing half-done in the socket.
fn lock(half: &Mutex<OwnedWriteHalf>) -> MutexGuard<'_, OwnedWriteHalf> {
    half.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.write_half()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.write_half()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.write_half()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_counts_as_closed_also_behind_bytes_that_nobody_has_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Socket::new(listener.accept().await.unwrap().0);
        let observer = socket.observer();
        assert!(!observer.is_closed(), "nothing was sent");
        client.write_all(b"a goodbye").await.unwrap();
        socket.read.readable().await.unwrap();
        assert!(!observer.is_closed(), "the client may send more");
        client.shutdown().await.unwrap();
        socket.read.ready(tokio::io::Interest::READABLE).await.unwrap();
        while !socket.read.ready(tokio::io::Interest::READABLE).await.unwrap().is_read_closed() {
            // The socket stays readable, so `ready` alone never lets the runtime look for the end of the bytes.
            tokio::task::yield_now().await;
        }
        assert!(observer.is_closed());
    }
}

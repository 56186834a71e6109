//! What carries a connection: the socket itself, or TLS over it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::connections::OpenConnection;
use super::socket::{Socket, SocketObserver};

/// What carries a connection.
#[derive(Debug)]
pub enum Transport {
    /// The socket.
    Plain(Socket),
    /// TLS over the socket, after its handshake.
    Tls(Box<TlsStream<Socket>>),
}

/// Waits for the client's handshake.
///
/// # Errors
/// The handshake has failed or takes too long, or another client needs the place of this connection.
pub async fn shake_hands(
    socket: Socket,
    config: Arc<ServerConfig>,
    connection: &OpenConnection,
    timeout: Duration,
) -> io::Result<Transport> {
    let mut handshake = pin!(TlsAcceptor::from(config).accept(socket));
    let unless_cut = poll_fn(|cx| {
        if connection.wait(cx.waker()) {
            handshake.as_mut().poll(cx)
        } else {
            Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
        }
    });
    let stream = tokio::time::timeout(timeout, unless_cut).await??;
    Ok(Transport::Tls(Box::new(stream)))
}

impl Transport {
    /// Makes an observer of the socket, which doesn't keep it open.
    #[must_use]
    pub fn observer(&self) -> SocketObserver {
        match self {
            Self::Plain(socket) => socket.observer(),
            Self::Tls(stream) => stream.get_ref().0.observer(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

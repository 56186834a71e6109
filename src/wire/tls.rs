//! A connection with or without TLS, and its deadline. Its handshake takes place when it is read for the first time, in the task
//! of the connection. So a slow client keeps no other one waiting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};
use tonic::transport::server::Connected;

use super::connection::QuickAckConnection;
use super::limits::Place;
use super::progress::{ConnectionInfo, Deadline};

/// A connection with or without TLS.
pub(super) struct WireConnection {
    state: State,
    info: ConnectionInfo,
    guard: Option<ConnectionGuard>,
}

/// What limits a connection.
pub(super) struct ConnectionGuard {
    /// Until when the client must have sent a request.
    pub(super) deadline: Deadline,
    /// Is free again when the connection is dropped.
    pub(super) _place: Place,
}

enum State {
    Plain(QuickAckConnection),
    Handshake(Box<Accept<QuickAckConnection>>),
    Tls(Box<TlsStream<QuickAckConnection>>),
}

impl WireConnection {
    /// The connection on this socket, with TLS if there is a configuration.
    pub(super) fn new(
        socket: QuickAckConnection,
        tls: Option<Arc<ServerConfig>>,
        info: ConnectionInfo,
        guard: Option<ConnectionGuard>,
    ) -> Self {
        let state = match tls {
            None => State::Plain(socket),
            Some(tls) => State::Handshake(Box::new(TlsAcceptor::from(tls).accept(socket))),
        };
        Self { state, info, guard }
    }

    /// Waits until the handshake has ended. Fails if the client has missed its deadline.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.guard.as_mut().is_some_and(|guard| guard.deadline.is_missed(&self.info, cx)) {
            tracing::debug!(client = ?self.info.client, "a client of the log has sent no request that is admitted in time");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let State::Handshake(accept) = &mut self.state else { return Poll::Ready(Ok(())) };
        self.state = State::Tls(Box::new(ready!(Pin::new(&mut **accept).poll(cx))?));
        Poll::Ready(Ok(()))
    }

    /// Does this with the stream as soon as the connection is ready.
    fn poll_with<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plain: impl FnOnce(Pin<&mut QuickAckConnection>, &mut Context<'_>) -> Poll<io::Result<T>>,
        tls: impl FnOnce(Pin<&mut TlsStream<QuickAckConnection>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let connection = self.get_mut();
        ready!(connection.poll_ready(cx))?;
        match &mut connection.state {
            State::Plain(socket) => plain(Pin::new(socket), cx),
            State::Tls(stream) => tls(Pin::new(stream), cx),
            State::Handshake(_) => Poll::Pending,
        }
    }
}

impl Connected for WireConnection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for WireConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        ready!(connection.poll_ready(cx))?;
        match &mut connection.state {
            State::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            State::Tls(stream) => Pin::new(stream).poll_read(cx, into),
            State::Handshake(_) => Poll::Pending,
        }
    }
}

impl AsyncWrite for WireConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |socket, cx| socket.poll_write(cx, bytes), |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tls = |stream: Pin<&mut TlsStream<_>>, cx: &mut Context<'_>| stream.poll_write_vectored(cx, slices);
        self.poll_with(cx, |socket, cx| socket.poll_write_vectored(cx, slices), tls)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_with(cx, AsyncWrite::poll_flush, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_with(cx, AsyncWrite::poll_shutdown, AsyncWrite::poll_shutdown)
    }
}

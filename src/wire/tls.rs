//! A connection with or without TLS. Its handshake takes place when it is read for the first time, in the task of the
//! connection. So a slow client keeps no other one waiting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::connection::QuickAckConnection;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection with or without TLS.
pub(super) struct WireConnection {
    state: State,
    info: TcpConnectInfo,
}

enum State {
    Plain(QuickAckConnection),
    Handshake(Box<(Accept<QuickAckConnection>, Pin<Box<Sleep>>)>),
    Tls(Box<TlsStream<QuickAckConnection>>),
}

impl WireConnection {
    /// The connection on this socket, with TLS if there is a configuration.
    pub(super) fn new(socket: QuickAckConnection, tls: Option<Arc<ServerConfig>>) -> Self {
        let info = socket.connect_info();
        let state = match tls {
            None => State::Plain(socket),
            Some(tls) => {
                let accept = TlsAcceptor::from(tls).accept(socket);
                State::Handshake(Box::new((accept, Box::pin(sleep(HANDSHAKE_TIMEOUT)))))
            }
        };
        Self { state, info }
    }

    /// Waits until the handshake has ended.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Handshake(handshake) = &mut self.state else { return Poll::Ready(Ok(())) };
        let (accept, timer) = &mut **handshake;
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.state = State::Tls(Box::new(ready!(Pin::new(accept).poll(cx))?));
        Poll::Ready(Ok(()))
    }

    /// Does this with the stream as soon as the handshake has ended.
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
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
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

//! An accepted TCP connection that acknowledges received data without delay.
//!
//! The Rust client sends a request in several small segments and doesn't switch Nagle's algorithm off. So each segment waits
//! until the segment before it is acknowledged. Linux delays acknowledgements by 40 ms. Every request would take at least
//! that long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::tls::WireConnection;
use crate::tls::server::ServerTls;

/// The pause after a connection could not be accepted. The most frequent reason is that the process can't open more files.
const PAUSE: Duration = Duration::from_secs(1);

/// The stream of the connections that a listener accepts. It never ends, because the server would end with it: a connection
/// that can't be accepted now is accepted after a pause.
pub(super) struct IncomingConnections {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl IncomingConnections {
    pub(super) const fn new(listener: TcpListener, tls: Option<Arc<ServerTls>>) -> Self {
        Self { listener, tls, pause: None }
    }
}

impl Stream for IncomingConnections {
    type Item = io::Result<WireConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => {
                    // If this setting fails, the connection works nevertheless, but slower.
                    let _ = stream.set_nodelay(true);
                    let configuration = self.tls.as_ref().map(|tls| tls.grpc());
                    return Poll::Ready(Some(Ok(WireConnection::new(QuickAckConnection(stream), configuration))));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for the log can't be accepted");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}

/// A connection that sets `TCP_QUICKACK` after each read.
pub(super) struct QuickAckConnection(TcpStream);

impl QuickAckConnection {
    /// Sets `TCP_QUICKACK`. Linux resets the option, so it is set after every read. If it fails, the connection works
    /// nevertheless, but slower.
    #[cfg(target_os = "linux")]
    fn acknowledge(&self) {
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.0, true);
    }

    #[cfg(not(target_os = "linux"))]
    fn acknowledge(&self) {}
}

impl Connected for QuickAckConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.0.connect_info()
    }
}

impl AsyncRead for QuickAckConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        if read.is_ready() {
            self.acknowledge();
        }
        read
    }
}

impl AsyncWrite for QuickAckConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

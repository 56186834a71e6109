//! The connections that a listener accepts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;

use super::connection::QuickAckConnection;
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
                    return Poll::Ready(Some(Ok(WireConnection::new(QuickAckConnection::new(stream), configuration))));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for the log can't be accepted");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}

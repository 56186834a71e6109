//! The connections that a listener accepts.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;

use super::connection::QuickAckConnection;
use super::limits::{OpenConnections, TooManyConnections};
use super::progress::{ConnectionInfo, Deadline};
use super::tls::{ConnectionGuard, WireConnection};
use crate::tls::server::ServerTls;

/// The pause after a connection could not be accepted. The most frequent reason is that the process can't open more files.
const PAUSE: Duration = Duration::from_secs(1);
/// The shortest time between two log lines about connections over the limit.
const LINE_PAUSE: Duration = Duration::from_secs(1);

/// The stream of the connections that a listener accepts. It never ends, because the server would end with it: a connection
/// that can't be accepted now is accepted after a pause. A connection over the limit is closed at once.
pub(super) struct IncomingConnections {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    /// `None` if any number of clients may connect, and do nothing for any time.
    open: Option<OpenConnections>,
    pause: Option<Pin<Box<Sleep>>>,
    refused: RefusedConnections,
}

/// The refused connections that are not written to the program's log yet. A flood of them must not flood the log.
#[derive(Default)]
struct RefusedConnections {
    count: u64,
    last_line: Option<Instant>,
}

impl RefusedConnections {
    fn note(&mut self, address: IpAddr, why: TooManyConnections) {
        self.count += 1;
        if self.last_line.is_none_or(|last| last.elapsed() >= LINE_PAUSE) {
            tracing::warn!(target: "taskbell::access", %address, %why, refused = self.count, "connections for the log are refused");
            *self = Self { count: 0, last_line: Some(Instant::now()) };
        }
    }
}

impl IncomingConnections {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<ServerTls>>, open: Option<OpenConnections>) -> Self {
        Self { listener, tls, open, pause: None, refused: RefusedConnections::default() }
    }

    /// The connection on this socket. `None` if it is over the limit, and closed.
    fn connection(&mut self, socket: TcpStream, address: IpAddr) -> Option<WireConnection> {
        let guard = match self.guard(address) {
            Ok(guard) => guard,
            Err(why) => {
                self.refused.note(address, why);
                return None;
            }
        };
        // If this setting fails, the connection works nevertheless, but slower.
        let _ = socket.set_nodelay(true);
        let configuration = self.tls.as_ref().map(|tls| tls.grpc());
        let socket = QuickAckConnection::new(socket);
        Some(WireConnection::new(socket, configuration, ConnectionInfo::new(address), guard))
    }

    fn guard(&self, address: IpAddr) -> Result<Option<ConnectionGuard>, TooManyConnections> {
        let Some(open) = &self.open else { return Ok(None) };
        let deadline = Deadline::new(open.limits().request_timeout);
        Ok(Some(ConnectionGuard { _place: open.open(address)?, deadline }))
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
                Ok((socket, client)) => {
                    if let Some(connection) = self.connection(socket, client.ip()) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for the log can't be accepted");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}

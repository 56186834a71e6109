//! The client's connection: whether it is still open, and whether a response with leases was written to it.
//!
//! While a long poll waits, the HTTP library reads nothing from the socket and doesn't notice that the client has closed it.
//! So the dispatcher checks the socket before it grants a lease. If the client closes the connection after the grant, the
//! HTTP library drops the body of the response before all of it is written, and then the leases are released.

use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use socket2::{SockRef, Socket};

use crate::dispatch::messages::Delivery;

/// How many bytes the kernel keeps that it can't send yet, after [`ClientConnection::bound_unsent_bytes`].
const UNSENT_MAX: u32 = 64 * 1024;

/// The connection that a request came over. The default has no socket and counts as open.
#[derive(Clone, Debug, Default)]
pub struct ClientConnection(Option<Arc<Socket>>);

impl ClientConnection {
    /// Makes the connection of this socket.
    pub fn from_socket<'a>(socket: impl Into<SockRef<'a>>) -> Self {
        Self(socket.into().try_clone().ok().map(Arc::new))
    }

    /// Whether the client has closed the connection.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let Some(socket) = &self.0 else { return false };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// Makes the kernel keep few bytes that it can't send yet, because the client reads slowly. The other bytes wait in the
    /// server, which then notices it.
    pub fn bound_unsent_bytes(&self) {
        if let Some(socket) = &self.0 {
            // If this fails, the kernel keeps more.
            let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
        }
    }

    /// Ends the connection at once. Bytes that are not sent yet are dropped. If the connection has ended already, nothing
    /// happens.
    pub fn abort(&self) {
        if let Some(socket) = &self.0 {
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// The body of a response with leases. If it is dropped before all of it is written, the leases are released.
pub struct LeaseResponseBody {
    body: BoxBody,
    delivery: Delivery,
}

impl LeaseResponseBody {
    /// Wraps the body of the response. The leases of `delivery` are released unless the whole body is written.
    #[must_use]
    pub fn wrap(response: HttpResponse, delivery: Delivery) -> HttpResponse {
        response.map_body(|_, body| BoxBody::new(Self { body, delivery }))
    }
}

impl MessageBody for LeaseResponseBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<actix_web::web::Bytes, Self::Error>>> {
        let next = Pin::new(&mut self.body).poll_next(cx);
        if let Poll::Ready(None) = next {
            self.delivery.mark_arrived();
        }
        next
    }
}

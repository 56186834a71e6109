//! The client's connection: whether it is still open, and whether a response with leases was written to it.
//!
//! While a long poll waits, the client may close the connection before the HTTP server has noticed it. So the dispatcher checks
//! the socket before it grants a lease. If the client closes the connection after the grant, the HTTP library drops the body of
//! the response before all of it is written, and then the leases are released.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};

use super::http1::socket::SocketObserver;
use crate::dispatch::messages::Delivery;

/// The connection that a request came over. Without a socket (in tests, or if another program serves the routes) it counts as
/// open.
#[derive(Clone, Debug, Default)]
pub struct ClientConnection(Option<SocketObserver>);

impl ClientConnection {
    /// Makes the connection of this socket.
    #[must_use]
    pub fn from_socket(socket: SocketObserver) -> Self {
        Self(Some(socket))
    }

    /// Whether the client has closed the connection.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.as_ref().is_some_and(SocketObserver::is_closed)
    }

    /// Makes the kernel keep few bytes that it can't send yet, because the client reads slowly. The other bytes wait in the
    /// server, which then notices it.
    pub fn bound_unsent_bytes(&self) {
        if let Some(socket) = &self.0 {
            socket.bound_unsent_bytes();
        }
    }

    /// Ends the connection at once. Bytes that are not sent yet are dropped. If the connection has ended already, nothing
    /// happens.
    pub fn abort(&self) {
        if let Some(socket) = &self.0 {
            socket.abort();
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

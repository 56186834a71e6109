//! The client's connection: whether it is still open, and whether an answer with leases reached it.
//!
//! While a long poll waits, the HTTP library reads nothing from the socket and doesn't notice that the client has closed it.
//! So the dispatcher checks the socket before it grants a lease. A client that leaves later is noticed when the body of the
//! answer is dropped before it was written out: then the leases are released.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use socket2::{SockRef, Socket};

use crate::dispatch::messages::Delivery;

/// The connection that a request came over. The default, without a socket, counts as open.
#[derive(Clone, Debug, Default)]
pub struct ClientConnection(Option<Arc<Socket>>);

impl ClientConnection {
    /// The connection of this socket.
    pub fn of<'a>(socket: impl Into<SockRef<'a>>) -> Self {
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
}

/// The body of an answer with leases. If it is dropped before it was written out, the leases are released.
pub struct LeaseBody {
    body: BoxBody,
    delivery: Delivery,
}

impl LeaseBody {
    /// The response, whose delivery decides about the leases.
    #[must_use]
    pub fn wrap(response: HttpResponse, delivery: Delivery) -> HttpResponse {
        response.map_body(|_, body| BoxBody::new(Self { body, delivery }))
    }
}

impl MessageBody for LeaseBody {
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

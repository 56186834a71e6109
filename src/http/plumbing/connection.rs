//! Whether somebody still listens: a long poll learns of a caller that has left only by looking.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use socket2::{SockRef, Socket};

use crate::dispatch::messages::Delivery;

/// The connection of a request, to be looked at. Without one nobody has ever left.
#[derive(Clone, Debug, Default)]
pub struct ClientConnection(Option<Arc<Socket>>);

impl ClientConnection {
    /// The connection behind this socket.
    pub fn of<'a>(socket: impl Into<SockRef<'a>>) -> Self {
        Self(socket.into().try_clone().ok().map(Arc::new))
    }

    /// Whether the caller has closed its side.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let Some(socket) = &self.0 else { return false };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// A body that hands its leases back where it is dropped before it was taken.
pub struct Arriving {
    body: BoxBody,
    delivery: Delivery,
}

impl Arriving {
    /// The response, with what depends on its arrival.
    #[must_use]
    pub fn response(response: HttpResponse, delivery: Delivery) -> HttpResponse {
        response.map_body(|_, body| BoxBody::new(Self { body, delivery }))
    }
}

impl MessageBody for Arriving {
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
            self.delivery.arrived();
        }
        next
    }
}

//! One request and its response, as far as the stream and the handler must know of each other.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::web::Bytes;

/// The present exchange of a connection. The stream and all requests of the connection share it: the stream passes one request
/// at a time.
#[derive(Clone, Debug, Default)]
pub struct Exchange(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    body_is_wanted: Cell<bool>,
    /// The stream has not passed on the whole body.
    body_is_left: Cell<bool>,
    /// The response says that the connection closes after it.
    is_last: Cell<bool>,
    response_is_complete: Cell<bool>,
    stream: RefCell<Option<Waker>>,
}

impl Exchange {
    /// Says that the handler reads the body now. Before, the stream doesn't read it from the socket, and sends no
    /// `100 Continue`. If the whole body came with the head, the stream has passed it on already and isn't woken.
    pub fn want_body(&self) {
        if !self.0.body_is_wanted.replace(true) && self.0.body_is_left.get() {
            self.wake_stream();
        }
    }

    /// Starts the exchange of the next request.
    pub(super) fn start(&self, has_body: bool) {
        self.0.body_is_wanted.set(false);
        self.0.body_is_left.set(has_body);
        self.0.response_is_complete.set(false);
    }

    /// Notes that the whole body was passed on.
    pub(super) fn end_body(&self) {
        self.0.body_is_left.set(false);
    }

    /// Whether the response has said that the connection closes after it.
    pub(super) fn is_last(&self) -> bool {
        self.0.is_last.get()
    }

    pub(super) fn body_is_wanted(&self) -> bool {
        self.0.body_is_wanted.get()
    }

    /// Whether the HTTP library has encoded the whole response.
    pub(super) fn response_is_complete(&self) -> bool {
        self.0.response_is_complete.get()
    }

    /// Remembers the task that reads the stream.
    pub(super) fn set_stream(&self, waker: &Waker) {
        let mut stream = self.0.stream.borrow_mut();
        if !stream.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *stream = Some(waker.clone());
        }
    }

    pub(super) fn wake_stream(&self) {
        if let Some(waker) = self.0.stream.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// Ends the exchange when it is dropped: with the body of the response, or with a request that gets no response because the
/// client has closed the connection.
struct EndOfResponse(Exchange);

impl Drop for EndOfResponse {
    fn drop(&mut self) {
        self.0.0.response_is_complete.set(true);
        self.0.wake_stream();
    }
}

struct LastBody {
    body: BoxBody,
    _end: EndOfResponse,
}

impl MessageBody for LastBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// The outermost middleware of a server: it tells the connection's stream when a response is complete. Where a part of the
/// request's body has not arrived, the response says that the connection closes, because the server does not read that part.
///
/// # Errors
/// Those of the inner service.
pub async fn end_exchange(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(end) = request.conn_data::<Exchange>().cloned().map(EndOfResponse) else {
        return next.call(request).await;
    };
    let mut response = next.call(request).await?;
    let shared = &end.0.0;
    if shared.body_is_left.get() {
        shared.is_last.set(true);
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| BoxBody::new(LastBody { body, _end: end })))
}

//! The frames of a client, before they are decoded.
//!
//! The websocket crate takes in whatever arrives, without a bound, and looks at it later. So this stream stands between the
//! request's payload and the crate:
//!
//! - It passes the bytes of one frame, and no more before the crate has decoded that frame. What arrives meanwhile waits in the
//!   HTTP server's buffers, which are bounded, and then in the client.
//! - It judges each frame by its header. A frame that breaks a rule is not passed on, and the stream ends.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, Payload};
use futures_util::Stream;

use super::headers::{HeaderReader, Violation};

/// Why the stream of a client's frames has ended. `None` if the client has ended it. The stream and the socket share it.
pub(super) type EndOfFrames = Rc<Cell<Option<Violation>>>;

/// The stream; see the module.
pub(super) struct Incoming {
    payload: Payload,
    headers: HeaderReader,
    /// Bytes that have arrived and are not passed on.
    arrived: Bytes,
    /// How many bytes of the present frame's body are not passed on.
    body: usize,
    /// A complete frame was passed on, and the crate has not decoded it yet.
    is_frame_complete: bool,
    end: EndOfFrames,
}

impl Incoming {
    /// The frames in this payload. `message_max` is how many bytes a message may have.
    pub(super) fn new(payload: Payload, message_max: u64, end: EndOfFrames) -> Self {
        let headers = HeaderReader::new(message_max);
        Self { payload, headers, arrived: Bytes::new(), body: 0, is_frame_complete: false, end }
    }

    /// Takes the next bytes to pass on from those that have arrived: a complete header, or a piece of a body. `None` if they
    /// are not enough.
    fn take(&mut self) -> Result<Option<Bytes>, Violation> {
        if self.body == 0 {
            let Some(header) = self.headers.read(&mut self.arrived)? else { return Ok(None) };
            self.body = header.body;
            self.is_frame_complete = self.body == 0;
            return Ok(Some(header.bytes));
        }
        if self.arrived.is_empty() {
            return Ok(None);
        }
        let piece = self.arrived.split_to(self.body.min(self.arrived.len()));
        self.body -= piece.len();
        self.is_frame_complete = self.body == 0;
        Ok(Some(piece))
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.is_frame_complete) {
            // The crate decodes one frame each time that it finds no more bytes. It then asks for the next ones.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match self.take() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Ok(None) => {}
                Err(violation) => {
                    self.end.set(Some(violation));
                    return Poll::Ready(None);
                }
            }
            match ready!(Pin::new(&mut self.payload).poll_next(cx)) {
                Some(Ok(bytes)) => self.arrived = bytes,
                // The connection has ended.
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    }
}

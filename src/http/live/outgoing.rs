//! The frames to a client, after they are encoded.
//!
//! The HTTP server asks for the next piece only when its write buffer has room. So this stream knows when the connection takes
//! frames, and the hub knows it from the socket's [`Backlog`]. A piece is small, so the write buffer stays small too.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::Error;
use actix_web::web::Bytes;
use futures_util::Stream;

use crate::push::backlog::Backlog;

/// The longest piece, in bytes.
const PIECE_MAX: usize = 16 * 1024;

/// The length in bytes of the hub's frames that the socket has encoded, and that this stream has not taken over yet (`take` in
/// `poll_next`). The stream and the socket share it.
pub(super) type EncodedBytes = Rc<Cell<usize>>;

/// The stream; see the module.
pub(super) struct Outgoing<S> {
    frames: Pin<Box<S>>,
    /// Encoded frames that are not passed on.
    rest: Bytes,
    /// How many bytes of the backlog are in the frames that are being passed on.
    bytes: usize,
    encoded: EncodedBytes,
    backlog: Backlog,
}

impl<S> Outgoing<S> {
    /// Passes on these encoded frames. `encoded` and `backlog` are those of the socket.
    pub(super) fn new(frames: S, encoded: EncodedBytes, backlog: Backlog) -> Self {
        Self { frames: Box::pin(frames), rest: Bytes::new(), bytes: 0, encoded, backlog }
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Outgoing<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            this.backlog.remove(std::mem::take(&mut this.bytes));
            let next = ready!(this.frames.as_mut().poll_next(cx));
            let Some(Ok(frames)) = next else { return Poll::Ready(next) };
            this.bytes = this.encoded.take();
            this.rest = frames;
        }
        this.backlog.note_piece();
        Poll::Ready(Some(Ok(this.rest.split_to(this.rest.len().min(PIECE_MAX)))))
    }
}

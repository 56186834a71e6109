//! The bodies of the requests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Phase, RequestStream, Written};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::http1::framing::{Framing, MalformedChunk};

impl<S: AsyncRead + AsyncWrite + Unpin> RequestStream<S> {
    /// Passes a part of the body on. Before a handler wants the body, or has responded without it, nothing of it is read from
    /// the socket.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        framing: Framing,
    ) -> Poll<io::Result<()>> {
        if !self.received.is_empty() {
            self.pass_received_body(into, framing);
            return Poll::Ready(Ok(()));
        }
        let is_rest = matches!(self.phase, Phase::Rest(_));
        if framing != Framing::Endless && !is_rest && !self.exchange.body_is_wanted() {
            return Poll::Pending;
        }
        self.received = BytesMut::new();
        if !is_rest {
            self.send_continue();
        }
        self.poll_own(cx)?;
        let before = into.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, into)? {
            Poll::Pending if is_rest => {
                ready!(self.timer.as_mut().poll(cx));
                self.end();
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(()) => self.pass_read_body(into, before, framing),
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on what was received with the head.
    fn pass_received_body(&mut self, into: &mut ReadBuf<'_>, framing: Framing) {
        let space = self.received.len().min(into.remaining());
        let mut after = framing;
        match after.advance(&self.received[..space]) {
            Ok(count) => {
                into.put_slice(&self.received.split_to(count));
                self.set_framing(after);
            }
            Err(MalformedChunk) => self.refuse_chunk(),
        }
    }

    /// Keeps back what was read behind the body.
    fn pass_read_body(&mut self, into: &mut ReadBuf<'_>, before: usize, framing: Framing) {
        let mut after = framing;
        let count = after.advance(&into.filled()[before..]).inspect_err(|_| self.refuse_chunk()).unwrap_or_default();
        if !matches!(self.phase, Phase::Refused | Phase::Ended) {
            self.received.extend_from_slice(&into.filled()[before + count..]);
            self.set_framing(after);
        }
        into.set_filled(before + count);
    }

    fn set_framing(&mut self, framing: Framing) {
        if framing.is_complete() {
            self.exchange.end_body();
        }
        self.phase = if matches!(self.phase, Phase::Rest(_)) { Phase::Rest(framing) } else { Phase::Body(framing) };
    }

    fn refuse_chunk(&mut self) {
        self.refuse(Problem::new(Refusal::BadRequest, "the chunks of the body are malformed"));
    }

    fn send_continue(&mut self) {
        if std::mem::take(&mut self.expects_continue) && self.written == Written::Nothing {
            self.own.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }
}

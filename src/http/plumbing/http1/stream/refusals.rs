//! The responses of the stream itself, and the end of a connection after a refusal.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Phase, REST_TIMEOUT, RequestStream, Written};
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::http1::refusal;

impl<S: AsyncRead + AsyncWrite + Unpin> RequestStream<S> {
    /// Refuses the present request, unless a part of its response was written, and reads no more requests.
    pub(super) fn refuse(&mut self, problem: Problem) -> bool {
        self.first_head_until = None;
        if matches!(self.phase, Phase::Idle | Phase::Head) || self.written == Written::Nothing {
            let is_head = self.received.starts_with(b"HEAD ");
            self.own.extend_from_slice(&refusal::encode(problem, is_head));
            self.end();
            self.phase = Phase::Refused;
            self.set_timer(REST_TIMEOUT);
            return false;
        }
        self.end()
    }

    /// Writes the bytes of the stream itself.
    pub(super) fn poll_own(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while !self.own.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.own)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => _ = self.own.split_to(count),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads and drops what the client still sends behind the last response, until it closes the connection or the time is over.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_receive_or_time(cx)) {
            self.received.clear();
        }
        Poll::Ready(())
    }

    fn poll_receive_or_time(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self.poll_receive(cx) {
            Poll::Ready(more) if more && self.is_late() => Poll::Ready(false),
            Poll::Ready(more) => Poll::Ready(more),
            Poll::Pending => self.timer.as_mut().poll(cx).map(|()| false),
        }
    }
}

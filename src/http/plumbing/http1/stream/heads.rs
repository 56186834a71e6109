//! The heads of the requests.

use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Phase, RequestStream, Written};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::http1::framing::Framing;
use crate::http::plumbing::http1::head;

impl<S: AsyncRead + AsyncWrite + Unpin> RequestStream<S> {
    pub(super) fn pass_head(&mut self, into: &mut ReadBuf<'_>) {
        let part = self.received.split_to(self.passing.min(into.remaining()));
        self.passing -= part.len();
        into.put_slice(&part);
    }

    /// Waits for a complete head, and prepares to pass it on. False: no more requests are read.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if !self.connection.wait(cx.waker()) {
                return Poll::Ready(self.end());
            }
            if let Some(accepted) = self.look_for_head() {
                return Poll::Ready(accepted);
            }
            let is_late = matches!(self.phase, Phase::Head) && self.is_late();
            match self.poll_receive(cx) {
                Poll::Ready(true) => self.enter_head(),
                Poll::Ready(false) => return Poll::Ready(self.end()),
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(cx));
                    return Poll::Ready(self.end_late_head());
                }
            }
            if is_late {
                return Poll::Ready(self.look_for_head().unwrap_or_else(|| self.end_late_head()));
            }
        }
    }

    /// The timer of a head begins with its first byte, be it an empty line.
    pub(super) fn enter_head(&mut self) {
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Head;
            self.set_timer(self.limits.head_timeout);
        }
    }

    fn end_late_head(&mut self) -> bool {
        if matches!(self.phase, Phase::Idle) {
            return self.end();
        }
        let detail = match self.first_head_until {
            Some(until) if until <= self.timer.deadline() => {
                let timeout = self.limits.first_head_timeout();
                format!("the first request of a connection must arrive within {timeout:?}, with its TLS handshake")
            }
            _ => format!("the head of a request must arrive within {:?}", self.limits.head_timeout),
        };
        self.refuse(Problem::new(Refusal::Timeout, detail))
    }

    /// None if more bytes are needed.
    fn look_for_head(&mut self) -> Option<bool> {
        while self.received.starts_with(b"\r\n") {
            let _ = self.received.split_to(2);
        }
        if self.received.is_empty() || self.received[..] == b"\r"[..] {
            return None;
        }
        match head::find_end(&self.received, self.searched, &self.limits) {
            Ok(Some(length)) => Some(self.accept_head(length).unwrap_or_else(|problem| self.refuse(problem))),
            Ok(None) => {
                self.searched = self.received.len();
                None
            }
            Err(problem) => Some(self.refuse(problem)),
        }
    }

    fn accept_head(&mut self, length: usize) -> Result<bool, Problem> {
        let parsed = head::parse(&self.received[..length])?;
        let is_beyond_limit = self.connection.is_beyond_limit();
        if is_beyond_limit && !parsed.is_probe {
            return Err(Problem::new(
                Refusal::Overloaded,
                "this server has as many connections as it can serve; try again later",
            ));
        }
        if !self.connection.serve() {
            return Ok(self.end());
        }
        self.first_head_until = None;
        self.exchange.start(!parsed.framing.is_complete() && parsed.framing != Framing::Endless);
        self.expects_continue = parsed.expects_continue;
        self.is_last = parsed.is_last || is_beyond_limit;
        self.written = Written::Nothing;
        self.searched = 0;
        self.phase = Phase::Body(parsed.framing);
        self.passing = length;
        if parsed.expects_continue {
            self.rewrite_head(head::without_expect);
        }
        if is_beyond_limit {
            self.rewrite_head(head::with_close);
        }
        Ok(true)
    }

    fn rewrite_head(&mut self, rewrite: fn(&[u8]) -> Vec<u8>) {
        let rest = self.received.split_off(self.passing);
        let head = rewrite(&self.received);
        self.passing = head.len();
        self.received.clear();
        self.received.extend_from_slice(&head);
        self.received.extend_from_slice(&rest);
    }
}

//! The stream that the HTTP library reads instead of the socket: one request at a time.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connections::OpenConnection;
use super::exchange::Exchange;
use super::framing::{Framing, MalformedChunk};
use super::limits::ConnectionLimits;
use super::{head, refusal};
use crate::http::plumbing::error::{Problem, Refusal};

/// How much is read from the socket at once while the end of a head is looked for, in bytes.
const READ_SIZE: usize = 8 * 1024;
/// How long the rest of a body is read that no handler has read, and how long a refused client may go on sending. A client that
/// sends while the server closes would lose the response.
const REST_TIMEOUT: Duration = Duration::from_secs(2);

/// What the stream waits for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body(Framing),
    /// The rest of a body whose response is complete.
    Rest(Framing),
    /// The end of the response.
    Response,
    /// Nothing: no more requests are read.
    Ended,
    /// Nothing, and the response of the stream itself takes the place of any other.
    Refused,
}

/// A connection as the HTTP library reads and writes it.
pub struct RequestStream<S> {
    socket: S,
    exchange: Exchange,
    connection: OpenConnection,
    limits: Arc<ConnectionLimits>,
    phase: Phase,
    timer: Pin<Box<Sleep>>,
    /// What was received and not passed on.
    received: BytesMut,
    /// How many of the received bytes belong to the head that is being passed on.
    passing: usize,
    /// How many of the received bytes were searched for the end of a head.
    searched: usize,
    /// Bytes of the stream itself that are not written yet: an interim response or a refusal.
    own: BytesMut,
    /// The client waits for `100 Continue`.
    expects_continue: bool,
    /// The connection ends with the present exchange.
    is_last: bool,
    written: Written,
}

/// What the library has written of the present response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    /// A part, and more of it may be in the library's buffer.
    Part,
    /// Everything that the library has encoded so far.
    Flushed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RequestStream<S> {
    /// The stream of a new connection.
    #[must_use]
    pub fn new(socket: S, connection: OpenConnection, limits: Arc<ConnectionLimits>) -> Self {
        Self {
            socket,
            exchange: Exchange::default(),
            connection,
            phase: Phase::Idle,
            timer: Box::pin(sleep(limits.idle_timeout)),
            limits,
            received: BytesMut::new(),
            passing: 0,
            searched: 0,
            own: BytesMut::new(),
            expects_continue: false,
            is_last: false,
            written: Written::Nothing,
        }
    }

    /// What the stream shares with the handlers.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        self.exchange.clone()
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Passes on what there is. Without any byte in `into`, the library sees the end of the stream.
    fn poll_pass(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.passing > 0 {
                self.pass_head(into);
                return Poll::Ready(Ok(()));
            }
            match self.phase {
                Phase::Idle | Phase::Head => {
                    if !ready!(self.poll_head(cx)) {
                        return Poll::Ready(Ok(()));
                    }
                }
                Phase::Body(framing) | Phase::Rest(framing) if framing.is_complete() => self.phase = Phase::Response,
                Phase::Body(framing) if self.exchange.response_is_complete() && framing != Framing::Endless => {
                    self.phase = Phase::Rest(framing);
                    self.set_timer(REST_TIMEOUT);
                }
                Phase::Body(framing) | Phase::Rest(framing) => return self.poll_body(cx, into, framing),
                Phase::Response => {
                    if !ready!(self.poll_response(cx)) {
                        return Poll::Ready(Ok(()));
                    }
                }
                Phase::Ended | Phase::Refused => return Poll::Ready(Ok(())),
            }
        }
    }

    fn pass_head(&mut self, into: &mut ReadBuf<'_>) {
        let part = self.received.split_to(self.passing.min(into.remaining()));
        self.passing -= part.len();
        into.put_slice(&part);
    }

    /// Waits for a complete head, and prepares to pass it on. False: no more requests are read.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
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
    fn enter_head(&mut self) {
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Head;
            self.set_timer(self.limits.head_timeout);
        }
    }

    fn end_late_head(&mut self) -> bool {
        if matches!(self.phase, Phase::Idle) {
            return self.end();
        }
        let detail = format!("the head of a request must arrive within {:?}", self.limits.head_timeout);
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
                Refusal::Busy,
                "this server has as many connections as it can serve; try again later",
            ));
        }
        if !self.connection.serve() {
            return Ok(self.end());
        }
        self.exchange.start(!parsed.framing.is_complete());
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

    /// Passes a part of the body on. Before a handler wants the body, or has responded without it, nothing of it is read from
    /// the socket.
    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>, framing: Framing) -> Poll<io::Result<()>> {
        if !self.received.is_empty() {
            self.pass_received_body(into, framing);
            return Poll::Ready(Ok(()));
        }
        let is_rest = matches!(self.phase, Phase::Rest(_));
        if framing != Framing::Endless && !is_rest && !self.exchange.body_is_wanted() {
            return Poll::Pending;
        }
        self.received = BytesMut::new();
        self.send_continue();
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

    /// Waits until the response is complete and written. False: no more requests are read. Meanwhile the stream notices when
    /// the client closes the connection; what it sends behind its request is received up to the size of a head.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.exchange.response_is_complete() && self.written != Written::Part {
                if self.is_last || self.exchange.is_last() {
                    return Poll::Ready(self.end());
                }
                self.phase = Phase::Idle;
                self.set_timer(self.limits.idle_timeout);
                if !self.received.is_empty() {
                    self.enter_head();
                }
                return Poll::Ready(true);
            }
            if self.received.len() >= self.limits.head_max {
                return Poll::Pending;
            }
            if !ready!(self.poll_receive(cx)) {
                return Poll::Ready(self.end());
            }
        }
    }

    /// Receives more bytes. False: the client has closed the connection, or it is broken.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut space = [MaybeUninit::uninit(); READ_SIZE];
        let mut part = ReadBuf::uninit(&mut space);
        let result = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part));
        self.received.extend_from_slice(part.filled());
        Poll::Ready(result.is_ok() && !part.filled().is_empty())
    }

    fn set_timer(&mut self, timeout: Duration) {
        self.timer.as_mut().reset(Instant::now() + timeout);
    }

    /// Whether the time is over. While a client sends without a pause, the timer is not polled.
    fn is_late(&self) -> bool {
        self.timer.deadline() <= Instant::now()
    }

    /// Reads no more requests.
    fn end(&mut self) -> bool {
        self.phase = Phase::Ended;
        self.received.clear();
        false
    }

    /// Refuses the present request, unless a part of its response was written, and reads no more requests.
    fn refuse(&mut self, problem: Problem) -> bool {
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
    fn poll_own(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while !self.own.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.own)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => _ = self.own.split_to(count),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads and drops what a refused client still sends, until it closes the connection or the time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for RequestStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.exchange.set_stream(cx.waker());
        stream.poll_pass(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RequestStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if matches!(stream.phase, Phase::Refused) {
            return Poll::Ready(Ok(bytes.len()));
        }
        if !stream.poll_own(cx)? {
            return Poll::Pending;
        }
        stream.written = Written::Part;
        Pin::new(&mut stream.socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.poll_own(cx)? {
            return Poll::Pending;
        }
        ready!(Pin::new(&mut stream.socket).poll_flush(cx))?;
        if stream.written == Written::Part {
            stream.written = Written::Flushed;
            if stream.exchange.response_is_complete() {
                stream.exchange.wake_stream();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.poll_own(cx)? {
            return Poll::Pending;
        }
        ready!(Pin::new(&mut stream.socket).poll_shutdown(cx))?;
        if matches!(stream.phase, Phase::Refused) {
            ready!(stream.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

//! The stream that the HTTP library reads instead of the socket: one request at a time.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connections::OpenConnection;
use super::exchange::Exchange;
use super::framing::Framing;
use super::limits::ConnectionLimits;

mod bodies;
mod heads;
mod refusals;

/// How much is read from the socket at once while the end of a head is looked for, in bytes.
const READ_SIZE: usize = 8 * 1024;
/// How long the rest of a body is read that no handler has read, and how long a client may go on sending behind the last
/// response. If the server closed the socket while bytes arrive, the client would lose the response.
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
    /// Nothing: the last response was written. What the client still sends is dropped.
    Last,
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
    /// Until the first head has arrived, the timer never ends later.
    first_head_until: Option<Instant>,
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
        let first_head_until = connection.opened() + limits.first_head_timeout();
        Self {
            socket,
            exchange: Exchange::default(),
            connection,
            phase: Phase::Idle,
            timer: Box::pin(sleep_until(first_head_until.min(Instant::now() + limits.idle_timeout))),
            first_head_until: Some(first_head_until),
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
                Phase::Rest(_) if self.is_late() => _ = self.end(),
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
                Phase::Ended | Phase::Last | Phase::Refused => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Waits until the response is complete and written. False: no more requests are read. Meanwhile the stream notices when
    /// the client closes the connection; what it sends behind its request is received up to the size of a head.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.exchange.response_is_complete() && self.written != Written::Part {
                if self.is_last || self.exchange.is_last() {
                    self.set_timer(REST_TIMEOUT);
                    self.phase = Phase::Last;
                    return Poll::Ready(false);
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
        let end = Instant::now() + timeout;
        self.timer.as_mut().reset(self.first_head_until.map_or(end, |until| until.min(end)));
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
        if matches!(stream.phase, Phase::Last | Phase::Refused) {
            ready!(stream.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

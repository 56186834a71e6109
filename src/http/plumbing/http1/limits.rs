//! The limits of connections and of the heads of requests.

use std::time::Duration;

use crate::http::limits::ClientLimits;

/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// A connection without a request is closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much longer than one of these timeouts the first head of a connection may take in all.
const FIRST_HEAD_GRACE: Duration = Duration::from_secs(2);

/// What a server accepts of its connections. Requests within these limits reach the handlers, which have limits of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The longest target of a request (path and query), in bytes.
    pub target_max: usize,
    /// The longest head of a request (request line and headers), in bytes.
    pub head_max: usize,
    /// A head must arrive within this time from its first byte.
    pub head_timeout: Duration,
    /// A connection without a request is closed after this time.
    pub idle_timeout: Duration,
}

impl From<&ClientLimits> for ConnectionLimits {
    /// The target takes half of the head at most.
    fn from(limits: &ClientLimits) -> Self {
        Self {
            target_max: limits.header_bytes / 2,
            head_max: limits.header_bytes,
            head_timeout: limits.header_timeout,
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

impl ConnectionLimits {
    /// The first head of a connection must arrive within this time, counted from the beginning of the connection. So a client
    /// that is slow in its handshake, then idle, and then slow in its head doesn't get the time of all three.
    #[must_use]
    pub fn first_head_timeout(&self) -> Duration {
        self.head_timeout.max(self.idle_timeout) + FIRST_HEAD_GRACE
    }
}

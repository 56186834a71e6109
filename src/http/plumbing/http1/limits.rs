//! The limits of connections and of what arrives over them.

use std::time::Duration;

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
    /// How many connections may be open; the limit of open files may allow fewer.
    pub connections_max: usize,
}

/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            target_max: 8 * 1024,
            head_max: 16 * 1024,
            head_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            connections_max: usize::MAX,
        }
    }
}

//! The limits of websockets.

use std::time::Duration;

/// The limits of the websockets `GET /v1/live` of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketLimits {
    /// How many sockets may be open at the same time.
    pub max_sockets: usize,
    /// How many sockets of one subject may be open at the same time.
    pub max_sockets_per_subject: usize,
    /// How many sockets from one client address may be open at the same time. IPv6 addresses with the same first 64 bits
    /// count as one.
    pub max_sockets_per_address: usize,
    /// A socket is closed if its client has read nothing for this long although frames wait for it.
    pub stall_timeout: Duration,
}

impl Default for SocketLimits {
    /// 10,000 sockets, 1,000 of each subject and address, and 30 s.
    fn default() -> Self {
        Self {
            max_sockets: 10_000,
            max_sockets_per_subject: 1000,
            max_sockets_per_address: 1000,
            stall_timeout: Duration::from_secs(30),
        }
    }
}

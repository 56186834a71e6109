//! How many connections a server has, in all and from each IP address. The addresses of one IPv6 network of 64 bits count as one,
//! because one machine may use all of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The limits on the clients of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The maximum number of open connections.
    pub total: usize,
    /// The maximum number of open connections from one IP address.
    pub per_address: usize,
    /// A client must send its first request within this time after it has connected, and a request must be complete within this
    /// time. If requests need a password, the first one with a right password must come within twice this time.
    pub request_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 256, per_address: 128, request_timeout: Duration::from_secs(5) }
    }
}

/// Counts the open connections. A clone counts the same ones.
#[derive(Clone, Debug)]
pub(super) struct OpenConnections {
    limits: ConnectionLimits,
    counts: Arc<Mutex<Counts>>,
}

/// An address without a connection has no entry.
#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of an open connection. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

/// Why a connection is not accepted. The field is the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooManyConnections {
    #[error("the limit on connections of this server is {0}")]
    OfServer(usize),
    #[error("the limit on connections of this address is {0}")]
    OfAddress(usize),
}

impl OpenConnections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    pub(super) fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// Takes a place for a connection from this address.
    pub(super) fn open(&self, address: IpAddr) -> Result<Place, TooManyConnections> {
        let address = counted_address(address);
        let mut counts = lock(&self.counts);
        if counts.total >= self.limits.total {
            return Err(TooManyConnections::OfServer(self.limits.total));
        }
        let of_address = counts.by_address.entry(address).or_default();
        if *of_address >= self.limits.per_address {
            return Err(TooManyConnections::OfAddress(self.limits.per_address));
        }
        *of_address += 1;
        counts.total += 1;
        Ok(Place { address, counts: Arc::clone(&self.counts) })
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // The counts are right whenever the lock is released.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address by which a client is counted: its IPv4 address, or the first 64 bits of its IPv6 address.
fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &OpenConnections, address: &str) -> Result<Place, TooManyConnections> {
        connections.open(address.parse().unwrap())
    }

    #[test]
    fn each_address_has_its_limit_and_all_together_theirs() {
        let limits = ConnectionLimits { total: 5, per_address: 2, ..ConnectionLimits::default() };
        let connections = OpenConnections::new(limits);
        let mut places: Vec<_> = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:0:1::1", "2001:db8:0:1:ffff::9"]
            .into_iter()
            .map(|address| open(&connections, address).unwrap())
            .collect();
        for address in ["10.0.0.1", "2001:db8:0:1::2"] {
            assert_eq!(open(&connections, address).unwrap_err(), TooManyConnections::OfAddress(2), "{address}");
        }
        places.push(open(&connections, "2001:db8:0:2::1").unwrap());
        assert_eq!(open(&connections, "10.0.0.2").unwrap_err(), TooManyConnections::OfServer(5));
        places.clear();
        assert!(lock(&connections.counts).by_address.is_empty());
        assert!(open(&connections, "10.0.0.1").is_ok());
    }
}

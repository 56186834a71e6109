//! How many uses of a resource may exist at the same time: in all, by one subject, and from one client address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the uses of a resource that exist at the same time. Clones share the counts.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    max_per_subject: usize,
    max_per_address: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_subject: HashMap<String, usize>,
    by_address: HashMap<IpAddr, usize>,
}

/// Which limit a further use would exceed, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The limit for all.
    All(usize),
    /// The limit of the subject.
    Subject(usize),
    /// The limit of the client address.
    Address(usize),
}

/// One use of the resource. It ends when this is dropped.
#[derive(Debug)]
pub struct Use {
    limit: ConcurrencyLimit,
    subject: String,
    address: Option<IpAddr>,
}

impl ConcurrencyLimit {
    /// At most `max` uses, at most `max_per_subject` by one subject, and at most `max_per_address` from one address.
    #[must_use]
    pub fn new(max: usize, max_per_subject: usize, max_per_address: usize) -> Self {
        Self(Arc::new(Inner { max, max_per_subject, max_per_address, counts: Mutex::default() }))
    }

    /// Begins a use. IPv6 addresses with the same first 64 bits count as one address. `None` counts for no address.
    ///
    /// # Errors
    /// The limit that the use would exceed.
    pub fn begin(&self, subject: &str, address: Option<IpAddr>) -> Result<Use, Exceeded> {
        let address = address.map(network);
        self.with_counts(|counts| {
            let by_subject = counts.by_subject.get(subject).copied().unwrap_or_default();
            let by_address = address.and_then(|address| counts.by_address.get(&address).copied()).unwrap_or_default();
            let Inner { max, max_per_subject, max_per_address, .. } = *self.0;
            match () {
                () if by_subject >= max_per_subject => return Err(Exceeded::Subject(max_per_subject)),
                () if by_address >= max_per_address => return Err(Exceeded::Address(max_per_address)),
                () if counts.all >= max => return Err(Exceeded::All(max)),
                () => {}
            }
            counts.all += 1;
            *counts.by_subject.entry(subject.to_owned()).or_default() += 1;
            if let Some(address) = address {
                *counts.by_address.entry(address).or_default() += 1;
            }
            Ok(Use { limit: self.clone(), subject: subject.to_owned(), address })
        })
    }

    fn with_counts<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        // A thread that panicked has left no count half-changed.
        change(&mut self.0.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.limit.with_counts(|counts| {
            counts.all = counts.all.saturating_sub(1);
            decrease(&mut counts.by_subject, &self.subject);
            if let Some(address) = &self.address {
                decrease(&mut counts.by_address, address);
            }
        });
    }
}

/// Decreases the count of this key, and removes it at zero, so that keys of the past need no memory.
fn decrease<K: Clone + Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The address, and of an IPv6 address its first 64 bits: one client usually has all addresses with them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_refuses_the_use_that_would_exceed_it_until_another_ends() {
        let limit = ConcurrencyLimit::new(4, 3, 2);
        let mut uses = vec![
            limit.begin("ann", Some(address("10.0.0.1"))).unwrap(),
            limit.begin("ann", Some(address("10.0.0.1"))).unwrap(),
        ];
        assert_eq!(limit.begin("ann", Some(address("10.0.0.1"))).unwrap_err(), Exceeded::Address(2));
        uses.push(limit.begin("ann", Some(address("10.0.0.2"))).unwrap());
        assert_eq!(limit.begin("ann", None).unwrap_err(), Exceeded::Subject(3));
        uses.push(limit.begin("bob", None).unwrap());
        assert_eq!(limit.begin("eve", None).unwrap_err(), Exceeded::All(4));
        uses.remove(0);
        uses.push(limit.begin("ann", Some(address("10.0.0.1"))).unwrap());
        drop(uses);
        limit.with_counts(|counts| assert_eq!(format!("{counts:?}"), format!("{:?}", Counts::default())));
    }

    #[test]
    fn a_client_is_known_by_the_first_half_of_its_ipv6_address_and_by_its_whole_ipv4_address() {
        let limit = ConcurrencyLimit::new(9, 9, 1);
        let _uses = ["2001:db8::1", "2001:db8:0:1::1", "10.0.0.1", "10.0.0.2"]
            .map(|text| limit.begin("ann", Some(address(text))).unwrap());
        for text in ["2001:db8::2", "2001:db8:0:1:ffff::", "::ffff:10.0.0.1"] {
            assert_eq!(limit.begin("bob", Some(address(text))).unwrap_err(), Exceeded::Address(1), "{text}");
        }
    }
}

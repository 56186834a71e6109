//! Counts how many clients use a resource at the same time: in all, by subject, and by IP address. The addresses of one IPv6
//! network of 64 bits count as one, because one machine may use all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::caller::Caller;
use super::error::{Problem, Refusal};
use super::public_address::prefix;
use crate::http::limits::SharedLimit;

/// A resource with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Open websockets.
    Sockets,
    /// Requests that wait.
    LongPolls,
}

impl Resource {
    /// The name for people, and the setting of the total limit.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Sockets => ("open websockets", "max_sockets"),
            Self::LongPolls => ("waiting requests", "max_long_polls"),
        }
    }
}

/// The limit on one resource, and how many clients use it. A clone counts together with the original.
#[derive(Clone, Debug)]
pub struct Quota {
    resource: Resource,
    limit: SharedLimit,
    counts: Arc<Mutex<Counts>>,
}

/// A subject and an address without a use have no entry.
#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_subject: HashMap<String, usize>,
    by_address: HashMap<IpAddr, usize>,
}

/// One use of the resource. It ends when this value is dropped.
#[derive(Debug)]
pub struct QuotaPermit {
    subject: String,
    address: Option<IpAddr>,
    counts: Arc<Mutex<Counts>>,
}

impl Quota {
    /// A resource that no client uses.
    #[must_use]
    pub fn new(resource: Resource, limit: SharedLimit) -> Self {
        Self { resource, limit, counts: Arc::default() }
    }

    /// Counts one more use by this caller, until the permit is dropped.
    ///
    /// # Errors
    /// 503 `overloaded` if all clients together use as much as they may; 429 `too_many_requests` if the caller's subject or
    /// address does.
    pub fn acquire(&self, caller: &Caller) -> Result<QuotaPermit, Problem> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.check(self.resource, self.limit, caller)?;
        counts.total += 1;
        *counts.by_subject.entry(caller.subject().to_owned()).or_default() += 1;
        let address = counted_address(caller);
        if let Some(address) = address {
            *counts.by_address.entry(address).or_default() += 1;
        }
        Ok(QuotaPermit { subject: caller.subject().to_owned(), address, counts: self.counts.clone() })
    }

    /// The number of uses.
    #[must_use]
    #[cfg(test)]
    pub fn in_use(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Counts {
    fn check(&self, resource: Resource, limit: SharedLimit, caller: &Caller) -> Result<(), Problem> {
        let (name, setting) = resource.names();
        let of_subject = self.by_subject.get(caller.subject()).copied().unwrap_or(0);
        let of_address =
            counted_address(caller).and_then(|address| self.by_address.get(&address)).copied().unwrap_or(0);
        let refuse = |refusal, whose: &str, max: usize, suffix: &str| {
            Err(Problem::new(refusal, format!("the limit on {name} of {whose} is {max} ({setting}{suffix})")))
        };
        if self.total >= limit.total {
            return refuse(Refusal::Overloaded, "this server", limit.total, "");
        }
        if of_subject >= limit.per_subject {
            return refuse(Refusal::TooManyRequests, "this subject", limit.per_subject, "_per_subject");
        }
        if of_address >= limit.per_address {
            return refuse(Refusal::TooManyRequests, "this address", limit.per_address, "_per_address");
        }
        Ok(())
    }
}

/// The address by which this caller is counted: its IPv4 address, or the first 64 bits of its IPv6 address.
fn counted_address(caller: &Caller) -> Option<IpAddr> {
    caller.address.map(|address| match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => prefix(v6, 64),
    })
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        decrement(&mut counts.by_subject, &self.subject);
        if let Some(address) = &self.address {
            decrement(&mut counts.by_address, address);
        }
    }
}

fn decrement<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::identity::Identity;
    use crate::store::{Via, new_id};

    fn caller(subject: &str, address: &str) -> Caller {
        Caller {
            identity: Identity { subject: subject.to_owned(), ..Identity::local() },
            address: address.parse().ok(),
            via: Via::Http,
            correlation_id: new_id(),
            request_id: None,
        }
    }

    #[test]
    fn a_use_over_a_limit_is_refused_by_name_and_number_until_another_ends() {
        let quota = Quota::new(Resource::LongPolls, SharedLimit { total: 4, per_subject: 2, per_address: 3 });
        let acquire = |subject, address| quota.acquire(&caller(subject, address));
        let refusal = |subject, address| acquire(subject, address).map(|_| ()).expect_err("over a limit");
        let _anna = [acquire("anna", "10.0.0.1"), acquire("anna", "10.0.0.2")].map(Result::unwrap);
        let of_subject = refusal("anna", "10.0.0.3");
        assert_eq!((of_subject.status.as_u16(), of_subject.code), (429, "too_many_requests"));
        assert_eq!(
            of_subject.detail,
            "the limit on waiting requests of this subject is 2 (max_long_polls_per_subject)"
        );
        let bea = [acquire("bea", "10.0.0.1")].map(Result::unwrap);
        let cleo = acquire("cleo", "10.0.0.1").unwrap();
        let in_all = refusal("dora", "10.0.0.4");
        assert_eq!((in_all.status.as_u16(), in_all.code), (503, "overloaded"));
        assert_eq!(in_all.detail, "the limit on waiting requests of this server is 4 (max_long_polls)");
        drop(cleo);
        let dora = acquire("dora", "10.0.0.4").unwrap();
        drop(dora);
        let _eva = acquire("eva", "10.0.0.1").unwrap();
        drop(bea);
        let _fay = acquire("fay", "10.0.0.1").unwrap();
        assert_eq!(quota.in_use(), 4);
    }

    #[test]
    fn an_address_has_a_limit_of_its_own_and_an_ended_use_leaves_nothing_behind() {
        let quota = Quota::new(Resource::Sockets, SharedLimit { total: 9, per_subject: 9, per_address: 1 });
        let permit = quota.acquire(&caller("anna", "::1")).unwrap();
        let refusal = quota.acquire(&caller("bea", "::1")).map(|_| ()).expect_err("over the limit");
        assert_eq!(refusal.detail, "the limit on open websockets of this address is 1 (max_sockets_per_address)");
        drop(permit);
        let counts = quota.counts.lock().unwrap();
        assert_eq!((counts.total, counts.by_subject.len(), counts.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let quota = Quota::new(Resource::Sockets, SharedLimit { total: 9, per_subject: 9, per_address: 1 });
        let _anna = quota.acquire(&caller("anna", "2001:db8:0:1::1")).unwrap();
        assert!(quota.acquire(&caller("bea", "2001:db8:0:1:ffff::2")).is_err());
        let _cleo = quota.acquire(&caller("cleo", "2001:db8:0:2::1")).unwrap();
        let _dora = quota.acquire(&caller("dora", "::ffff:10.0.0.1")).unwrap();
        assert!(quota.acquire(&caller("eva", "10.0.0.1")).is_err(), "the same machine over IPv4");
    }
}

//! How many requests a token or a subject may send, and how often an address may fail to authenticate.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use uuid::Uuid;

use super::rate_limit::{ElapsedTime, RateLimit};
use super::{Credential, Identity};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::public_address::prefix;

/// A token or a subject that has sent nothing for a while may send the requests of so many seconds at once.
const REQUESTS_BURST_S: u32 = 2;
/// An address without failures may have the failures of so many seconds at once: the clients behind one address may all begin
/// with a token that has just been revoked.
const FAILURES_BURST_S: u32 = 5;
/// An address of IPv6 counts together with all addresses that have the same first 64 bits, because a client has that many.
const IPV6_PREFIX: u8 = 64;

/// The rate of the requests of each API token, and of each subject that sends another credential. A clone counts together with
/// the original.
#[derive(Clone)]
pub struct RequestRate {
    limit: Option<RateLimit<Sender>>,
}

/// Whose requests count together.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Sender {
    /// The requests with this token. Only an admin makes tokens.
    Token(Uuid),
    /// The requests of this subject without a token. A subject makes as many sessions as it likes, and gets new JWTs, so each of
    /// them must not have a rate of its own.
    Subject(Arc<str>),
}

impl Sender {
    fn of(identity: &Identity) -> Self {
        match identity.credential {
            Credential::Token(id) => Self::Token(id),
            Credential::Session(_) | Credential::Jwt | Credential::Proxy | Credential::Local => {
                Self::Subject(identity.subject.as_str().into())
            }
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "requests of this token",
            Self::Subject(_) => "requests of this subject",
        }
    }
}

impl RequestRate {
    /// At most this many requests of a token or a subject per second, and twice as many at once. 0: any number.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self::with_time(per_second, ElapsedTime::real())
    }

    fn with_time(per_second: u32, time: ElapsedTime) -> Self {
        Self { limit: RateLimit::new(per_second, REQUESTS_BURST_S, time) }
    }

    /// Counts a request of this caller.
    ///
    /// # Errors
    /// 429 `too_many_requests`.
    pub fn count(&self, caller: &Identity) -> Result<(), Problem> {
        let Some(limit) = &self.limit else { return Ok(()) };
        let sender = Sender::of(caller);
        let what = sender.name();
        limit.count(sender).map_err(|_| too_many(what, limit.per_second(), "max_requests_per_s"))
    }
}

/// The rate of the failed authentications from each address. A clone counts together with the original.
#[derive(Clone)]
pub struct FailedAuthentications {
    limit: Option<RateLimit<IpAddr>>,
}

impl FailedAuthentications {
    /// At most this many failures from an address per second, and five times as many at once. 0: any number.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self::with_time(per_second, ElapsedTime::real())
    }

    fn with_time(per_second: u32, time: ElapsedTime) -> Self {
        Self { limit: RateLimit::new(per_second, FAILURES_BURST_S, time) }
    }

    /// Whether a credential from this address may be looked at. Nothing is counted.
    ///
    /// # Errors
    /// 429 `too_many_requests`: too many credentials from this address were wrong.
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), Problem> {
        let (Some(limit), Some(address)) = (&self.limit, address) else { return Ok(()) };
        limit.look(counted_address(address)).map_err(|_| {
            too_many("failed authentications of this address", limit.per_second(), "max_failed_authentications_per_s")
        })
    }

    /// Counts a wrong credential from this address.
    pub fn count(&self, address: Option<IpAddr>) {
        if let (Some(limit), Some(address)) = (&self.limit, address) {
            let _ = limit.count(counted_address(address));
        }
    }
}

fn too_many(what: &str, per_second: NonZeroU32, setting: &str) -> Problem {
    Problem::new(Refusal::TooManyRequests, format!("the limit on {what} is {per_second} per second ({setting})"))
}

fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => prefix(v6, IPV6_PREFIX),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rate_limit::tests::TestTime;
    use super::*;
    use crate::store::new_id;

    fn caller(subject: &str, credential: Credential) -> Identity {
        Identity { subject: subject.to_owned(), credential, ..Identity::local() }
    }

    #[test]
    fn a_subject_over_its_rate_gets_429_with_the_number_and_another_subject_does_not() {
        let time = TestTime::default();
        let rate = RequestRate::with_time(1000, time.elapsed());
        let count = |subject| rate.count(&caller(subject, Credential::Jwt));
        let accepted = |subject| (0..3000).filter(|_| count(subject).is_ok()).count();
        assert_eq!(accepted("anna"), 2000);
        let problem = count("anna").unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code, problem.retryable), (429, "too_many_requests", true));
        assert_eq!(problem.detail, "the limit on requests of this subject is 1000 per second (max_requests_per_s)");
        assert_eq!(problem.response().headers().get("retry-after").unwrap(), "1");
        assert!(count("bea").is_ok());
        time.advance(Duration::from_secs(1));
        assert_eq!(accepted("anna"), 1000);
    }

    #[test]
    fn each_token_has_a_rate_and_all_other_credentials_of_a_subject_have_one_together() {
        let rate = RequestRate::with_time(10, TestTime::default().elapsed());
        let accepted = |credential| (0..30).filter(|_| rate.count(&caller("anna", credential)).is_ok()).count();
        let token = || Credential::Token(new_id());
        assert_eq!([accepted(token()), accepted(token())], [20, 20]);
        let others = [Credential::Session(new_id()), Credential::Session(new_id()), Credential::Jwt, Credential::Proxy];
        assert_eq!(others.map(accepted), [20, 0, 0, 0]);
        let token = caller("anna", token());
        (0..20).for_each(|_| rate.count(&token).unwrap());
        let detail = rate.count(&token).unwrap_err().detail;
        assert_eq!(detail, "the limit on requests of this token is 10 per second (max_requests_per_s)");
    }

    #[test]
    fn a_rate_of_0_is_no_limit() {
        let (requests, failures) = (RequestRate::new(0), FailedAuthentications::new(0));
        let address = Some("10.0.0.1".parse().unwrap());
        for _ in 0..10_000 {
            requests.count(&caller("anna", Credential::Proxy)).unwrap();
            failures.count(address);
            failures.check(address).unwrap();
        }
    }

    #[test]
    fn an_address_with_many_failures_is_refused_before_its_credential_is_looked_at_and_right_ones_count_nothing() {
        let time = TestTime::default();
        let failures = FailedAuthentications::with_time(20, time.elapsed());
        let address = |text: &str| Some(text.parse().unwrap());
        let refused = |text| failures.check(address(text)).is_err();
        for _ in 0..1000 {
            assert!(!refused("10.0.0.1"), "a check counts nothing");
        }
        for failure in 0..100 {
            assert!(!refused("10.0.0.1"), "{failure}");
            failures.count(address("10.0.0.1"));
        }
        let problem = failures.check(address("10.0.0.1")).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code), (429, "too_many_requests"));
        assert_eq!(
            problem.detail,
            "the limit on failed authentications of this address is 20 per second (max_failed_authentications_per_s)"
        );
        assert!(refused("::ffff:10.0.0.1") && !refused("10.0.0.2"));
        time.advance(Duration::from_millis(50));
        assert!(!refused("10.0.0.1"));
        failures.count(address("10.0.0.1"));
        assert!(refused("10.0.0.1"));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        let failures = FailedAuthentications::with_time(1, TestTime::default().elapsed());
        for host in 0..5 {
            failures.count(Some(format!("2001:db8:0:1::{host}").parse().unwrap()));
        }
        let refused = |text: &str| failures.check(Some(text.parse().unwrap())).is_err();
        assert!(refused("2001:db8:0:1:ffff::9") && !refused("2001:db8:0:2::1"));
        failures.check(None).unwrap();
    }
}

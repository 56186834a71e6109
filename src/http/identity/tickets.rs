//! Tickets for websockets. A browser can't set the header `Authorization` of a websocket, and a token in an address would get
//! into logs and histories. So a page gets a ticket with its token, and opens one websocket with the ticket.
//!
//! A ticket is kept in memory: it is valid at the server that has issued it, until that server ends.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Identity;
use crate::http::plumbing::error::{Problem, Refusal};

/// How long a ticket is valid.
pub const TICKET_TIME: Duration = Duration::from_secs(30);
/// How many tickets one subject may have at the same time.
const OF_SUBJECT_MAX: usize = 100;
/// How many tickets there may be at the same time.
const TOTAL_MAX: usize = 10_000;
const SECRET_BYTES: usize = 32;
const PREFIX: &str = "tbk_";

/// The text of a ticket. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketText(String);

impl TicketText {
    /// The text, for the response to the client that gets it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TicketText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketText(…)")
    }
}

struct Ticket {
    identity: Identity,
    /// The value of the header `Origin` that the websocket's request must have; `None`: it must have none.
    origin: Option<String>,
    issued: Instant,
}

impl Ticket {
    fn is_valid(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.issued) < TICKET_TIME
    }
}

/// BLAKE3 of a ticket's text.
type Key = [u8; 32];

/// The tickets that were issued and not used. A clone holds the same tickets.
#[derive(Clone, Default)]
pub struct Tickets(Arc<Mutex<Unused>>);

#[derive(Default)]
struct Unused {
    tickets: HashMap<Key, Ticket>,
    by_time: BTreeSet<(Instant, Key)>,
    of_subject: HashMap<String, usize>,
}

impl Tickets {
    /// Issues a ticket for one websocket of this caller, from pages of this origin.
    ///
    /// # Errors
    /// 429 `too_many_requests` if the subject has 100 tickets; 503 `overloaded` if there are 10,000; 503 `busy` if the operating
    /// system gives no random bits.
    pub fn issue(&self, identity: &Identity, origin: Option<String>, now: Instant) -> Result<TicketText, Problem> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| {
            tracing::error!(%error, "the operating system gives no random bits");
            Problem::new(Refusal::Busy, "the server has no random bits now")
        })?;
        let text = format!("{PREFIX}{}", blake3::Hash::from_bytes(secret).to_hex());
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unused.forget_expired(now);
        unused.check_limits(&identity.subject)?;
        unused.insert(key_of(&text), Ticket { identity: identity.clone(), origin, issued: now });
        Ok(TicketText(text))
    }

    /// Takes the ticket with this text, which can't be used again, even if the origin is wrong. Returns its caller if the
    /// ticket is valid for this origin.
    #[must_use]
    pub fn redeem(&self, text: &str, origin: Option<&str>, now: Instant) -> Option<Identity> {
        let ticket = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(text))?;
        (ticket.is_valid(now) && ticket.origin.as_deref() == origin).then_some(ticket.identity)
    }
}

fn key_of(text: &str) -> Key {
    blake3::hash(text.as_bytes()).into()
}

impl Unused {
    fn check_limits(&self, subject: &str) -> Result<(), Problem> {
        if self.of_subject.get(subject).is_some_and(|count| *count >= OF_SUBJECT_MAX) {
            let detail = format!("the limit on unused tickets of one subject is {OF_SUBJECT_MAX}");
            return Err(Problem::new(Refusal::TooManyRequests, detail));
        }
        if self.tickets.len() >= TOTAL_MAX {
            let detail = format!("the limit on unused tickets of this server is {TOTAL_MAX}");
            return Err(Problem::new(Refusal::Overloaded, detail));
        }
        Ok(())
    }

    fn insert(&mut self, key: Key, ticket: Ticket) {
        *self.of_subject.entry(ticket.identity.subject.clone()).or_default() += 1;
        self.by_time.insert((ticket.issued, key));
        self.tickets.insert(key, ticket);
    }

    fn remove(&mut self, key: &Key) -> Option<Ticket> {
        let ticket = self.tickets.remove(key)?;
        self.by_time.remove(&(ticket.issued, *key));
        if let Some(count) = self.of_subject.get_mut(&ticket.identity.subject) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_subject.remove(&ticket.identity.subject);
            }
        }
        Some(ticket)
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some(&(_, key)) = self.by_time.first() {
            if self.tickets.get(&key).is_some_and(|ticket| ticket.is_valid(now)) {
                return;
            }
            self.by_time.pop_first();
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Option<&str> = Some("https://app.example");

    fn issue(tickets: &Tickets, subject: &str, now: Instant) -> Result<TicketText, Problem> {
        let identity = Identity { subject: subject.to_owned(), ..Identity::local() };
        tickets.issue(&identity, PAGE.map(str::to_owned), now)
    }

    #[test]
    fn a_ticket_is_good_for_one_use_by_its_origin_within_30_seconds() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let redeem = |ticket: &TicketText, origin, after| tickets.redeem(ticket.reveal(), origin, now + after);
        let last = Duration::from_millis(29_999);
        let ticket = issue(&tickets, "anna", now).unwrap();
        assert_eq!(redeem(&ticket, PAGE, last).map(|identity| identity.subject), Some("anna".into()));
        assert_eq!(redeem(&ticket, PAGE, last), None, "used before");
        for origin in [None, Some("https://evil.example"), Some("https://app.example:444")] {
            let ticket = issue(&tickets, "anna", now).unwrap();
            assert_eq!(redeem(&ticket, origin, last), None, "{origin:?}");
            assert_eq!(redeem(&ticket, PAGE, last), None, "tried before");
        }
        let late = issue(&tickets, "anna", now).unwrap();
        assert_eq!(redeem(&late, PAGE, TICKET_TIME), None);
        assert_eq!(tickets.redeem("", None, now), None);
        assert_eq!(format!("{late:?}"), "TicketText(…)");
    }

    #[test]
    fn unused_tickets_are_limited_and_old_ones_are_forgotten() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let refusal = |subject: &str| issue(&tickets, subject, now).map(|_| ()).expect_err("over a limit");
        for n in 0..TOTAL_MAX {
            issue(&tickets, &format!("subject {}", n / OF_SUBJECT_MAX), now).unwrap();
        }
        assert_eq!(refusal("subject 7").code, "too_many_requests");
        assert_eq!(refusal("anna").code, "overloaded");
        issue(&tickets, "anna", now + TICKET_TIME).unwrap();
        let unused = tickets.0.lock().unwrap();
        assert_eq!((unused.tickets.len(), unused.by_time.len(), unused.of_subject.len()), (1, 1, 1));
    }
}

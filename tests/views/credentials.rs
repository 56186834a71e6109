//! The views of tokens and sessions: which are valid at a time.

use std::time::Duration;

use taskbell::store::{LogEvent, StreamName};
use taskbell::task::Timestamp;
use taskbell::task::access::Role;
use taskbell::task::session::{SessionEnded, SessionEvent, SessionOpened};
use taskbell::task::token::{TokenCreated, TokenEvent, TokenRevoked};
use uuid::Uuid;

use super::world::ViewsFixture;

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);
const SECOND: Duration = Duration::from_secs(1);
const MICROSECOND: Duration = Duration::from_micros(1);

impl ViewsFixture {
    fn credential(&mut self, stream: StreamName, event: impl Into<LogEvent>) {
        self.log.advance_time(SECOND);
        self.log.record(stream, 0, event.into(), "root");
        self.apply_new_events();
    }

    fn token(&mut self, id: Uuid, expires_at: Option<Timestamp>) {
        let (subject, hash) = ("anna".into(), "0".repeat(64));
        let created = TokenCreated { subject, role: Role::User, kinds: None, hash, expires_at };
        self.credential(StreamName::token(id), TokenEvent::TokenCreated(created));
    }

    fn revoke(&mut self, id: Uuid) {
        self.credential(StreamName::token(id), TokenEvent::TokenRevoked(TokenRevoked { reason: None }));
    }

    fn session(&mut self, id: Uuid, token: Option<Uuid>, expires_at: Timestamp) {
        let (subject, hash) = ("anna".into(), "0".repeat(64));
        let opened = SessionOpened { subject, role: Role::User, kinds: None, hash, token, expires_at };
        self.credential(StreamName::session(id), SessionEvent::SessionOpened(opened));
    }

    fn token_is_valid(&self, id: Uuid, at: Timestamp) -> bool {
        self.views.credentials().valid_token(id, at).is_some()
    }

    fn session_is_valid(&self, id: Uuid, at: Timestamp) -> bool {
        self.views.credentials().valid_session(id, at).is_some()
    }
}

#[test]
fn a_token_is_valid_until_the_microsecond_before_it_expires() {
    let mut fixture = ViewsFixture::default();
    let expires_at = fixture.log.now().plus(60 * SECOND);
    fixture.token(ONE, Some(expires_at));
    fixture.token(TWO, None);
    let just_before = Timestamp::from_micros(expires_at.as_micros() - 1);
    assert!(fixture.token_is_valid(ONE, just_before));
    assert!(!fixture.token_is_valid(ONE, expires_at) && !fixture.token_is_valid(ONE, expires_at.plus(MICROSECOND)));
    assert!(fixture.token_is_valid(TWO, expires_at.plus(60 * SECOND)));
    assert!(!fixture.token_is_valid(Uuid::from_u128(3), just_before));
}

#[test]
fn a_revoked_token_stays_in_the_list_and_its_session_ends_with_it() {
    let mut fixture = ViewsFixture::default();
    let end = fixture.log.now().plus(3600 * SECOND);
    fixture.token(ONE, None);
    fixture.session(ONE, Some(ONE), end);
    fixture.session(TWO, None, end);
    let now = fixture.log.now();
    assert!(fixture.session_is_valid(ONE, now) && fixture.session_is_valid(TWO, now));
    assert!(fixture.views.credentials().has_valid_token(now));
    fixture.revoke(ONE);
    let row = fixture.views.credentials().token(ONE).unwrap();
    assert_eq!((row.revoked_at, &*row.created_by), (Some(fixture.log.now()), "root"));
    assert!(!fixture.token_is_valid(ONE, now) && !fixture.views.credentials().has_valid_token(now));
    assert!(!fixture.session_is_valid(ONE, now) && fixture.session_is_valid(TWO, now));
    assert_eq!(fixture.views.credentials().tokens().map(|(id, _)| id).collect::<Vec<_>>(), [ONE]);
}

#[test]
fn a_session_ends_with_the_expiry_of_its_token_and_with_its_own() {
    let mut fixture = ViewsFixture::default();
    let early = fixture.log.now().plus(60 * SECOND);
    let late = early.plus(60 * SECOND);
    fixture.token(ONE, Some(early));
    fixture.session(ONE, Some(ONE), late);
    fixture.session(TWO, None, early);
    let before = Timestamp::from_micros(early.as_micros() - 1);
    assert!(fixture.session_is_valid(ONE, before) && fixture.session_is_valid(TWO, before));
    assert!(!fixture.session_is_valid(ONE, early) && !fixture.session_is_valid(TWO, early));
}

#[test]
fn an_ended_session_is_forgotten_and_an_expired_one_when_the_next_is_opened() {
    let mut fixture = ViewsFixture::default();
    let far = fixture.log.now().plus(3600 * SECOND);
    let near = fixture.log.now().plus(3 * SECOND);
    fixture.session(ONE, None, near);
    fixture.session(TWO, None, far);
    let ended = SessionEvent::SessionEnded(SessionEnded { reason: None });
    fixture.credential(StreamName::session(TWO), ended);
    assert!(!fixture.session_is_valid(TWO, fixture.log.now()));
    let long_ago = Timestamp::from_micros(near.as_micros() - 1);
    assert!(fixture.session_is_valid(ONE, long_ago), "it is there, whatever the time of the question");
    fixture.session(Uuid::from_u128(3), None, far);
    assert!(!fixture.session_is_valid(ONE, long_ago), "the views have forgotten it");
    assert!(fixture.session_is_valid(Uuid::from_u128(3), fixture.log.now()));
}

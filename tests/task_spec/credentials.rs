//! Tokens and sessions: each is created once and ends once.

use taskbell::task::access::Role;
use taskbell::task::session::{Session, SessionCommand, SessionEnded, SessionEvent, SessionOpened};
use taskbell::task::token::{Token, TokenCommand, TokenCreated, TokenEvent, TokenRevoked};
use taskbell::task::{Decider, Rejection};

use super::now;

fn fold<D: Decider + Default>(events: &[D::Event]) -> D {
    let mut state = D::default();
    for event in events {
        state.evolve(event);
    }
    state
}

fn token() -> TokenCreated {
    TokenCreated { subject: "anna".into(), role: Role::User, kinds: None, hash: "0".repeat(64), expires_at: None }
}

#[test]
fn a_token_is_created_once_and_revoked_once() {
    let (created, create) = (TokenEvent::TokenCreated(token()), TokenCommand::Create(token()));
    let revoked = TokenEvent::TokenRevoked(TokenRevoked { reason: Some("lost".into()) });
    let revoke = TokenCommand::Revoke { reason: Some("lost".into()) };
    let decide = |events: &[TokenEvent], command| fold::<Token>(events).decide(command, now());
    assert_eq!(decide(&[], &create), Ok(vec![created.clone()]));
    assert_eq!(decide(&[], &revoke), Err(Rejection::NotFound));
    assert_eq!(decide(std::slice::from_ref(&created), &create), Err(Rejection::AlreadyExists));
    assert_eq!(decide(std::slice::from_ref(&created), &revoke), Ok(vec![revoked.clone()]));
    assert_eq!(decide(&[created.clone(), revoked.clone()], &revoke), Ok(Vec::new()));
    assert_eq!(decide(&[created, revoked], &create), Err(Rejection::AlreadyExists));
}

#[test]
fn a_session_is_opened_once_and_ended_once() {
    let opened = SessionOpened {
        subject: "anna".into(),
        role: Role::User,
        kinds: None,
        hash: "0".repeat(64),
        token: None,
        expires_at: now(),
    };
    let (open, end) = (SessionCommand::Open(opened.clone()), SessionCommand::End { reason: None });
    let opened = SessionEvent::SessionOpened(opened);
    let ended = SessionEvent::SessionEnded(SessionEnded { reason: None });
    let decide = |events: &[SessionEvent], command| fold::<Session>(events).decide(command, now());
    assert_eq!(decide(&[], &open), Ok(vec![opened.clone()]));
    assert_eq!(decide(&[], &end), Err(Rejection::NotFound));
    assert_eq!(decide(std::slice::from_ref(&opened), &open), Err(Rejection::AlreadyExists));
    assert_eq!(decide(std::slice::from_ref(&opened), &end), Ok(vec![ended.clone()]));
    assert_eq!(decide(&[opened, ended], &end), Ok(Vec::new()));
}

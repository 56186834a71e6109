//! Creates the recorded log `access`: tokens and sessions that are created, used, revoked, ended, and that expire.

use taskbell::store::{Recorded, StreamName, Via};
use taskbell::task::access::Role;
use taskbell::task::session::{SessionEnded, SessionEvent, SessionOpened};
use taskbell::task::token::{TokenCreated, TokenEvent, TokenRevoked};
use taskbell::task::{Command, Revision};
use uuid::Uuid;

use std::sync::Arc;
use std::time::Duration;

use super::main_walk::Walk;

const ROOT: (&str, Via) = ("root", Via::Http);
const MIRA: (&str, Via) = ("mira", Via::Http);

fn token(walk: &mut Walk, by: (&str, Via), created: TokenCreated) -> Uuid {
    walk.wait(200);
    let id = walk.id();
    walk.append(StreamName::token(id), None, vec![TokenEvent::TokenCreated(created)], by);
    id
}

fn session(walk: &mut Walk, token: Option<Uuid>, digit: char, seconds: u64) -> Uuid {
    walk.wait(200);
    let (id, expires_at) = (walk.id(), walk.now.plus(Duration::from_secs(seconds)));
    let hash = digit.to_string().repeat(64);
    let opened = SessionOpened { subject: "mira".into(), role: Role::User, kinds: None, hash, token, expires_at };
    walk.append(StreamName::session(id), None, vec![SessionEvent::SessionOpened(opened)], MIRA);
    id
}

/// The events of the whole log.
pub(super) fn record() -> Vec<Arc<Recorded>> {
    let mut walk = Walk::begin("2026-11-28T09:00:00Z");
    let created = |subject: &str, role, digit: char| TokenCreated {
        subject: subject.into(),
        role,
        kinds: None,
        hash: digit.to_string().repeat(64),
        expires_at: None,
    };
    token(&mut walk, ("ada", Via::Cli), created("root", Role::Admin, '1'));
    let of_mira = token(&mut walk, ROOT, created("mira", Role::User, '2'));
    let kinds = Some(vec!["video.render".to_owned()]);
    let expires_at = Some(walk.now.plus(Duration::from_hours(90 * 24)));
    token(&mut walk, ROOT, TokenCreated { kinds, expires_at, ..created("render-farm", Role::Worker, '3') });
    let first = session(&mut walk, Some(of_mira), 'a', 3600);
    let task = walk.create("mira", "The report of November", |new| new.kind = "report.build".into());
    let ended = SessionEvent::SessionEnded(SessionEnded { reason: Some("logged out".into()) });
    walk.wait(900);
    walk.append(StreamName::session(first), Some(Revision(0)), vec![ended], MIRA);
    session(&mut walk, Some(of_mira), 'b', 60);
    walk.wait(61_000);
    session(&mut walk, None, 'c', 12 * 3600);
    walk.does(
        task,
        MIRA,
        Command::RequestCancel { reason: None, policy: taskbell::task::event::CancelLadder::default() },
    );
    session(&mut walk, Some(of_mira), 'd', 3600);
    let revoked = TokenEvent::TokenRevoked(TokenRevoked { reason: Some("left the team".into()) });
    walk.append(StreamName::token(of_mira), Some(Revision(0)), vec![revoked], ROOT);
    walk.end()
}

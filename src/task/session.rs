//! The rules of a session: a browser opens it with another credential, and later ends it. The log holds a hash of the session's
//! secret and never the secret.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Decider;
use super::access::Role;
use super::command::Rejection;
use super::time::Timestamp;

/// The state of a `session-<uuid>` stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The session; `None` before the event `SessionOpened`.
    pub opened: Option<SessionOpened>,
    /// Whether the session was ended. A session that has expired has no event.
    pub ended: bool,
}

/// An event in the stream of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The session was opened.
    SessionOpened(SessionOpened),
    /// The session was ended before it expired.
    SessionEnded(SessionEnded),
}

/// See [`SessionEvent::SessionOpened`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionOpened {
    /// The subject of every request in this session.
    pub subject: String,
    /// The role of every request in this session.
    pub role: Role,
    /// The kinds whose leases a worker may take; null for any kind, and for other roles.
    pub kinds: Option<Vec<String>>,
    /// BLAKE3 of the session's secret, in hexadecimal.
    pub hash: String,
    /// The token that opened the session; null if another credential did. The session ends with the token.
    pub token: Option<Uuid>,
    /// When the session expires.
    pub expires_at: Timestamp,
}

/// See [`SessionEvent::SessionEnded`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnded {
    /// The reason, for people.
    pub reason: Option<String>,
}

/// A command on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// Open the session.
    Open(SessionOpened),
    /// End the session.
    End {
        /// The reason, for people.
        reason: Option<String>,
    },
}

impl Decider for Session {
    type Command = SessionCommand;
    type Event = SessionEvent;

    /// Ending an ended session leads to no event.
    fn decide(&self, command: &SessionCommand, _now: Timestamp) -> Result<Vec<SessionEvent>, Rejection> {
        match (command, &self.opened) {
            (SessionCommand::Open(new), None) => Ok(vec![SessionEvent::SessionOpened(new.clone())]),
            (SessionCommand::Open(_), Some(_)) => Err(Rejection::AlreadyExists),
            (SessionCommand::End { .. }, None) => Err(Rejection::NotFound),
            (SessionCommand::End { .. }, Some(_)) if self.ended => Ok(Vec::new()),
            (SessionCommand::End { reason }, Some(_)) => {
                Ok(vec![SessionEvent::SessionEnded(SessionEnded { reason: reason.clone() })])
            }
        }
    }

    fn evolve(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::SessionOpened(opened) => self.opened = Some(opened.clone()),
            SessionEvent::SessionEnded(_) => self.ended = true,
        }
    }
}

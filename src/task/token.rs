//! The rules of an API token: an admin creates it and can revoke it. The log holds a hash of the token and never the token.

use serde::{Deserialize, Serialize};

use super::Decider;
use super::access::Role;
use super::command::Rejection;
use super::limits::{Invalid, is_name, is_reserved, is_subject};
use super::time::Timestamp;

/// How many kinds a token may name.
pub const KINDS_MAX: usize = 64;

/// The state of a `token-<uuid>` stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// The token; `None` before the event `TokenCreated`.
    pub created: Option<TokenCreated>,
    /// Whether the token was revoked.
    pub revoked: bool,
}

/// An event in the stream of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenEvent {
    /// The token was created.
    TokenCreated(TokenCreated),
    /// The token was revoked. Requests, sockets and sessions with it are refused from now on.
    TokenRevoked(TokenRevoked),
}

/// See [`TokenEvent::TokenCreated`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCreated {
    /// The subject of every request with this token.
    pub subject: String,
    /// The role of every request with this token.
    pub role: Role,
    /// The kinds whose leases a worker may take; null for any kind, and for other roles.
    pub kinds: Option<Vec<String>>,
    /// BLAKE3 of the token, in hexadecimal.
    pub hash: String,
    /// When the token expires; null if it doesn't expire.
    pub expires_at: Option<Timestamp>,
}

/// See [`TokenEvent::TokenRevoked`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRevoked {
    /// The reason, as the admin gave it.
    pub reason: Option<String>,
}

impl TokenCreated {
    /// The invalid fields of a request for this token at this time. The list is empty if the request is valid.
    #[must_use]
    pub fn invalid_fields(&self, now: Timestamp) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        let mut rule = |holds: bool, pointer: String, detail: &str| {
            if !holds {
                invalid.push(Invalid::new(pointer, detail));
            }
        };
        let subject_rule = "1 to 128 printable characters, no comma; `system`, `local` and names that begin with `local/` are \
                            reserved";
        rule(is_subject(&self.subject), "/subject".into(), subject_rule);
        if let Some(kinds) = &self.kinds {
            rule(self.role == Role::Worker, "/kinds".into(), "only a token with the role `worker` has kinds");
            rule((1..=KINDS_MAX).contains(&kinds.len()), "/kinds".into(), "1 to 64 kinds, or null for any kind");
            for (index, kind) in kinds.iter().enumerate() {
                let kind_rule = "1 to 64 of a-z, 0-9, '.', '_', '-'; names that begin with `taskbell.` are reserved";
                rule(is_name(kind) && !is_reserved(kind), format!("/kinds/{index}"), kind_rule);
            }
        }
        let is_future = self.expires_at.is_none_or(|expires_at| expires_at > now);
        rule(is_future, "/expires_at".into(), "a time in the future");
        invalid
    }
}

/// A command of an admin on a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenCommand {
    /// Create the token.
    Create(TokenCreated),
    /// Revoke the token.
    Revoke {
        /// The reason, for people.
        reason: Option<String>,
    },
}

impl Decider for Token {
    type Command = TokenCommand;
    type Event = TokenEvent;

    /// Revoking a revoked token leads to no event.
    fn decide(&self, command: &TokenCommand, _now: Timestamp) -> Result<Vec<TokenEvent>, Rejection> {
        match (command, &self.created) {
            (TokenCommand::Create(new), None) => Ok(vec![TokenEvent::TokenCreated(new.clone())]),
            (TokenCommand::Create(_), Some(_)) => Err(Rejection::AlreadyExists),
            (TokenCommand::Revoke { .. }, None) => Err(Rejection::NotFound),
            (TokenCommand::Revoke { .. }, Some(_)) if self.revoked => Ok(Vec::new()),
            (TokenCommand::Revoke { reason }, Some(_)) => {
                Ok(vec![TokenEvent::TokenRevoked(TokenRevoked { reason: reason.clone() })])
            }
        }
    }

    fn evolve(&mut self, event: &TokenEvent) {
        match event {
            TokenEvent::TokenCreated(created) => self.created = Some(created.clone()),
            TokenEvent::TokenRevoked(_) => self.revoked = true,
        }
    }
}

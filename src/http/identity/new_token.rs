//! Makes a new API token that follows the rules. The server does it for a request, and the command line for a stopped server.

use uuid::Uuid;

use super::bearer::{BearerKind, BearerText};
use crate::http::plumbing::error::Problem;
use crate::store::new_id;
use crate::task::Timestamp;
use crate::task::access::Role;
use crate::task::token::TokenCreated;

/// What a new token is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The subject of every request with the token.
    pub subject: String,
    /// The role of every request with the token.
    pub role: Role,
    /// The kinds whose leases a worker may take. `None` for any kind, and for other roles.
    pub kinds: Option<Vec<String>>,
    /// When the token expires. `None` if it doesn't expire.
    pub expires_at: Option<Timestamp>,
}

/// A token that is not in the log yet.
#[derive(Debug)]
pub struct NewToken {
    /// The id.
    pub id: Uuid,
    /// The text, which only its holder may get.
    pub text: BearerText,
    /// What the log is to hold.
    pub created: TokenCreated,
}

impl TokenRequest {
    /// Makes the token, with new random bits.
    ///
    /// # Errors
    /// 422 if the request breaks a rule; 503 `busy` if the operating system gives no random bits.
    pub fn make(self, now: Timestamp) -> Result<NewToken, Problem> {
        let id = new_id();
        let text = BearerText::generate(BearerKind::Token, id)?;
        let Self { subject, role, kinds, expires_at } = self;
        let created = TokenCreated { subject, role, kinds, hash: text.hash(), expires_at };
        let invalid = created.invalid_fields(now);
        if invalid.is_empty() { Ok(NewToken { id, text, created }) } else { Err(Problem::invalid(invalid)) }
    }
}

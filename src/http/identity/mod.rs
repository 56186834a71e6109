//! Who sends a request: the credential of a request, the subject and role that it stands for, and how long it is valid.
//!
//! The middleware authenticates each request with [`authenticate`] before a handler runs. The handler gets the result as a
//! [`Caller`](super::plumbing::caller::Caller) and asks it before each action (`Caller::check`). [`validity`] tells requests and
//! sockets that outlive one check when their credential has ended.

use std::sync::Arc;

use uuid::Uuid;

use crate::task::Timestamp;
use crate::task::access::Role;

pub mod authenticate;
pub mod bearer;
pub mod cookie;
pub mod jwt;
pub mod new_token;
pub mod proxy_header;
mod rate_limit;
pub mod request_rate;
pub mod settings;
pub mod tickets;
pub mod token_uses;
pub mod validity;
pub mod verifiers;

/// The subject of the requests without a credential, on a server that requires none.
pub const LOCAL_USER: &str = "local";

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who the caller is: the name of a person or a program.
    pub subject: String,
    /// What the caller may do.
    pub role: Role,
    /// The kinds whose leases a worker may take. `None` for any kind.
    pub kinds: Option<Arc<[String]>>,
    /// What the request has proved its subject with.
    pub credential: Credential,
    /// When the credential expires. `None` if it doesn't expire.
    pub expires_at: Option<Timestamp>,
}

/// What a request proves its subject with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Nothing: the server listens on a loopback address and requires no authentication, or the call comes from the program
    /// that embeds the server.
    Local,
    /// An API token.
    Token(Uuid),
    /// A session of a browser, or of a user of an embedding page.
    Session(Uuid),
    /// A JWT of the configured issuer.
    Jwt,
    /// A header that the configured proxy has set.
    Proxy,
}

impl Identity {
    /// The local user, who is an admin.
    #[must_use]
    pub fn local() -> Self {
        Self {
            subject: LOCAL_USER.to_owned(),
            role: Role::Admin,
            kinds: None,
            credential: Credential::Local,
            expires_at: None,
        }
    }

    /// Whether the caller sees the tasks of all owners if its request names no owner. Only the local user of a server without
    /// authentication does.
    #[must_use]
    pub fn sees_everyone_by_default(&self) -> bool {
        self.credential == Credential::Local
    }

    /// Whether the caller may take leases of this kind.
    #[must_use]
    pub fn may_lease(&self, kind: &str) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|allowed| allowed == kind))
    }
}

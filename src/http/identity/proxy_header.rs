//! The header of a proxy that authenticates: only from the addresses of the proxy, and only if it says one thing.
//!
//! A client that reaches the server directly can send the same headers. They are ignored, so the request needs a credential of
//! its own. A proxy must replace these headers in what its clients send: a header that arrives twice is refused.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderValue};

use super::settings::{ProxySecret, ProxySettings};
use crate::task::access::Role;
use crate::task::limits::is_subject;

/// Who sends a request through the proxy, as the proxy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyUser {
    /// The subject.
    pub subject: String,
    /// The role.
    pub role: Role,
}

/// Why the headers of the proxy are refused. This is for the log; the client gets the same 401 for each reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyRefusal {
    /// The proxy has sent no secret, another one, or several.
    #[error("the proxy's secret is missing or wrong")]
    Secret,
    /// A header arrives twice.
    #[error("a header of the proxy arrives more than once")]
    Repeated,
    /// The subject is not valid.
    #[error("the proxy's subject is not 1 to 128 printable characters without a comma")]
    Subject,
    /// The role header names no role.
    #[error("the proxy's role is none of this server's roles")]
    Role,
    /// There is no role header, and the settings name no role for that.
    #[error("the proxy names no role, and there is no default_role")]
    NoRole,
}

impl ProxySettings {
    /// Who the proxy says sends this request. `None` if the request doesn't come from an address of the proxy, or has no header
    /// with a subject.
    ///
    /// # Errors
    /// The request comes from the proxy, and its headers are not valid.
    pub fn user(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<Option<ProxyUser>, ProxyRefusal> {
        if !peer.is_some_and(|peer| self.is_at(peer)) || !headers.contains_key(self.subject_header.as_str()) {
            return Ok(None);
        }
        if let Some(secret) = &self.secret {
            secret.check(headers)?;
        }
        let subject = single(headers, &self.subject_header)?.and_then(|subject| str::from_utf8(subject).ok());
        let subject = subject.filter(|subject| is_subject(subject)).ok_or(ProxyRefusal::Subject)?;
        Ok(Some(ProxyUser { subject: subject.to_owned(), role: self.role(headers)? }))
    }

    /// Whether this is an address of the proxy.
    #[must_use]
    pub fn is_at(&self, peer: IpAddr) -> bool {
        self.addresses.iter().any(|network| network.contains(peer))
    }

    fn role(&self, headers: &HeaderMap) -> Result<Role, ProxyRefusal> {
        let header = self.role_header.as_deref().map_or(Ok(None), |name| single(headers, name))?;
        match header {
            Some(name) => str::from_utf8(name).ok().and_then(Role::from_name).ok_or(ProxyRefusal::Role),
            None => self.default_role.ok_or(ProxyRefusal::NoRole),
        }
    }
}

impl ProxySecret {
    /// The comparison of the hashes takes the same time for each secret, also for one of another length.
    fn check(&self, headers: &HeaderMap) -> Result<(), ProxyRefusal> {
        let sent = single(headers, &self.header)?.ok_or(ProxyRefusal::Secret)?;
        let is_right = blake3::hash(sent) == blake3::hash(self.secret.reveal().as_bytes());
        if is_right { Ok(()) } else { Err(ProxyRefusal::Secret) }
    }
}

/// The value of a header that must not arrive twice.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, ProxyRefusal> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(HeaderValue::as_bytes)),
        (_, Some(_)) => Err(ProxyRefusal::Repeated),
    }
}

//! Whether a credential is still valid. Requests that wait, responses that go on and open sockets end with their credential.

use std::future::pending;
use std::time::Duration;

use super::authenticate::unauthenticated;
use super::{Credential, Identity};
use crate::http::plumbing::error::Problem;
use crate::projection::reader::ViewsReader;
use crate::store::now;
use crate::task::Timestamp;

/// The longest sleep until the next look at the clock. The wall clock may be set, and a sleep goes by another clock.
const SLEEP_MAX: Duration = Duration::from_mins(1);

impl Identity {
    /// Whether the credential can expire or be revoked.
    #[must_use]
    pub fn can_end(&self) -> bool {
        self.credential != Credential::Local
    }

    /// Whether the credential is valid at this time, as far as the views show.
    #[must_use]
    pub fn is_valid(&self, reader: &ViewsReader, now: Timestamp) -> bool {
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return false;
        }
        match self.credential {
            Credential::Local | Credential::Jwt | Credential::Proxy => true,
            Credential::Token(id) => reader.views().credentials().valid_token(id, now).is_some(),
            Credential::Session(id) => reader.views().credentials().valid_session(id, now).is_some(),
        }
    }

    /// Refuses a request whose credential has ended since it began.
    ///
    /// # Errors
    /// 401 if the credential has ended.
    pub fn require_valid(&self, reader: &ViewsReader) -> Result<(), Problem> {
        if self.is_valid(reader, now()) { Ok(()) } else { Err(unauthenticated()) }
    }

    /// Waits until the credential has expired or was revoked. Never returns for a credential that can't end.
    pub async fn wait_for_end(&self, reader: &ViewsReader) {
        if !self.can_end() {
            return pending().await;
        }
        let mut changes = reader.credential_changes();
        loop {
            changes.borrow_and_update();
            let now = now();
            if !self.is_valid(reader, now) {
                return;
            }
            let until_expiry = self.expires_at.map_or(SLEEP_MAX, |expires_at| expires_at.since(now)).min(SLEEP_MAX);
            tokio::select! {
                // An error says that the projector has ended, and with it the process.
                result = changes.changed() => if result.is_err() { return pending().await },
                () = tokio::time::sleep(until_expiry) => {}
            }
        }
    }

    /// Runs a request that waits, until it ends or the credential does.
    ///
    /// # Errors
    /// 401 if the credential ends first.
    pub async fn while_valid<T>(&self, reader: &ViewsReader, request: impl Future<Output = T>) -> Result<T, Problem> {
        tokio::select! {
            result = request => Ok(result),
            () = self.wait_for_end(reader) => Err(unauthenticated()),
        }
    }
}

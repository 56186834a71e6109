//! Who may read the log over gRPC: callers with an API token whose role may read the log. Wrong passwords count together with the
//! wrong credentials of HTTP, and requests with those of HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Resource, getrlimit};

use crate::http::AppState;
use crate::http::identity::authenticate::identify;
use crate::http::identity::bearer::{BearerKind, ClaimedBearer};
use crate::http::identity::token_uses::TokenUses;
use crate::http::identity::verifiers::Verifiers;
use crate::http::identity::{Credential, Identity};
use crate::projection::reader::ViewsReader;
use crate::store::now;
use crate::task::access::{Access, Action, decide_access};
use crate::wire::{ConnectionLimits, LogAccessError, LogAuthenticator, LogReader};

/// The most connections for the log, however many files the process may open.
const CONNECTIONS_MAX: u64 = 256;
/// The least number of connections for the log.
const CONNECTIONS_MIN: u64 = 8;
/// The log has one connection for so many files that the process may open. The HTTP server leaves twice as many files to others.
const FILES_PER_CONNECTION: u64 = 32;

/// The limits on the clients of the log. A request must come as fast as the head of a request of HTTP. One address can use half of
/// the connections.
pub(super) fn connection_limits(header_timeout: Duration) -> ConnectionLimits {
    let open_files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let total = (open_files / FILES_PER_CONNECTION).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    ConnectionLimits { total, per_address: total / 2, request_timeout: header_timeout }
}

/// Looks up the API tokens in the views.
pub(super) struct TokensInViews {
    views: ViewsReader,
    verifiers: Verifiers,
    uses: TokenUses,
}

struct TokenHolder {
    identity: Identity,
    sees_everything: bool,
    views: ViewsReader,
}

impl TokensInViews {
    pub(super) fn new(state: &AppState) -> Self {
        let (views, verifiers) = (state.reader.clone(), state.verifiers.clone());
        Self { views, verifiers, uses: state.token_uses.clone() }
    }

    /// The holder of the token that the password is. Counts a wrong password.
    fn holder(&self, password: &str, client: Option<IpAddr>) -> Result<Identity, LogAccessError> {
        let now = now();
        let claimed = ClaimedBearer::parse(password).filter(|claimed| claimed.kind == BearerKind::Token);
        let identity = claimed.and_then(|claimed| identify(self.views.views().credentials(), &claimed, now));
        let Some(identity) = identity else {
            // Only wrong passwords count, and only they are refused: other clients of the address go on.
            self.verifiers.failures.check(client).map_err(|problem| LogAccessError::TooOften(problem.detail))?;
            self.verifiers.failures.count(client);
            return Err(LogAccessError::Unauthenticated);
        };
        if let Credential::Token(id) = identity.credential {
            self.uses.note(id, now);
        }
        Ok(identity)
    }

    /// The reader that this holder of a token is.
    fn reader(&self, identity: Identity) -> Result<TokenHolder, LogAccessError> {
        let counted = self.verifiers.requests.count(&identity);
        counted.map_err(|problem| LogAccessError::TooOften(problem.detail))?;
        let sees_everything = match decide_access(identity.role, &identity.subject, Action::ReadLog) {
            Access::Granted => true,
            Access::GrantedRedacted => false,
            Access::Hidden | Access::Denied => return Err(LogAccessError::Denied),
        };
        Ok(TokenHolder { identity, sees_everything, views: self.views.clone() })
    }
}

/// Writes a refused attempt to the program's log, as the HTTP server does.
fn log_refusal(client: Option<IpAddr>, subject: Option<&str>, error: &LogAccessError) {
    let code = match error {
        LogAccessError::Unauthenticated => "unauthenticated",
        LogAccessError::Denied => "forbidden",
        LogAccessError::TooOften(_) => "too_many_requests",
    };
    let address = client.map(tracing::field::display);
    tracing::info!(target: "taskbell::access", address, subject, code, "a request for the log is refused");
}

impl LogAuthenticator for TokensInViews {
    fn authenticate(
        &self,
        password: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<Arc<dyn LogReader>, LogAccessError> {
        let holder = password.ok_or(LogAccessError::Unauthenticated).and_then(|password| self.holder(password, client));
        let identity = holder.inspect_err(|error| log_refusal(client, None, error))?;
        let subject = identity.subject.clone();
        let reader = self.reader(identity).inspect_err(|error| log_refusal(client, Some(&subject), error))?;
        Ok(Arc::new(reader))
    }
}

#[async_trait]
impl LogReader for TokenHolder {
    fn sees_everything(&self) -> bool {
        self.sees_everything
    }

    async fn wait_for_end(&self) {
        self.identity.wait_for_end(&self.views).await;
    }
}

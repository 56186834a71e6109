//! Finds out who sends a request, from its headers and the credentials in the views.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::AUTHORIZATION;

use super::bearer::{BearerKind, ClaimedBearer};
use super::{Credential, Identity};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::forwarded::Client;
use crate::http::state::AppState;
use crate::store::now;
use crate::task::Timestamp;
use crate::views::Credentials;

/// The identity of the request's caller. A request without a credential comes from the local user if the server requires no
/// authentication. A wrong credential is refused on every server.
///
/// # Errors
/// 401 `unauthenticated`; 429 `too_many_requests` if the subject has sent too many requests, or if too many credentials from the
/// address were wrong.
pub async fn authenticate(state: &AppState, request: &ServiceRequest) -> Result<Identity, Problem> {
    let (verifiers, peer) = (&state.verifiers, request.peer_addr().map(|peer| peer.ip()));
    let client = request.extensions().get::<Client>().and_then(|client| client.address);
    let named_by_proxy = verifiers.proxy_identity(peer, request.headers()).map_err(|why| refuse(peer, &why))?;
    let identity = if let Some(identity) = named_by_proxy {
        identity
    } else if request.headers().contains_key(AUTHORIZATION) {
        let counted = verifiers.counted_address(client);
        verifiers.failures.check(counted)?;
        bearer_identity(state, request, client).await.inspect_err(|_| verifiers.failures.count(counted))?
    } else if state.auth_required {
        return Err(unauthenticated());
    } else {
        // The only subject of such a server has no rate: nobody else is there whom it could disturb.
        return Ok(Identity::local());
    };
    verifiers.requests.count(&identity.subject)?;
    Ok(identity)
}

/// The identity of the bearer in the header `Authorization`.
async fn bearer_identity(
    state: &AppState,
    request: &ServiceRequest,
    client: Option<IpAddr>,
) -> Result<Identity, Problem> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let (authorization, has_another) = (values.next(), values.next().is_some());
    let text = authorization.and_then(|value| value.to_str().ok()).filter(|_| !has_another);
    let (scheme, credential) = text.and_then(|text| text.split_once(' ')).ok_or_else(unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated());
    }
    let jwt = state.verifiers.jwt_identity(credential, now()).await.map_err(|why| refuse(client, &why))?;
    if let Some(identity) = jwt {
        return Ok(identity);
    }
    let claimed = ClaimedBearer::parse(credential).ok_or_else(unauthenticated)?;
    identify(state.reader.views().credentials(), &claimed, now()).ok_or_else(unauthenticated)
}

/// 401. The log gets the reason, and the client doesn't.
fn refuse(client: Option<IpAddr>, why: &dyn std::error::Error) -> Problem {
    tracing::info!(target: "taskbell::access", ?client, %why, "a credential is refused");
    unauthenticated()
}

/// The identity of this bearer, if the views show that it is valid at this time.
#[must_use]
pub fn identify(credentials: &Credentials, claimed: &ClaimedBearer, now: Timestamp) -> Option<Identity> {
    let kinds = |kinds: &Option<Vec<String>>| kinds.as_deref().map(Arc::from);
    match claimed.kind {
        BearerKind::Token => {
            let token = &credentials.valid_token(claimed.id, now)?.created;
            claimed.has_hash(&token.hash).then(|| Identity {
                subject: token.subject.clone(),
                role: token.role,
                kinds: kinds(&token.kinds),
                credential: Credential::Token(claimed.id),
                expires_at: token.expires_at,
            })
        }
        BearerKind::Session => {
            let session = credentials.valid_session(claimed.id, now)?;
            claimed.has_hash(&session.hash).then(|| Identity {
                subject: session.subject.clone(),
                role: session.role,
                kinds: kinds(&session.kinds),
                credential: Credential::Session(claimed.id),
                expires_at: Some(session.expires_at),
            })
        }
    }
}

/// 401. The text is the same for every reason, so that it says nothing about the credentials that exist.
#[must_use]
pub fn unauthenticated() -> Problem {
    Problem::new(Refusal::Unauthenticated, "a valid credential is needed: `Authorization: Bearer …`, or a session")
}

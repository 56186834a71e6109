//! Finds out who sends a request, from its headers and the credentials in the views.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, ORIGIN, UPGRADE};

use super::bearer::{BearerKind, ClaimedBearer};
use super::cookie::{ForgetCookie, FoundCookie, SessionCookie};
use super::jwt::JwtVerifier;
use super::{Credential, Identity};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::forwarded::Client;
use crate::http::plumbing::origin::{Sender, changes_something};
use crate::http::state::AppState;
use crate::store::now;
use crate::task::Timestamp;
use crate::views::Credentials;

/// The identity of the request's caller. A request without a credential comes from the local user if the server requires no
/// authentication. A wrong credential is refused on every server. The header of a proxy counts first, then `Authorization`, a
/// ticket, and the cookie.
///
/// # Errors
/// 401 `unauthenticated`; 429 `too_many_requests` if too many requests have come with the token, or from the subject without
/// a token, or if too many credentials from the address were wrong; 403 `forbidden_origin` if a request changes something by a
/// cookie and no header says which page has sent it.
pub async fn authenticate(state: &AppState, request: &ServiceRequest, sender: &Sender) -> Result<Identity, Problem> {
    let (verifiers, peer) = (&state.verifiers, request.peer_addr().map(|peer| peer.ip()));
    let client = request.extensions().get::<Client>().and_then(|client| client.address);
    // A proxy adds its header to the requests of every page, as a browser adds cookies. So it doesn't count for other pages.
    let named_by_proxy = match sender {
        Sender::AllowedPage(_) => None,
        Sender::OwnPage | Sender::Program => {
            verifiers.proxy_identity(peer, request.headers(), now()).map_err(|why| refuse(peer, &why))?
        }
    };
    let identity = if named_by_proxy.is_some() {
        named_by_proxy
    } else {
        let counted = verifiers.counted_address(client);
        match sent_identity(state, request, sender, client).await {
            // Only wrong credentials count, and only they are refused: other clients of the address go on.
            Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
                verifiers.failures.check(counted)?;
                verifiers.failures.count(counted);
                return Err(problem);
            }
            sent => sent?,
        }
    };
    let Some(identity) = identity else {
        // The local user has no rate: such a server has no other callers whose requests it could delay.
        return if state.auth_required { Err(unauthenticated()) } else { Ok(Identity::local()) };
    };
    verifiers.requests.count(&identity)?;
    Ok(identity)
}

/// The identity of the credential that the client has sent; `None` if it has sent none.
async fn sent_identity(
    state: &AppState,
    request: &ServiceRequest,
    sender: &Sender,
    client: Option<IpAddr>,
) -> Result<Option<Identity>, Problem> {
    if request.headers().contains_key(AUTHORIZATION) {
        // The future of this case is large. In a box it doesn't enlarge the future of each request.
        return Box::pin(bearer_identity(state, request, client)).await.map(Some);
    }
    authenticate_browser(state, request, sender)
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
    if JwtVerifier::has_form_of_jwt(credential) {
        // The check of a signature costs much more than a hash.
        state.verifiers.failures.check(state.verifiers.counted_address(client))?;
    }
    let jwt = state.verifiers.jwt_identity(credential, now()).await.map_err(|why| refuse(client, &why))?;
    if let Some(identity) = jwt {
        return Ok(identity);
    }
    let claimed = ClaimedBearer::parse(credential).ok_or_else(unauthenticated)?;
    let now = now();
    let identity = identify(state.reader.views().credentials(), &claimed, now).ok_or_else(unauthenticated)?;
    if let Credential::Token(id) = identity.credential {
        state.token_uses.note(id, now);
    }
    Ok(identity)
}

/// 401. The log gets the reason, and the client doesn't.
fn refuse(client: Option<IpAddr>, why: &dyn std::error::Error) -> Problem {
    let client = client.map(tracing::field::display);
    tracing::info!(target: "taskbell::access", client, %why, "a credential is refused");
    unauthenticated()
}

/// The identity that the request's ticket or cookie stands for; `None` if it has neither. The cookie counts only for requests
/// of this server's own pages and of programs, because a browser adds it to requests of other pages too.
fn authenticate_browser(
    state: &AppState,
    request: &ServiceRequest,
    sender: &Sender,
) -> Result<Option<Identity>, Problem> {
    if let Some(ticket) = ticket_of(request) {
        let origin = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok());
        let identity = state.tickets.redeem(&ticket, origin, Instant::now());
        let identity = identity.filter(|identity| identity.is_valid(&state.reader, now()));
        return identity.map(Some).ok_or_else(unauthenticated);
    }
    if sender.allowed_origin().is_some() {
        return Ok(None);
    }
    let cookie = SessionCookie::of(request.request(), &state.public_address);
    let identity = match cookie.find(request.headers()) {
        FoundCookie::None => return Ok(None),
        FoundCookie::Malformed => None,
        FoundCookie::Session(claimed) => identify(state.reader.views().credentials(), &claimed, now()),
    };
    if identity.is_none() {
        request.extensions_mut().insert(ForgetCookie(cookie));
        return Err(unauthenticated());
    }
    if *sender == Sender::Program && changes_something(request.method(), request.headers()) {
        let detail = "a session's cookie needs the header `Sec-Fetch-Site` or `Origin`, as browsers send them";
        return Err(Problem::new(Refusal::ForbiddenOrigin, detail));
    }
    Ok(identity)
}

/// The ticket in the query of a websocket's request.
fn ticket_of(request: &ServiceRequest) -> Option<String> {
    if !request.path().ends_with("/v1/live") || !request.headers().contains_key(UPGRADE) {
        return None;
    }
    let mut query = form_urlencoded::parse(request.query_string().as_bytes());
    query.find_map(|(name, value)| (name == "ticket").then(|| value.into_owned()))
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
    Problem::unauthenticated()
}

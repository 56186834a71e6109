//! Finds out who sends a request, from its headers and the credentials in the views.

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::AUTHORIZATION;

use super::bearer::{BearerKind, ClaimedBearer};
use super::{Credential, Identity};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::state::AppState;
use crate::store::now;
use crate::task::Timestamp;
use crate::views::Credentials;

/// The identity of the request's caller. A request without a credential comes from the local user if the server requires no
/// authentication. A wrong credential is refused on every server.
///
/// # Errors
/// 401 `unauthenticated`.
pub async fn authenticate(state: &AppState, request: &ServiceRequest) -> Result<Identity, Problem> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let (authorization, has_another) = (values.next(), values.next().is_some());
    let Some(authorization) = authorization else {
        return if state.auth_required { Err(unauthenticated()) } else { Ok(Identity::local()) };
    };
    let text = authorization.to_str().ok().filter(|_| !has_another).ok_or_else(unauthenticated)?;
    let (scheme, credential) = text.split_once(' ').ok_or_else(unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated());
    }
    let claimed = ClaimedBearer::parse(credential).ok_or_else(unauthenticated)?;
    let now = now();
    let identity = identify(state.reader.views().credentials(), &claimed, now).ok_or_else(unauthenticated)?;
    if let Credential::Token(id) = identity.credential {
        state.token_uses.note(id, now);
    }
    Ok(identity)
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

//! Sessions. A browser opens one with another credential, and then sends its cookie. The back end of an embedding page opens one
//! for a user of that page, and hands it to the page, which sends it in a header.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AppState;
use super::identity::authenticate::unauthenticated;
use super::identity::bearer::{BearerKind, BearerText};
use super::identity::cookie::SessionCookie;
use super::identity::{Credential, Identity};
use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::json;
use super::plumbing::origin::Sender;
use super::plumbing::query::Fields;
use super::plumbing::request::check_reason;
use crate::store::{new_id, now};
use crate::streams::ExecuteOnStream;
use crate::task::Timestamp;
use crate::task::access::{Action, Role};
use crate::task::limits::is_subject;
use crate::task::session::{Session, SessionCommand, SessionOpened};

pub(super) mod docs;

/// The sessions that a subject may have at a time. Each takes memory until it expires.
const SESSIONS_MAX: usize = 100;
/// The longest time of a browser's session.
const SESSION_TIME: Duration = Duration::from_hours(12);
/// The longest time of a session for a user of an embedding page.
const USER_SESSION_TIME: Duration = Duration::from_mins(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSession {
    subject: Option<String>,
}

/// Which sessions a request ends, and why.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndedSessions {
    /// `None`: the caller's own session.
    subject: Option<String>,
    reason: Option<String>,
}

/// How many sessions a request has ended.
#[derive(Serialize)]
struct EndedDoc {
    ended: usize,
}

/// Who the caller is.
#[derive(Serialize)]
struct SessionDoc<'a> {
    subject: &'a str,
    role: Role,
    kinds: Option<&'a [String]>,
    expires_at: Option<Timestamp>,
    /// The `owner` of a list without this parameter; `*` for everyone.
    default_owner: &'a str,
    may_see_everyone: bool,
    credential: &'static str,
}

/// A session that is sent as `Authorization: Bearer`.
#[derive(Serialize)]
struct BearerDoc<'a> {
    token: &'a str,
    subject: &'a str,
    role: Role,
    expires_at: Timestamp,
}

impl<'a> SessionDoc<'a> {
    fn new(identity: &'a Identity) -> Self {
        Self {
            subject: &identity.subject,
            role: identity.role,
            kinds: identity.kinds.as_deref(),
            expires_at: identity.expires_at,
            default_owner: if identity.sees_everyone_by_default() { "*" } else { &identity.subject },
            may_see_everyone: identity.role.sees_everyone(),
            credential: match identity.credential {
                Credential::Local => "local",
                Credential::Token(_) => "token",
                Credential::Session(_) => "session",
                Credential::Jwt => "jwt",
                Credential::Proxy => "proxy",
            },
        }
    }
}

/// `GET /v1/session`: who the caller is.
///
/// # Errors
/// 401, 422 if there are query parameters.
pub async fn show(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    caller.check(Action::UseSession)?;
    Ok(HttpResponse::Ok().json(SessionDoc::new(&caller.identity)))
}

/// `POST /v1/session`: without a body, opens a session for the caller's subject, and sets its cookie. With a body `{"subject"}`,
/// opens a session of 5 minutes for a user with this subject, and returns its text.
///
/// # Errors
/// 400, 401, 403 if the role may not open a session for another subject, or if a page of another origin asks for a cookie, 409
/// `session_not_needed` if the caller is the local user, 422, 503.
pub async fn open(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let body: Option<NewSession> = json::read_optional(&request, payload, json::BodyKind::One).await?;
    match body.and_then(|body| body.subject) {
        None => open_own(&state, &caller, &request).await,
        Some(subject) => open_for_user(&state, &caller, subject).await,
    }
}

async fn open_own(state: &AppState, caller: &Caller, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    caller.check(Action::UseSession)?;
    if caller.identity.credential == Credential::Local {
        let detail = "this server requires no authentication: the local user has no session";
        return Err(Problem::new(Refusal::SessionNotNeeded, detail));
    }
    if matches!(request.extensions().get::<Sender>(), Some(Sender::AllowedPage(_))) {
        let detail = "a page of another origin gets no cookie; its back end can send {\"subject\": …} with its token";
        return Err(Problem::new(Refusal::ForbiddenOrigin, detail));
    }
    let identity = &caller.identity;
    let (subject, kinds) = (identity.subject.clone(), identity.kinds.as_ref().map(|kinds| kinds.to_vec()));
    let (id, session, expires_at) = record_opened(state, caller, (subject, identity.role, kinds), SESSION_TIME).await?;
    // The new session replaces the one that has opened it. Otherwise it would outlive the sign-out of that one.
    if let Credential::Session(former) = identity.credential {
        record_ended(state, caller, former, Some("replaced by another session".to_owned())).await?;
    }
    let identity = Identity { credential: Credential::Session(id), expires_at: Some(expires_at), ..identity.clone() };
    let mut response = HttpResponse::Created().json(SessionDoc::new(&identity));
    let seconds = i64::try_from(expires_at.since(now()).as_secs()).unwrap_or(0);
    let cookie = SessionCookie::of(request, &state.public_address).set(&session, seconds);
    let cookie = cookie.ok_or_else(|| Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR))?;
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

async fn open_for_user(state: &AppState, caller: &Caller, subject: String) -> Result<HttpResponse, Problem> {
    caller.check(Action::OpenSessionOfUser)?;
    check_subject(&subject)?;
    let (_, session, expires_at) =
        record_opened(state, caller, (subject.clone(), Role::User, None), USER_SESSION_TIME).await?;
    let doc = BearerDoc { token: session.reveal(), subject: &subject, role: Role::User, expires_at };
    Ok(HttpResponse::Created().json(doc))
}

/// Records a new session and waits until the views show it. It expires after this time, or with the credential that opens it,
/// whichever is earlier. It ends with the token that opens it; a session hands its own token on.
async fn record_opened(
    state: &AppState,
    caller: &Caller,
    (subject, role, kinds): (String, Role, Option<Vec<String>>),
    time: Duration,
) -> Result<(Uuid, BearerText, Timestamp), Problem> {
    let (id, at) = (new_id(), now());
    if state.reader.views().credentials().sessions_of(&subject, at) >= SESSIONS_MAX {
        let detail = format!("a subject has at most {SESSIONS_MAX} sessions at a time");
        return Err(Problem::new(Refusal::TooManyRequests, detail));
    }
    let session = BearerText::generate(BearerKind::Session, id)?;
    let latest = at.plus(time);
    let expires_at = caller.identity.expires_at.map_or(latest, |expires_at| expires_at.min(latest));
    let token = match caller.identity.credential {
        Credential::Token(token) => Some(token),
        Credential::Session(opener) => {
            let views = state.reader.views();
            views.credentials().valid_session(opener, at).ok_or_else(unauthenticated)?.token
        }
        Credential::Local | Credential::Jwt | Credential::Proxy => None,
    };
    let opened = SessionOpened { subject, role, kinds, hash: session.hash(), token, expires_at };
    execute(state, caller, id, SessionCommand::Open(opened)).await?;
    Ok((id, session, expires_at))
}

async fn record_ended(state: &AppState, caller: &Caller, id: Uuid, reason: Option<String>) -> Result<(), Problem> {
    execute(state, caller, id, SessionCommand::End { reason }).await
}

/// Executes the command, and waits until the views show its events.
async fn execute(state: &AppState, caller: &Caller, key: Uuid, command: SessionCommand) -> Result<(), Problem> {
    if append(state, caller, key, command).await? {
        state.reader.wait_for_position(state.store.head().position).await;
    }
    Ok(())
}

/// Executes the command. Returns whether it has led to an event.
async fn append(state: &AppState, caller: &Caller, key: Uuid, command: SessionCommand) -> Result<bool, Problem> {
    let execute = ExecuteOnStream::<Session> { key, command, at: now(), meta: caller.meta() };
    Ok(state.registry.execute_on_stream(execute).await?.appended > 0)
}

/// `DELETE /v1/session`: ends the caller's session. Its cookie is cleared, and its websockets are closed. With a body
/// `{"subject"}`, ends all sessions of this subject, and returns their number.
///
/// # Errors
/// 400, 401, 403 if the role may not end the sessions of a subject, 404 if the caller's credential is no session, 422, 503.
pub async fn end(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let body: Option<EndedSessions> = json::read_optional(&request, payload, json::BodyKind::One).await?;
    let EndedSessions { subject, reason } = body.unwrap_or_default();
    caller.check(if subject.is_some() { Action::EndSessionsOfSubject } else { Action::UseSession })?;
    let reason = check_reason(reason)?;
    match subject {
        None => end_own(&state, &caller, &request, reason).await,
        Some(subject) => end_all_of(&state, &caller, &subject, reason).await,
    }
}

async fn end_own(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    reason: Option<String>,
) -> Result<HttpResponse, Problem> {
    let Credential::Session(id) = caller.identity.credential else { return Err(Problem::not_found()) };
    record_ended(state, caller, id, reason).await?;
    let mut response = HttpResponse::NoContent().finish();
    if let Some(cookie) = SessionCookie::of(request, &state.public_address).clear() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Ends the sessions that the subject has when the request arrives. If the log fails between two of them, a repeated request ends
/// the rest.
async fn end_all_of(
    state: &AppState,
    caller: &Caller,
    subject: &str,
    reason: Option<String>,
) -> Result<HttpResponse, Problem> {
    check_subject(subject)?;
    // A session that was opened a moment ago may be in the log and not yet in the views.
    if !state.reader.wait_for_position(state.store.head().position).await {
        return Err(Problem::behind(state.reader.failure().is_some()));
    }
    let sessions = state.reader.views().credentials().valid_sessions_of(subject, now());
    let mut ended = 0_usize;
    for id in sessions {
        let command = SessionCommand::End { reason: reason.clone() };
        ended += usize::from(append(state, caller, id, command).await?);
    }
    state.reader.wait_for_position(state.store.head().position).await;
    Ok(HttpResponse::Ok().json(EndedDoc { ended }))
}

fn check_subject(subject: &str) -> Result<(), Problem> {
    if is_subject(subject) {
        return Ok(());
    }
    let detail = "1 to 128 printable characters, no comma, and none of the names that the server itself uses";
    Err(Problem::invalid_field("/subject", detail))
}

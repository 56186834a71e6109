//! Routes of API tokens: create, list and revoke them. Only an admin may use them.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::AppState;
use super::identity::bearer::BearerText;
use super::identity::new_token::TokenRequest;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::{Fields, invalid_cursor};
use super::plumbing::request::{read_reason, uuid_in_path};
use super::plumbing::response::{respond_with_position, wait_for_min_position};
use crate::store::{Recorded, StreamName, now};
use crate::streams::ExecuteOnStream;
use crate::task::access::{Action, Role};
use crate::task::token::{Token, TokenCommand, TokenCreated};
use crate::task::{Invalid, Position, Revision, Timestamp};
use crate::views::Views;

pub(super) mod docs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    subject: String,
    role: String,
    kinds: Option<Vec<String>>,
    expires_at: Option<Timestamp>,
    expires_in_s: Option<u64>,
}

#[derive(Serialize)]
struct TokenDoc<'a> {
    id: Uuid,
    /// Only in the response to the request that creates the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    subject: &'a str,
    role: Role,
    kinds: Option<&'a [String]>,
    created_at: Timestamp,
    created_by: &'a str,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

#[derive(Serialize)]
struct TokenList<'a> {
    items: Vec<TokenDoc<'a>>,
    next: Option<String>,
    prev: Option<String>,
    total: usize,
    position: Position,
}

impl<'a> TokenDoc<'a> {
    fn new(id: Uuid, created: &'a TokenCreated, created_at: Timestamp, created_by: &'a str) -> Self {
        Self {
            id,
            token: None,
            subject: &created.subject,
            role: created.role,
            kinds: created.kinds.as_deref(),
            created_at,
            created_by,
            expires_at: created.expires_at,
            revoked_at: None,
            last_used_at: None,
            position: None,
        }
    }
}

impl TokenBody {
    fn check(self, now: Timestamp) -> Result<TokenRequest, Problem> {
        let mut invalid = Vec::new();
        let role = Role::from_name(&self.role);
        if role.is_none() {
            invalid.push(Invalid::new("/role", "user, operator, auditor, worker or admin"));
        }
        if self.expires_in_s == Some(0) || (self.expires_in_s.is_some() && self.expires_at.is_some()) {
            invalid.push(Invalid::new("/expires_in_s", "1 or more seconds, and not together with `expires_at`"));
        }
        let expires_at = match self.expires_in_s {
            Some(seconds) => Some(now.plus(Duration::from_secs(seconds))),
            None => self.expires_at,
        };
        match role {
            Some(role) if invalid.is_empty() => {
                Ok(TokenRequest { subject: self.subject, role, kinds: self.kinds, expires_at })
            }
            _ => Err(Problem::invalid(invalid)),
        }
    }
}

/// `POST /v1/tokens`: creates a token. The response is the only one that shows it.
///
/// # Errors
/// 400, 403 unless the caller is an admin, 413, 415, 422, 503.
pub async fn create(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::ManageTokens)?;
    let body: TokenBody = json::read_body(&request, payload, json::BodyKind::One).await?;
    let at = now();
    let new = body.check(at)?.make(at)?;
    let command = TokenCommand::Create(new.created);
    let execute = ExecuteOnStream::<Token> { key: new.id, command, at, meta: caller.meta() };
    state.registry.execute_on_stream(execute).await?;
    state.reader.wait_for_position(state.store.head().position).await;
    let events = state.store.read_stream(&StreamName::token(new.id), Revision(0)).await?;
    let missing = || Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR);
    let created = events.first().ok_or_else(missing)?;
    let document = document_of_new(new.id, &new.text, created).ok_or_else(missing)?;
    respond_with_position(StatusCode::CREATED, created.position, &document)
}

/// The JSON document of a new token, with its text. It is computed from the token's first event, because the views may not show
/// the token yet.
#[must_use]
pub fn document_of_new(id: Uuid, text: &BearerText, first: &Recorded) -> Option<Box<RawValue>> {
    let mut folded = Views::default();
    folded.apply(first);
    let row = folded.credentials().token(id)?;
    let doc = TokenDoc {
        token: Some(text.reveal()),
        position: Some(folded.position()),
        ..TokenDoc::new(id, &row.created, row.created_at, &row.created_by)
    };
    to_raw_value(&doc).ok()
}

/// `GET /v1/tokens`: one page of the tokens, also of those that are revoked or have expired. The newest are first, unless the
/// order is `asc`. No response shows a token or its hash.
///
/// # Errors
/// 403 unless the caller is an admin, 422, 503 `behind`.
pub async fn list(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.check(Action::ManageTokens)?;
    let mut fields = Fields::from_query(request.query_string())?;
    let page_request = fields.take_page_request(&state.limits)?;
    wait_for_min_position(&state, &caller, fields).await?;
    let views = state.reader.views();
    let page = views.credentials().token_page(&page_request).map_err(|_| invalid_cursor())?;
    let docs = page.items.iter().map(|(id, row)| TokenDoc {
        revoked_at: row.revoked_at,
        last_used_at: state.token_uses.last(*id),
        ..TokenDoc::new(*id, &row.created, row.created_at, &row.created_by)
    });
    let [next, prev] = [page.next, page.prev].map(|cursor| cursor.map(|cursor| cursor.encode()));
    let position = views.position();
    let list = TokenList { items: docs.collect(), next, prev, total: page.total, position };
    respond_with_position(StatusCode::OK, position, &list)
}

/// `DELETE /v1/tokens/{id}`: revokes the token. Within a second, the sessions of the token end, and the requests and the
/// sockets that wait with it. Revoking it again changes nothing.
///
/// # Errors
/// 400, 403 unless the caller is an admin, 404, 422, 503.
pub async fn revoke(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::ManageTokens)?;
    let id = uuid_in_path(&request)?;
    let reason = read_reason(&request, payload).await?;
    // Without this check, each request with an unknown id would start an actor.
    if state.reader.views().credentials().token(id).is_none() {
        return Err(Problem::not_found());
    }
    let command = TokenCommand::Revoke { reason };
    let execute = ExecuteOnStream::<Token> { key: id, command, at: now(), meta: caller.meta() };
    state.registry.execute_on_stream(execute).await?;
    state.reader.wait_for_position(state.store.head().position).await;
    Ok(HttpResponse::NoContent().finish())
}

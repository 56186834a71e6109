//! The bell: exact counts of an owner's tasks, and the log position up to which the owner has seen them.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::Fields;
use super::plumbing::response::{respond_with_position, wait_for_min_position};
use crate::task::Position;
use crate::task::limits::is_owner;

pub(super) mod docs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenBody {
    position: Position,
}

/// `GET /v1/counters`: the counts for one owner, by default the caller.
///
/// # Errors
/// 422, 503 `behind`.
pub async fn counters(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::from_query(request.query_string())?;
    let owner = fields.take("owner").unwrap_or_else(|| caller.subject().to_owned());
    if !is_owner(&owner) {
        return Err(Problem::invalid_field("/query/owner", "1 to 128 printable characters, no comma"));
    }
    wait_for_min_position(&state, &caller, fields).await?;
    let counters = state.reader.views().counters(&owner);
    respond_with_position(StatusCode::OK, counters.position, &counters)
}

/// `POST /v1/bell/seen`: records the position up to which the caller has seen the bell.
///
/// # Errors
/// 400, 422 if the position is after the head of the log, 503.
pub async fn seen(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: SeenBody = json::read_body(&request, payload, json::BodyKind::One).await?;
    state.mark_seen(&caller, body.position).await?;
    Ok(HttpResponse::NoContent().finish())
}

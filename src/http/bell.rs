//! The bell: exact counts, and what its owner has seen.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::Pairs;
use super::tasks::{answer_at, wait};
use crate::store::{StreamName, now};
use crate::streams::actor::Ask;
use crate::task::Position;
use crate::task::bell::{Bell, MarkSeen};
use crate::task::limits::is_owner;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenBody {
    position: Position,
}

/// `GET /v1/counters`.
///
/// # Errors
/// 422, 503 `behind`.
pub async fn counters(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut pairs = Pairs::of_query(request.query_string())?;
    let owner = pairs.take("owner").unwrap_or(caller.subject);
    if !is_owner(&owner) {
        return Err(Problem::invalid_field("/query/owner", "1 to 128 printable characters, no comma"));
    }
    wait(&edge, pairs).await?;
    let counters = edge.read.views().counters(&owner);
    answer_at(StatusCode::OK, counters.position, &counters)
}

/// `POST /v1/bell/seen`.
///
/// # Errors
/// 400, 422 where the position lies beyond the head, 503.
pub async fn seen(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: SeenBody = json::read_body(&request, payload, json::BODY_MAX).await?;
    see(&edge, &caller, body.position).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The caller has seen everything up to there.
///
/// # Errors
/// 422 where the position lies beyond the head, 503.
pub async fn see(edge: &AppState, caller: &Caller, position: Position) -> Result<(), Problem> {
    let command = MarkSeen { position, head: edge.store.head().position };
    let stream = StreamName::bell(&caller.subject);
    let (_, appended) = edge.registry.ask::<Bell>(Ask { stream, command, at: now(), meta: caller.meta() }).await?;
    if appended > 0 {
        let head = edge.store.head().position;
        edge.read.wait_for_position(head).await;
    }
    Ok(())
}

//! Answers that show state: each says the log position that it reflects, and a read may wait for a position first.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use super::error::Problem;
use super::query::Fields;
use crate::http::state::AppState;
use crate::task::Position;

/// The log position that an answer reflects.
const POSITION: HeaderName = HeaderName::from_static("taskbell-position");

/// The body as JSON, with the position that it reflects.
///
/// # Errors
/// 500 where the body can't be written as JSON, which is a fault of this server.
pub fn answer_at(status: StatusCode, position: Position, body: &impl Serialize) -> Result<HttpResponse, Problem> {
    let body = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "an answer can't be written as JSON");
        Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    let mut response = HttpResponse::build(status);
    response.insert_header((POSITION, position.to_string())).content_type("application/json");
    Ok(response.body(body))
}

/// An answer without a body, with the position that it reflects.
pub fn answer_empty(mut response: HttpResponseBuilder, position: Position) -> HttpResponse {
    response.insert_header((POSITION, position.to_string())).finish()
}

/// Waits until the views reach the query's `min_position`, if it has one. Refuses `as_of`, which this release doesn't offer,
/// and every field that is left: the caller has taken those that it knows.
///
/// # Errors
/// 422, 503 `behind`.
pub async fn wait_for_min_position(state: &AppState, mut fields: Fields) -> Result<(), Problem> {
    if fields.take("as_of").is_some() {
        return Err(Problem::invalid_field("/query/as_of", "not offered by this release"));
    }
    let position = fields.position("min_position")?;
    fields.refuse_rest()?;
    match position {
        Some(position) if !state.read.wait_for_position(position).await => {
            Err(Problem::behind(state.read.failure().is_some()))
        }
        Some(_) | None => Ok(()),
    }
}

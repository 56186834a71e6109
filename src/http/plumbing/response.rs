//! Responses that show state. A header of each names the log position that the body reflects. A query may wait for a
//! position before it is answered.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use super::caller::Caller;
use super::error::Problem;
use super::query::Fields;
use crate::http::state::AppState;
use crate::task::Position;

/// The headers of every response that doesn't set them itself: browsers neither guess its type, nor show it inside of another
/// site's page, nor store it.
pub const PROTECTION: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The header with the log position that the response reflects.
const POSITION: HeaderName = HeaderName::from_static("taskbell-position");

/// Makes a response with a JSON body and with the position that the body reflects.
///
/// # Errors
/// 500 if the body can't be encoded as JSON, which is a fault of this server.
pub fn respond_with_position(
    status: StatusCode,
    position: Position,
    body: &impl Serialize,
) -> Result<HttpResponse, Problem> {
    let body = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "a response can't be encoded as JSON");
        Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    let mut response = HttpResponse::build(status);
    response.insert_header((POSITION, position.to_string())).content_type("application/json");
    Ok(response.body(body))
}

/// Makes a response without a body, with the position that it reflects.
pub fn respond_empty_with_position(mut response: HttpResponseBuilder, position: Position) -> HttpResponse {
    response.insert_header((POSITION, position.to_string())).finish()
}

/// Waits until the views reach the position `min_position` of the query, if it has this field. The wait counts as a long poll
/// of the caller. `fields` are those that the handler has not taken. Any other of them is unknown and is refused.
///
/// # Errors
/// 401 if the caller's credential ends during the wait, 422, 429 `too_many_requests`, 503 `behind` or `overloaded`.
pub async fn wait_for_min_position(state: &AppState, caller: &Caller, mut fields: Fields) -> Result<(), Problem> {
    let position = fields.take_position("min_position")?;
    fields.refuse_unknown()?;
    let Some(position) = position.filter(|position| *position > state.reader.position()) else { return Ok(()) };
    let _permit = state.long_polls.acquire(caller)?;
    if caller.identity.while_valid(&state.reader, state.reader.wait_for_position(position)).await? {
        Ok(())
    } else {
        Err(Problem::behind(state.reader.failure().is_some()))
    }
}

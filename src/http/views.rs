//! Hashes of the views, so that a client can compare them with a fold of the log that it makes itself.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::query::Fields;
use super::plumbing::response::respond_with_position;
use crate::task::Position;
use crate::task::access::Action;
use crate::views::digest::{DigestSource, Digests};

pub(super) mod docs;

#[derive(Serialize)]
struct DigestAnswer {
    position: Position,
    digests: Digests,
}

/// `GET /v1/views/digest`: hashes of all that the views show at their present position.
///
/// # Errors
/// 403, 422, 503 `overloaded`.
pub async fn digest(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.check(Action::ReadLog)?;
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let hash = |source: DigestSource| DigestAnswer { position: source.position(), digests: source.finish() };
    let answer = state.scans.run(|| state.reader.views().digest_source(), hash).await?;
    respond_with_position(StatusCode::OK, answer.position, &answer)
}

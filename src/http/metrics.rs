//! `GET /metrics`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::query::Fields;
use crate::task::access::Action;

pub(super) mod docs;

/// The content type: version 0.0.4 of the text format, which every Prometheus scraper reads.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`: metrics since the start of the process, in the text format of Prometheus. They may lack the newest events
/// that the views already show.
///
/// # Errors
/// 422.
pub async fn read(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.check(Action::ReadMetrics)?;
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let position = state.reader.position().to_string();
    let text = state.metrics.text(&state.reader, &state.store).map_err(|error| {
        tracing::error!(%error, "the metrics can't be encoded");
        Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    Ok(HttpResponse::Ok().insert_header(("taskbell-position", position)).content_type(CONTENT_TYPE).body(text))
}

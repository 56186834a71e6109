//! `GET /metrics`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::AppState;
use super::plumbing::error::Problem;
use super::plumbing::query::Fields;

/// Version 0.0.4 of the text format, which every scraper reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`: figures since the process started, as text for Prometheus. They may be slightly behind the views.
///
/// # Errors
/// 422.
pub async fn read(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Fields::of_query(request.query_string())?.refuse_rest()?;
    let position = state.read.position().to_string();
    let (head, is_up) = (state.store.head().position, state.store.health().is_ok());
    let text = state.metrics.text(&state.read, head, is_up).map_err(|error| {
        tracing::error!(%error, "the metrics can't be written");
        Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    Ok(HttpResponse::Ok().insert_header(("taskbell-position", position)).content_type(TEXT).body(text))
}

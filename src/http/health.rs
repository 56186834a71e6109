//! Alive, and fit for traffic.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::AppState;
use super::plumbing::error::Problem;
use super::plumbing::query::Pairs;
use super::tasks::answer_at;
use crate::task::Position;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    position: Position,
}

/// `GET /healthz`: the process answers.
///
/// # Errors
/// 422.
pub async fn alive(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Pairs::of_query(request.query_string())?.done()?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"alive": true})))
}

/// `GET /readyz`: 503 with the reasons where the log takes no writes or the views have stopped.
///
/// # Errors
/// 422, 503 `not_ready`.
pub async fn ready(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Pairs::of_query(request.query_string())?.done()?;
    let log = edge.store.health().err().map(|why| format!("log: {why}"));
    let head = edge.store.head().position;
    let views = match edge.read.failure() {
        Some(why) => Some(format!("views: {why}")),
        None if edge.read.wait_for_position(head).await => None,
        None => Some(format!("views: they have not reached position {head} within 5 s")),
    };
    let reasons: Vec<String> = log.into_iter().chain(views).collect();
    if let Some(first) = reasons.first() {
        let detail = if reasons.len() > 1 { reasons.join("; ") } else { first.clone() };
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).retryable());
    }
    let position = edge.read.position();
    answer_at(StatusCode::OK, position, &Readiness { ready: true, reasons, position })
}

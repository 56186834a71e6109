//! Whether the process is alive, and whether it is ready for requests.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::AppState;
use super::plumbing::answer::answer_at;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::query::Fields;
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
    Fields::of_query(request.query_string())?.refuse_rest()?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"alive": true})))
}

/// `GET /readyz`: 503 with the reasons where the log takes no writes, an actor that lives as long as the process has stopped,
/// or the views have stopped or are behind. Views that are behind catch up, and a cluster that can't be reached may come back:
/// the other reasons stay until a restart, and such a refusal is not retryable.
///
/// Where the log already gives a reason, the answer doesn't wait for the views.
///
/// # Errors
/// 422, 503 `not_ready`.
pub async fn ready(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Fields::of_query(request.query_string())?.refuse_rest()?;
    let head = state.store.head().position;
    let log = state.store.health().err().map(|why| format!("log: {why}"));
    let stopped = state.read.failure().map(|why| format!("views: {why}"));
    let actor = state.vitals.stopped().map(|actor| format!("{actor} has stopped"));
    let until_restart = state.store.has_failed() || stopped.is_some() || actor.is_some();
    let views = match stopped {
        Some(why) => Some(why),
        None if log.is_some() => None,
        None if !state.read.wait_for_position(head).await => {
            Some(format!("views: they have not reached position {head} within 5 s"))
        }
        None => state.require_caught_up().err().map(|problem| format!("views: {}", problem.detail)),
    };
    let reasons: Vec<String> = log.into_iter().chain(actor).chain(views).collect();
    if !reasons.is_empty() {
        let refusal = if until_restart { Refusal::NotReadyUntilRestart } else { Refusal::NotReady };
        return Err(Problem::new(refusal, reasons.join("; ")));
    }
    let position = state.read.position();
    answer_at(StatusCode::OK, position, &Readiness { ready: true, reasons, position })
}

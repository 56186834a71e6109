//! `GET /healthz` and `GET /readyz`: whether the process runs, and whether it is ready for requests.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::AppState;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::query::Fields;
use super::plumbing::response::respond_with_position;
use crate::store::ReadError;
use crate::task::Position;

pub(super) mod docs;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    /// What an operator should look at, although the server is ready.
    warnings: Vec<String>,
    position: Position,
}

/// `GET /healthz`: 200 while the process handles requests.
///
/// # Errors
/// 422.
pub async fn alive(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"alive": true})))
}

/// `GET /readyz`: 503 with the reasons if the log accepts no writes or was found damaged, a long-lived actor has stopped, or
/// the views have stopped or lack events of the log. From a write that the disk had no room for until one that succeeds, the log
/// accepts none; the server tries by itself every second.
///
/// The refusal is retryable if the views can still catch up, the disk may have room again or the cluster may become reachable
/// again. The other reasons last until a restart, and then the refusal is not retryable. If the log itself is unavailable, the
/// handler doesn't wait for the views.
///
/// # Errors
/// 422, 503 `not_ready`.
pub async fn ready(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let head = state.store.head().position;
    // The log may fail between the two reads. This order then gives the reason of the failure as retryable, and never a reason
    // that will pass as one that lasts until a restart.
    let log_has_failed = state.store.has_failed();
    let log_problem = state.store.health().err().map(|reason| format!("log: {reason}"));
    let views_failure = state.reader.failure().map(|reason| format!("views: {reason}"));
    let actor_problem = state.actor_health.stopped_actor().map(|actor| format!("{actor} has stopped"));
    let damage = state.store.damage().map(|what| format!("log: {}", ReadError::Damaged(what.to_owned())));
    let until_restart = log_has_failed || damage.is_some() || views_failure.is_some() || actor_problem.is_some();
    let views_problem = match views_failure {
        Some(reason) => Some(reason),
        None if log_problem.is_some() => None,
        None if !state.reader.wait_for_position(head).await => {
            Some(format!("the views have not reached position {head} within 5 s"))
        }
        None => state.require_caught_up().err().map(|problem| format!("views: {}", problem.detail)),
    };
    let reasons: Vec<String> =
        log_problem.into_iter().chain(damage).chain(actor_problem).chain(views_problem).collect();
    if !reasons.is_empty() {
        let refusal = if until_restart { Refusal::NotReadyUntilRestart } else { Refusal::NotReady };
        return Err(Problem::new(refusal, reasons.join("; ")));
    }
    let position = state.reader.position();
    let warnings = state.store.write_ahead_log().and_then(|log| log.warning()).into_iter().collect();
    respond_with_position(StatusCode::OK, position, &Readiness { ready: true, reasons, warnings, position })
}

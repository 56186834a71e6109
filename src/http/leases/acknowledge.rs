//! `POST /v1/leases/cancel-ack`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::command::{lease_problem, may_report, worker_command};
use super::token::LeaseToken;
use crate::http::AppState;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json;
use crate::http::plumbing::response::respond_empty_with_position;
use crate::task::access::Action;
use crate::task::limits::{TEXT_MAX, is_line};
use crate::task::{Command, Rejection, Timestamp};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcknowledgeBody {
    lease: String,
    stopping_after: Option<String>,
    expected_end: Option<Timestamp>,
}

/// `POST /v1/leases/cancel-ack`: the worker reports that its attempt has received the request to cancel.
///
/// # Errors
/// 400, 409 `lease_lost` or `not_cancelling`, 422, 503.
pub async fn acknowledge(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::UseLeases)?;
    let body = json::read_body(&request, payload, json::BodyKind::One).await?;
    let AcknowledgeBody { lease, stopping_after, expected_end } = body;
    let lease = LeaseToken::parse(&lease, "/lease")?;
    if stopping_after.as_ref().is_some_and(|step| !is_line(step, TEXT_MAX)) {
        return Err(Problem::invalid_field("/stopping_after", "one line of 1 to 1024 bytes"));
    }
    if !may_report(&state, &caller, lease.task) {
        return Err(Rejection::LeaseLost.into());
    }
    let LeaseToken { task, attempt, ref lease_hash } = lease;
    let command =
        Command::AcknowledgeCancel { attempt, lease_hash: Some(lease_hash.clone()), stopping_after, expected_end };
    let message = worker_command(&caller, &lease, command);
    let receipt = state.registry.execute(message).await.map_err(lease_problem)?;
    state.reader.wait_for_revision(task, receipt.revision).await;
    Ok(respond_empty_with_position(HttpResponse::NoContent(), state.reader.position()))
}

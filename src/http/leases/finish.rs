//! `POST /v1/leases/finish`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::checks::LEASES_MAX;
use super::command::{execute_message, lease_problem};
use super::finish_item::FinishItem;
use super::token::LeaseToken;
use crate::http::AppState;
use crate::http::plumbing::answer::answer_at;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json;
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::task::event::Progress;
use crate::task::{Position, Rejection};

#[derive(Serialize)]
struct FinishReply {
    items: Vec<Answer>,
    position: Position,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Status(&'static str),
    Problem(Problem),
}

/// `POST /v1/leases/finish`: how attempts ended, each judged by itself. An item that is sent again gets the same answer
/// again.
///
/// # Errors
/// 400, 413 and 422 for the body as a whole. A problem of one item is the answer in its place.
pub async fn finish(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = json::required_body(&request, payload, json::BATCH_MAX).await?;
    let items = json::read_items(&body)?;
    if !(1..=LEASES_MAX).contains(&items.len()) {
        return Err(Problem::invalid_field("/items", format!("1 to {LEASES_MAX} items")));
    }
    let mut answers = Vec::with_capacity(items.len());
    let (mut leases, mut messages) = (Vec::new(), Vec::new());
    for (place, item) in items.into_iter().enumerate() {
        match item.and_then(|item| message(&state, &caller, item)) {
            Ok((lease, message)) => {
                messages.push(message);
                leases.push((place, lease));
                answers.push(None);
            }
            Err(problem) => answers.push(Some(Answer::Problem(problem))),
        }
    }
    let receipts = state.registry.execute_many(messages).await;
    for ((place, lease), receipt) in leases.iter().zip(receipts) {
        answers[*place] = Some(answer(lease, receipt));
    }
    state.read.wait_for_position(state.store.head().position).await;
    let position = state.read.position();
    let with_request_id = |answer| match answer {
        Answer::Problem(problem) => Answer::Problem(Problem { request_id: caller.request_id.clone(), ..problem }),
        status @ Answer::Status(_) => status,
    };
    let items = answers.into_iter().flatten().map(with_request_id).collect();
    answer_at(StatusCode::OK, position, &FinishReply { items, position })
}

fn message(state: &AppState, caller: &Caller, item: &str) -> Result<(LeaseToken, Execute), Problem> {
    let (lease, command) = json::read_scanned::<FinishItem>(item).and_then(FinishItem::check)?;
    let message = execute_message(caller, &lease, command(live_progress(state, &lease)));
    Ok((lease, message))
}

fn answer(lease: &LeaseToken, receipt: Result<Receipt, ExecuteError>) -> Answer {
    match receipt.map(|receipt| receipt.task.ended_by_its_worker(lease.attempt, &lease.hash)) {
        Ok(Some(status)) => Answer::Status(status.name()),
        Ok(None) => Answer::Problem(Rejection::LeaseLost.into()),
        Err(error) => Answer::Problem(lease_problem(error)),
    }
}

fn live_progress(state: &AppState, lease: &LeaseToken) -> Option<Progress> {
    let views = state.read.views();
    let row = views.get(lease.task)?;
    views.live_progress(lease.task).filter(|_| row.attempt() == lease.attempt).cloned()
}

//! `POST /v1/leases/finish`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join;
use serde::Serialize;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::checks::LEASES_MAX;
use super::command::{lease_problem, may_report, worker_command};
use super::finish_item::FinishItem;
use super::token::LeaseToken;
use crate::http::AppState;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json;
use crate::http::plumbing::response::respond_with_position;
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::task::access::Action;
use crate::task::event::Progress;
use crate::task::{Position, Rejection};

/// The number of items that are read together, and whose ends are appended together.
const CHUNK_SIZE: usize = 250;

#[derive(Serialize)]
struct FinishResponse {
    items: Vec<ItemResult>,
    position: Position,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ItemResult {
    Status(&'static str),
    Problem(Problem),
}

/// `POST /v1/leases/finish`: records how attempts ended. Each item is accepted or refused independently of the others.
/// An item that is sent again gets the same result again.
///
/// # Errors
/// 400, 413, 415 or 422 if the body as a whole is invalid. The problem of a single item is in the response, at the item's
/// index.
pub async fn finish(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::UseLeases)?;
    let (sender, chunks) = mpsc::unbounded_channel();
    let reading = json::send_items(&request, payload, (LEASES_MAX, CHUNK_SIZE), json::decode::<FinishItem>, sender);
    let (read, results) = join(reading, finish_chunks(&state, &caller, chunks)).await;
    read?;
    state.reader.wait_for_position(state.store.head().position).await;
    let position = state.reader.position();
    let with_request_id = |result| match result {
        ItemResult::Problem(problem) => {
            ItemResult::Problem(Problem { request_id: caller.request_id.clone(), ..problem })
        }
        status @ ItemResult::Status(_) => status,
    };
    let items = results.into_iter().map(with_request_id).collect();
    respond_with_position(StatusCode::OK, position, &FinishResponse { items, position })
}

/// Finishes the attempts of the items, and returns the results in the order of the items. While the commands of a chunk are
/// executed, the items of the next one are read and checked.
async fn finish_chunks(
    state: &AppState,
    caller: &Caller,
    mut chunks: UnboundedReceiver<Vec<Result<FinishItem, Problem>>>,
) -> Vec<ItemResult> {
    let (mut results, mut executions) = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.recv().await {
        let (mut leases, mut messages) = (Vec::with_capacity(chunk.len()), Vec::with_capacity(chunk.len()));
        for item in chunk {
            let index = results.len();
            results.push(match item.and_then(|item| finish_message(state, caller, item)) {
                Ok((lease, message)) => {
                    messages.push(message);
                    leases.push((index, lease));
                    None
                }
                Err(problem) => Some(ItemResult::Problem(problem)),
            });
        }
        let registry = state.registry.clone();
        let execution = actix_rt::spawn(async move { registry.execute_many(messages).await });
        executions.push((leases, execution));
        // The executions of the chunks begin in the order of the chunks, so that two reports about one attempt keep their order.
        tokio::task::yield_now().await;
    }
    for (leases, execution) in executions {
        // An execution is aborted only because the process is stopping.
        let aborted = |_| vec![Err(ExecuteError::Busy("the request was aborted")); leases.len()];
        let receipts = execution.await.unwrap_or_else(aborted);
        for ((index, lease), receipt) in leases.iter().zip(receipts) {
            results[*index] = Some(item_result(lease, receipt));
        }
    }
    results.into_iter().flatten().collect()
}

/// Checks the item and makes the message that finishes its attempt.
fn finish_message(state: &AppState, caller: &Caller, item: FinishItem) -> Result<(LeaseToken, Execute), Problem> {
    let (lease, command) = item.into_command(&state.limits.values, |lease| live_progress(state, lease))?;
    if !may_report(state, caller, lease.task) {
        return Err(Rejection::LeaseLost.into());
    }
    let message = worker_command(caller, &lease, command);
    Ok((lease, message))
}

fn item_result(lease: &LeaseToken, receipt: Result<Receipt, ExecuteError>) -> ItemResult {
    match receipt.map(|receipt| receipt.task.status_after_reported_end(lease.attempt, &lease.lease_hash)) {
        Ok(Some(status)) => ItemResult::Status(status.name()),
        Ok(None) => ItemResult::Problem(Rejection::LeaseLost.into()),
        Err(error) => ItemResult::Problem(lease_problem(error)),
    }
}

/// Returns the latest progress of the lease's attempt.
fn live_progress(state: &AppState, lease: &LeaseToken) -> Option<Progress> {
    let views = state.reader.views();
    let row = views.get(lease.task)?;
    views.live_progress(lease.task).filter(|_| row.attempt() == lease.attempt).cloned()
}

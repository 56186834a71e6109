//! Routes of tasks: list tasks, show one task, show its events, cancel it, escalate its cancel, and retry it.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::AppState;
use super::past::{past_task_doc, take_as_of, views_as_of};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::{Fields, invalid_cursor};
use super::plumbing::redact::VisibleEvent;
use super::plumbing::request::{check_reason, id_in_path, read_reason};
use super::plumbing::response::{respond_with_position, wait_for_min_position};
use super::plumbing::scans::ROWS_UNDER_LOCK_MAX;
use super::plumbing::scope::take_scope;
use super::task_access::{check_retry_of_bulk_cancel, check_task};
use super::task_page::{current_page, page_after_command, page_at_position, respond_with_page, task_doc};
use crate::projection::replay::AsOf;
use crate::store::StreamName;
use crate::streams::create;
use crate::streams::messages::Execute;
use crate::task::access::Action;
use crate::task::event::Rung;
use crate::task::{Command, Position, Revision};
use crate::views::{Filter, Page, PageRequest, RowBudget, Snapshot, TaskDoc};

pub(super) mod docs;

#[derive(Serialize)]
struct ItemList<T> {
    items: Vec<T>,
    #[serde(flatten)]
    page: Option<PageInfo>,
    position: Position,
}

/// The cursors of the next and the previous page, and how many tasks match the filter.
#[derive(Serialize)]
struct PageInfo {
    next: Option<String>,
    prev: Option<String>,
    total: u64,
}

/// A rung of the cancel ladder above the first one, which is the request to cancel.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HigherRung {
    Interrupt,
    Revoke,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EscalateBody {
    rung: HigherRung,
    reason: Option<String>,
}

/// `GET /v1/tasks`: one page of the tasks that match the filter.
///
/// # Errors
/// 404 if the query names an owner whose tasks the caller may not see; 422 if it is invalid; 503 `behind`.
pub async fn list(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::from_query(request.query_string())?;
    let scope = take_scope(&mut fields, &caller, &state.limits)?;
    let filter = fields.take_filter(&state.limits, scope)?;
    let page_request = fields.take_page_request(&state.limits)?;
    let as_of = take_as_of(&state, &mut fields)?;
    wait_for_min_position(&state, &caller, fields).await?;
    let (Page { next, prev, total, position, .. }, docs) = if let Some(as_of) = as_of {
        page_as_of(&state, &caller, (filter, page_request), as_of).await?
    } else {
        let page = query_page(&state, filter, page_request).await?;
        let views = state.reader.views();
        let docs = page.items.iter().map(|row| task_doc(&state, &views, row)).collect();
        (page, docs)
    };
    let page = PageInfo { next: next.map(|c| c.encode()), prev: prev.map(|c| c.encode()), total };
    respond_with_position(StatusCode::OK, position, &ItemList { items: docs, page: Some(page), position })
}

/// The page as it was then, with the documents of its tasks.
async fn page_as_of(
    state: &AppState,
    caller: &Caller,
    (filter, page_request): (Filter, PageRequest),
    as_of: AsOf,
) -> Result<(Page, Vec<TaskDoc>), Problem> {
    let views = views_as_of(state, caller, as_of).await?;
    let past = Arc::clone(&views);
    let scan = move |()| views.page_within(&filter, &page_request, &RowBudget::unlimited());
    let page = state.scans.run(|| (), scan).await?.map_err(|_| invalid_cursor())?;
    let page = page.ok_or_else(|| Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR))?;
    let docs = page.items.iter().map(|row| past_task_doc(&past, row)).collect();
    Ok((page, docs))
}

/// Returns the page from the views if it needs few rows. Otherwise reads it from a snapshot of the views on the
/// blocking pool.
async fn query_page(state: &AppState, filter: Filter, page_request: PageRequest) -> Result<Page, Problem> {
    {
        let views = state.reader.views();
        let page = views
            .page_within(&filter, &page_request, &RowBudget::new(ROWS_UNDER_LOCK_MAX))
            .map_err(|_| invalid_cursor())?;
        if let Some(page) = page {
            return Ok(page);
        }
    }
    let snapshot_filter = filter.clone();
    let scan = move |snapshot: Snapshot| snapshot.page(&filter, &page_request);
    let page = state.scans.run(|| state.reader.views().snapshot_for(&snapshot_filter), scan).await?;
    page.map_err(|_| invalid_cursor())
}

/// `GET /v1/tasks/{id}`: one task, with its input, result and output.
///
/// # Errors
/// 404, 422, 503.
pub async fn show(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    let mut fields = Fields::from_query(request.query_string())?;
    let as_of = take_as_of(&state, &mut fields)?;
    wait_for_min_position(&state, &caller, fields).await?;
    let visibility = check_task(&state, &caller, id, |owner| Action::ReadTasks { owner }).await?;
    let page = match as_of {
        None => current_page(&state, id).await?,
        Some(AsOf::Position(position)) => page_at_position(&state, id, position).await?,
        Some(as_of) => {
            let position = views_as_of(&state, &caller, as_of).await?.position();
            page_at_position(&state, id, position).await?
        }
    };
    respond_with_page(StatusCode::OK, &page.visible_as(visibility))
}

/// `GET /v1/tasks/{id}/events`: the events of the task's stream, oldest first.
///
/// # Errors
/// 404, 422, 503.
pub async fn events(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    wait_for_min_position(&state, &caller, Fields::from_query(request.query_string())?).await?;
    let visibility = check_task(&state, &caller, id, |owner| Action::ReadTasks { owner }).await?;
    let revision_in_views = state.reader.views().get(id).map_or(Revision(0), |row| row.revision());
    let items = state.store.read_stream_at_least(&StreamName::task(id), revision_in_views).await?;
    let position = items.last().map(|recorded| recorded.position).ok_or_else(Problem::not_found)?;
    let items = items.iter().map(|recorded| VisibleEvent { recorded, visibility }).collect();
    respond_with_position(StatusCode::OK, position, &ItemList { items, page: None, position })
}

/// `POST /v1/tasks/{id}/cancel`: requests a cancel. The response is 202 and the task, or 200 if the task was already final.
///
/// # Errors
/// 400, 404, 408, 413, 415, 422, 503.
pub async fn cancel(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    let reason = read_reason(&request, payload).await?;
    check_task(&state, &caller, id, |owner| Action::CommandTask { owner }).await?;
    let policy = state.cancel_ladder(id);
    execute_cancel(&state, caller.command(id, Command::RequestCancel { reason, policy })).await
}

/// `POST /v1/tasks/{id}/escalate`: an operator moves a cancel to a higher rung of its ladder before the ladder's own timer
/// does.
///
/// # Errors
/// 400, 404, 409 `not_cancelling`, 422, 503.
pub async fn escalate(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    let EscalateBody { rung, reason } = json::read_body(&request, payload, json::BodyKind::One).await?;
    check_task(&state, &caller, id, |owner| Action::Escalate { owner }).await?;
    let rung = match rung {
        HigherRung::Interrupt => Rung::Interrupt,
        HigherRung::Revoke => Rung::Revoke,
    };
    let reason = check_reason(reason)?;
    execute_cancel(&state, caller.command(id, Command::Escalate { rung, reason, attempt: None })).await
}

/// Executes a command of the cancel ladder. The response is 202 and the task, or 200 if the task was already final.
async fn execute_cancel(state: &AppState, command: Execute) -> Result<HttpResponse, Problem> {
    let id = command.task;
    let receipt = state.registry.execute(command).await?;
    let status =
        if receipt.appended == 0 && receipt.task.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    respond_with_page(status, &page_after_command(state, id, &receipt).await?)
}

/// `POST /v1/tasks/{id}/retry`: runs a final task again.
///
/// # Errors
/// 400, 404, 409 `not_final` or `unique_key_taken`, 422, 429 `too_many_tasks`, 503.
pub async fn retry(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    let reason = read_reason(&request, payload).await?;
    check_task(&state, &caller, id, |owner| Action::CommandTask { owner }).await?;
    check_retry_of_bulk_cancel(&state, &caller, id).await?;
    let command = caller.command(id, Command::Retry { reason });
    let _permit = state.open_tasks.acquire_for_retry(&state.reader, id)?;
    let receipt = create::retry_unless_key_held(&state.registry, &state.reader, &state.unique_keys, command).await?;
    respond_with_page(StatusCode::ACCEPTED, &page_after_command(&state, id, &receipt).await?)
}

//! Tasks: the list, one task, its history, its cancel and the rungs of it, its retry.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::AppState;
use super::plumbing::answer::{answer_at, wait_for_min_position};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::{Fields, bad_cursor};
use super::plumbing::request::{check_reason, id_in_path, read_reason};
use super::task_page::{answer_page, current_page, page_after, task_doc};
use crate::store::StreamName;
use crate::streams::create;
use crate::streams::messages::Execute;
use crate::task::event::Rung;
use crate::task::{Command, Position, Revision};
use crate::views::{Filter, Page, PageRequest, Row, RowBudget, TaskDoc};

/// Rows of a page where the request names no limit.
const LIMIT: u64 = 20;
/// The most rows of a page.
const LIMIT_MAX: u64 = 200;
/// Rows that a query may read while it holds the lock of the views; a longer one reads a snapshot on the blocking pool.
const SCAN_MAX: usize = 10_000;

#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
    #[serde(flatten)]
    ends: Option<Ends>,
    position: Position,
}

#[derive(Serialize)]
struct Ends {
    next: Option<String>,
    prev: Option<String>,
    total: u64,
}

/// A rung of the cancel ladder above the request itself.
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

/// `GET /v1/tasks`.
///
/// # Errors
/// 422 where the query is invalid; 503 `behind`.
pub async fn list(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_query(request.query_string())?;
    let filter = fields.filter()?;
    let limit = fields.number("limit")?.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid_field("/query/limit", format!("1 to {LIMIT_MAX}")));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let asked = PageRequest { order: fields.order()?, limit, cursor: fields.cursor()? };
    wait_for_min_position(&state, fields).await?;
    let Page { items, next, prev, total, position } = query(&state, filter, asked).await?;
    let views = state.read.views();
    let items: Vec<TaskDoc> = items.iter().map(|row| task_doc(&state, &views, row)).collect();
    drop(views);
    let ends = Ends { next: next.map(|c| c.encode()), prev: prev.map(|c| c.encode()), total };
    answer_at(StatusCode::OK, position, &List { items, ends: Some(ends), position })
}

/// The page, from the views where that is quick, else from a snapshot and on another thread.
async fn query(edge: &AppState, filter: Filter, asked: PageRequest) -> Result<Page, Problem> {
    let snapshot = {
        let views = edge.read.views();
        let page = views.page_within(&filter, &asked, &RowBudget::new(SCAN_MAX)).map_err(|_| bad_cursor())?;
        if let Some(page) = page {
            return Ok(page);
        }
        views.snapshot_for(&filter)
    };
    let scan = web::block(move || snapshot.page(&filter, &asked)).await;
    scan.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?.map_err(|_| bad_cursor())
}

/// `GET /v1/tasks/{id}`.
///
/// # Errors
/// 404, 422, 503.
pub async fn show(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    wait_for_min_position(&state, Fields::of_query(request.query_string())?).await?;
    answer_page(StatusCode::OK, &current_page(&state, id).await?)
}

/// `GET /v1/tasks/{id}/events`.
///
/// # Errors
/// 404, 422, 503.
pub async fn events(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    wait_for_min_position(&state, Fields::of_query(request.query_string())?).await?;
    let shown = state.read.views().get(id).map_or(Revision(0), Row::revision);
    let items = state.store.read_stream_at_least(&StreamName::task(id), shown).await?;
    let position = items.last().map(|recorded| recorded.position).ok_or_else(Problem::not_found)?;
    answer_at(StatusCode::OK, position, &List { items, ends: None, position })
}

/// `POST /v1/tasks/{id}/cancel`: requests a cancel, which is an event of its own. 202 while the task is not final.
///
/// # Errors
/// 400, 404, 422, 503.
pub async fn cancel(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    let reason = read_reason(&request, payload).await?;
    let policy = state.cancel_policy(id);
    execute_cancel(&state, caller.command(id, Command::RequestCancel { reason, policy })).await
}

/// `POST /v1/tasks/{id}/escalate`: an operator moves a cancel to a higher rung of its ladder before the ladder does.
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
    let EscalateBody { rung, reason } = json::read_body(&request, payload, json::BODY_MAX).await?;
    let rung = match rung {
        HigherRung::Interrupt => Rung::Interrupt,
        HigherRung::Revoke => Rung::Revoke,
    };
    let reason = check_reason(reason)?;
    execute_cancel(&state, caller.command(id, Command::Escalate { rung, reason, attempt: None })).await
}

/// Executes a command of the cancel ladder: 202 and the task, or 200 where the task was final already.
async fn execute_cancel(state: &AppState, command: Execute) -> Result<HttpResponse, Problem> {
    let id = command.task;
    let receipt = state.registry.execute(command).await?;
    let status =
        if receipt.appended == 0 && receipt.task.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer_page(status, &page_after(state, id, &receipt).await?)
}

/// `POST /v1/tasks/{id}/retry`: one more run of a final task.
///
/// # Errors
/// 400, 404, 409 `not_final` or `unique_key_taken`, 422, 503.
pub async fn retry(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_in_path(&request)?;
    let reason = read_reason(&request, payload).await?;
    let command = caller.command(id, Command::Retry { reason });
    let receipt = create::retry(&state.registry, &state.read, &state.unique, command).await?;
    answer_page(StatusCode::ACCEPTED, &page_after(&state, id, &receipt).await?)
}

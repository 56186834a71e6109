//! Tasks: the list, one task, its history, its cancel and how to insist on it, one more run.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::{Pairs, bad_cursor};
use crate::store::{LogEvent, Recorded, StreamName};
use crate::streams::create;
use crate::streams::messages::{Execute, Receipt};
use crate::task::event::OutputKept;
use crate::task::event::Rung;
use crate::task::limits::TEXT_MAX;
use crate::task::{Command, Event, Invalid, Position, Revision, TaskId};
use crate::views::{Filter, Page, PageRequest, Row, RowBudget, TaskDoc, Views};

/// Says the log position that an answer reflects.
const POSITION: HeaderName = HeaderName::from_static("taskbell-position");
/// Rows of a page where the request doesn't say.
const LIMIT: u64 = 20;
/// Rows of a page at most.
const LIMIT_MAX: u64 = 200;
/// Rows that a query may read while it holds the lock of the views; a longer one reads a snapshot on the blocking pool.
const SCAN_MAX: usize = 10_000;

/// A task on its own page.
#[derive(Serialize)]
pub struct TaskPage {
    #[serde(flatten)]
    doc: TaskDoc,
    input: Value,
    result: Option<Value>,
    /// The end of what the last attempt wrote that wrote anything.
    output: Option<OutputKept>,
}

impl TaskPage {
    /// That of the task's last event.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.doc.row().position()
    }
}

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

/// A reason that somebody gives.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: Option<String>,
}

/// A rung of the ladder of a cancel, above the request itself.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Higher {
    Interrupt,
    Revoke,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Escalation {
    rung: Higher,
    reason: Option<String>,
}

/// The answer as JSON, with the position that it reflects: the task's own.
///
/// # Errors
/// Never in practice: what we answer can be written as JSON.
pub fn answer(status: StatusCode, page: &TaskPage) -> Result<HttpResponse, Problem> {
    answer_at(status, page.position(), page)
}

/// The answer as JSON, with the position that it reflects.
///
/// # Errors
/// Never in practice: what we answer can be written as JSON.
pub fn answer_at(status: StatusCode, position: Position, body: &impl Serialize) -> Result<HttpResponse, Problem> {
    let body = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "an answer can't be written as JSON");
        Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    let mut response = HttpResponse::build(status);
    response.insert_header((POSITION, position.to_string())).content_type("application/json");
    Ok(response.body(body))
}

/// An answer without a body, with the position that it reflects.
pub fn answered(mut response: HttpResponseBuilder, position: Position) -> HttpResponse {
    response.insert_header((POSITION, position.to_string())).finish()
}

/// The id in the path; what is no id names nothing that is here.
///
/// # Errors
/// 404.
pub fn id_of(request: &HttpRequest) -> Result<TaskId, Problem> {
    request.match_info().query("id").parse().map_err(|_| Problem::not_found())
}

/// Takes `min_position` and waits for it; refuses `as_of`, which is not offered yet, and what nobody took.
///
/// # Errors
/// 422, 503 `behind`.
pub async fn wait(edge: &AppState, mut pairs: Pairs) -> Result<(), Problem> {
    if pairs.take("as_of").is_some() {
        return Err(Problem::invalid_field("/query/as_of", "not offered by this release"));
    }
    let position = pairs.position("min_position")?;
    pairs.done()?;
    match position {
        Some(position) if !edge.read.wait_for_position(position).await => Err(Problem::behind()),
        Some(_) | None => Ok(()),
    }
}

/// `GET /v1/tasks`.
///
/// # Errors
/// 422 where the query can't be what it is; 503 `behind`.
pub async fn list(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut pairs = Pairs::of_query(request.query_string())?;
    let filter = pairs.filter()?;
    let limit = pairs.number("limit")?.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid_field("/query/limit", format!("1 to {LIMIT_MAX}")));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let asked = PageRequest { order: pairs.order()?, limit, cursor: pairs.cursor()? };
    wait(&edge, pairs).await?;
    let Page { items, next, prev, total, position } = query(&edge, filter, asked).await?;
    let views = edge.read.views();
    let items: Vec<TaskDoc> = items.iter().map(|row| doc(&edge, &views, row)).collect();
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
pub async fn show(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = id_of(&request)?;
    wait(&edge, Pairs::of_query(request.query_string())?).await?;
    answer(StatusCode::OK, &page(&edge, id).await?)
}

/// `GET /v1/tasks/{id}/events`.
///
/// # Errors
/// 404, 422, 503.
pub async fn events(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = id_of(&request)?;
    wait(&edge, Pairs::of_query(request.query_string())?).await?;
    let items = edge.store.read_stream(&StreamName::task(id), Revision(0)).await?;
    let position = items.last().map(|recorded| recorded.position).ok_or_else(Problem::not_found)?;
    answer_at(StatusCode::OK, position, &List { items, ends: None, position })
}

/// `POST /v1/tasks/{id}/cancel`: a request, with its own place in the log. 202 while the task is not final.
///
/// # Errors
/// 400, 404, 422, 503.
pub async fn cancel(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_of(&request)?;
    let reason = reason(&request, payload).await?;
    let policy = edge.cancel_policy(id);
    insist(&edge, caller.asks(id, Command::RequestCancel { reason, policy })).await
}

/// `POST /v1/tasks/{id}/escalate`: an operator doesn't wait for the ladder of a cancel to climb by itself, or for ever.
///
/// # Errors
/// 400, 404, 409 `not_cancelling`, 422, 503.
pub async fn escalate(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_of(&request)?;
    let Escalation { rung, reason } = json::read_body(&request, payload, json::BODY_MAX).await?;
    let rung = match rung {
        Higher::Interrupt => Rung::Interrupt,
        Higher::Revoke => Rung::Revoke,
    };
    let reason = check_reason(reason)?;
    insist(&edge, caller.asks(id, Command::Escalate { rung, reason, attempt: None })).await
}

/// 202 and the task; 200 where it was final already.
async fn insist(edge: &AppState, ask: Execute) -> Result<HttpResponse, Problem> {
    let id = ask.task;
    let receipt = edge.registry.execute(ask).await?;
    let status =
        if receipt.appended == 0 && receipt.task.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer(status, &page_of(edge, id, &receipt).await?)
}

/// `POST /v1/tasks/{id}/retry`: one more run of a final task.
///
/// # Errors
/// 400, 404, 409 `not_final` or `unique_key_taken`, 422, 503.
pub async fn retry(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_of(&request)?;
    let reason = reason(&request, payload).await?;
    let ask = caller.asks(id, Command::Retry { reason });
    let receipt = create::retry(&edge.registry, &edge.read, &edge.unique, ask).await?;
    answer(StatusCode::ACCEPTED, &page_of(&edge, id, &receipt).await?)
}

/// The reason in the body, where there is one.
///
/// # Errors
/// 400, 408, 413, 415, 422.
pub(super) async fn reason(request: &HttpRequest, payload: web::Payload) -> Result<Option<String>, Problem> {
    Pairs::of_query(request.query_string())?.done()?;
    let Some(body) = json::body(request, payload, json::BODY_MAX).await? else { return Ok(None) };
    let Reason { reason } = json::read(body)?;
    check_reason(reason)
}

/// A reason that fits into an event.
///
/// # Errors
/// 422 where it doesn't.
pub fn check_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    if reason.as_ref().is_some_and(|text| text.len() > TEXT_MAX) {
        return Err(Problem::invalid(vec![Invalid::new("/reason", format!("at most {TEXT_MAX} bytes"))]));
    }
    Ok(reason)
}

fn doc(edge: &AppState, views: &Views, row: &Row) -> TaskDoc {
    row.doc(edge.capacity.waiting(row), views.live_progress(row.id()))
}

/// The task's page once the views show what the receipt stands for. A view that is late doesn't turn a success into a
/// failure: then the page is folded from the task's own stream.
///
/// # Errors
/// 503 where the log can't be read.
pub async fn page_of(edge: &AppState, id: TaskId, receipt: &Receipt) -> Result<TaskPage, Problem> {
    edge.read.wait_for_revision(id, receipt.revision).await;
    if receipt.appended == 1 && receipt.revision == Revision(0) {
        let views = edge.read.views();
        if let Some(row) = views.get(id).filter(|row| row.revision() == receipt.revision) {
            let input = receipt.task.created.input.clone();
            return Ok(TaskPage { doc: doc(edge, &views, row), input, result: None, output: None });
        }
    }
    read_page(edge, id, receipt.revision).await
}

/// The task's page as the views show it.
///
/// # Errors
/// 404, 503.
pub async fn page(edge: &AppState, id: TaskId) -> Result<TaskPage, Problem> {
    let revision = edge.read.views().get(id).map(Row::revision).ok_or_else(Problem::not_found)?;
    read_page(edge, id, revision).await
}

/// The task's page at this revision or a later one: the row from the views, or from its stream where they are late; its
/// input and result from its stream.
///
/// # Errors
/// 404, 503.
pub async fn read_page(edge: &AppState, id: TaskId, at_least: Revision) -> Result<TaskPage, Problem> {
    let mut events = edge.store.read_stream(&StreamName::task(id), Revision(0)).await?;
    loop {
        {
            let views = edge.read.views();
            let Some(row) = views.get(id).filter(|row| row.revision() >= at_least) else { break };
            let upto = row.revision();
            if events.last().is_some_and(|last| last.revision >= upto) {
                return Ok(with_payload(doc(edge, &views, row), events.iter().filter(|e| e.revision <= upto)));
            }
        }
        // The row has moved on since the stream was read: its end would stand there without its result.
        let read = events.len();
        let from = Revision(read as u64);
        events.extend(edge.store.read_stream(&StreamName::task(id), from).await?);
        if events.len() == read {
            break;
        }
    }
    let mut views = Views::default();
    for recorded in &events {
        views.apply(recorded);
    }
    let row = views.get(id).ok_or_else(Problem::not_found)?;
    Ok(with_payload(doc(edge, &views, row), events.iter()))
}

fn with_payload<'a>(doc: TaskDoc, events: impl Iterator<Item = &'a std::sync::Arc<Recorded>>) -> TaskPage {
    let (mut input, mut result, mut output) = (Value::Null, None, None);
    for recorded in events {
        let LogEvent::Task(event) = &recorded.event else { continue };
        match event {
            Event::Created(created) => input = created.input.clone(),
            Event::Completed(completed) => result.clone_from(&completed.result),
            Event::Retried(_) => (result, output) = (None, None),
            Event::OutputKept(kept) => output = Some(kept.clone()),
            Event::Queued(_)
            | Event::Started(_)
            | Event::CancelRequested(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::AttemptFailed(_)
            | Event::Released(_) => {}
        }
    }
    TaskPage { doc, input, result, output }
}

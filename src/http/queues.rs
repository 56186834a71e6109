//! Routes of queues: list them with their counts, pause one, and resume one.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::query::Fields;
use super::plumbing::request::read_reason;
use super::plumbing::response::{respond_with_position, wait_for_min_position};
use crate::store::{StreamName, now};
use crate::streams::ExecuteOnStream;
use crate::task::access::Action;
use crate::task::limits::{is_name, is_reserved};
use crate::task::queue::{Queue, QueueCommand};
use crate::task::{Position, Revision, Timestamp};
use crate::views::queues::Pause;
use crate::views::{Counts, NamedCounts, Views};

pub(super) mod docs;

#[derive(Serialize)]
struct QueueDoc<'a> {
    name: &'a str,
    paused: bool,
    paused_at: Option<Timestamp>,
    paused_by: Option<&'a str>,
    reason: Option<&'a str>,
    counts: NamedCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

#[derive(Serialize)]
struct QueueList<'a> {
    items: Vec<QueueDoc<'a>>,
    position: Position,
}

impl<'a> QueueDoc<'a> {
    fn new(name: &'a str, pause: Option<&'a Pause>, counts: Counts) -> Self {
        Self {
            name,
            paused: pause.is_some(),
            paused_at: pause.map(|pause| pause.at),
            paused_by: pause.map(|pause| &*pause.by),
            reason: pause.and_then(|pause| pause.reason.as_deref()),
            counts: NamedCounts(counts),
            position: None,
        }
    }
}

/// `GET /v1/queues`: the queues that have or had tasks, and the paused queues, sorted by name.
///
/// # Errors
/// 422, 503 `behind`.
pub async fn list(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.check(Action::ReadQueues)?;
    wait_for_min_position(&state, &caller, Fields::from_query(request.query_string())?).await?;
    let views = state.reader.views();
    let counts = views.queue_counts();
    let mut queues: BTreeMap<&str, Counts> = counts.iter().map(|(name, counts)| (&**name, *counts)).collect();
    for (name, _) in views.paused_queues().iter() {
        queues.entry(name).or_default();
    }
    let doc = |(name, counts)| QueueDoc::new(name, views.paused_queues().get(name), counts);
    let position = views.position();
    respond_with_position(
        StatusCode::OK,
        position,
        &QueueList { items: queues.into_iter().map(doc).collect(), position },
    )
}

/// `POST /v1/queues/{queue}/pause`: no more tasks of the queue are started. Running tasks continue.
///
/// # Errors
/// 400, 404, 422, 503.
pub async fn pause(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    execute(&state, &caller, &request, payload, |reason| QueueCommand::Pause { reason }).await
}

/// `POST /v1/queues/{queue}/resume`: the server starts tasks of the queue again.
///
/// # Errors
/// 400, 404, 422, 503.
pub async fn resume(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    execute(&state, &caller, &request, payload, |reason| QueueCommand::Resume { reason }).await
}

/// Executes the command on the queue and responds with the queue's new state.
async fn execute(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    payload: web::Payload,
    command: impl Fn(Option<String>) -> QueueCommand,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::ControlQueues)?;
    let name = request.match_info().query("queue");
    if !is_name(name) {
        return Err(Problem::not_found());
    }
    if is_reserved(name) {
        return Err(Problem::invalid_field("", "names that begin with `taskbell.` are reserved"));
    }
    let command = command(read_reason(request, payload).await?);
    let execute = ExecuteOnStream::<Queue> { key: name.to_owned(), command, at: now(), meta: caller.meta() };
    state.registry.execute_on_stream(execute).await?;
    let folded = wait_or_fold(state, &StreamName::queue(name)).await?;
    let views = state.reader.views();
    let pause = folded.as_ref().unwrap_or(&views).paused_queues().get(name);
    let counts = views.queue_counts().get(name).copied().unwrap_or_default();
    let position = folded.as_ref().map_or(views.position(), Views::position);
    let doc = QueueDoc { position: Some(position), ..QueueDoc::new(name, pause, counts) };
    respond_with_position(StatusCode::OK, position, &doc)
}

/// Waits until the views show all events that are durable now, and then returns `None`. If the views don't show them in
/// time, returns views that are computed from this stream alone: the command has succeeded, so the response must show
/// its effect.
///
/// # Errors
/// 500 or 503 if the log can't be read.
async fn wait_or_fold(state: &AppState, stream: &StreamName) -> Result<Option<Views>, Problem> {
    if state.reader.wait_for_position(state.store.head().position).await {
        return Ok(None);
    }
    let events = state.store.read_stream(stream, Revision(0)).await?;
    let mut views = Views::default();
    for recorded in &events {
        views.apply(recorded);
    }
    Ok(Some(views))
}

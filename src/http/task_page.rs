//! A task as its own page shows it: the row of the list, with input, result and output from the task's own stream.
//!
//! The views and the stream are read one after the other, and events may be appended in between. The row is never older
//! than the revision that the caller wants, and the payload never newer than the row: an answer shows one revision.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::AppState;
use super::plumbing::answer::answer_at;
use super::plumbing::error::Problem;
use crate::store::{LogEvent, Recorded, StreamName};
use crate::streams::messages::Receipt;
use crate::task::event::OutputKept;
use crate::task::{Event, JsonText, Position, Revision, TaskId};
use crate::views::{Row, TaskDoc, Views};

/// A task with its payload.
#[derive(Serialize)]
pub struct TaskPage {
    #[serde(flatten)]
    doc: TaskDoc,
    input: JsonText,
    result: Option<JsonText>,
    /// The end of the output of the last attempt that had any.
    output: Option<OutputKept>,
}

impl TaskPage {
    /// The position of the task's last event.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.doc.row().position()
    }
}

/// The page as an answer, with the task's own position.
///
/// # Errors
/// 500 where the page can't be written as JSON, which is a fault of this server.
pub fn answer_page(status: StatusCode, page: &TaskPage) -> Result<HttpResponse, Problem> {
    answer_at(status, page.position(), page)
}

/// The row as lists and pages show it.
#[must_use]
pub fn task_doc(state: &AppState, views: &Views, row: &Row) -> TaskDoc {
    row.doc(state.capacity.waiting(row), views.live_progress(row.id()))
}

/// The task's page after a command, once the views show the command's events. Where the views are late, the page is folded
/// from the task's own stream, because the command has succeeded.
///
/// # Errors
/// 500 or 503 where the log can't be read.
pub async fn page_after(state: &AppState, id: TaskId, receipt: &Receipt) -> Result<TaskPage, Problem> {
    state.read.wait_for_revision(id, receipt.revision).await;
    if receipt.appended == 1 && receipt.revision == Revision(0) {
        let views = state.read.views();
        if let Some(row) = views.get(id).filter(|row| row.revision() == receipt.revision) {
            let input = receipt.task.created.input.clone();
            return Ok(TaskPage { doc: task_doc(state, &views, row), input, result: None, output: None });
        }
    }
    page_since(state, id, receipt.revision).await
}

/// The task's page at the revision that the views show, or a later one.
///
/// # Errors
/// 404; 500 or 503 where the log can't be read.
pub async fn current_page(state: &AppState, id: TaskId) -> Result<TaskPage, Problem> {
    let revision = state.read.views().get(id).map(Row::revision).ok_or_else(Problem::not_found)?;
    page_since(state, id, revision).await
}

/// The task's page at this revision or a later one. The row comes from the views, or from the task's stream where they are
/// late; input, result and output come from the stream.
///
/// # Errors
/// 404; 500 or 503 where the log can't be read.
pub async fn page_since(state: &AppState, id: TaskId, at_least: Revision) -> Result<TaskPage, Problem> {
    let stream = StreamName::task(id);
    let mut events = state.store.read_received(&stream, at_least).await?;
    loop {
        let upto = {
            let views = state.read.views();
            let Some(row) = views.get(id).filter(|row| row.revision() >= at_least) else { break };
            let upto = row.revision();
            if events.last().is_some_and(|last| last.revision >= upto) {
                return Ok(with_payload(task_doc(state, &views, row), events.iter().filter(|e| e.revision <= upto)));
            }
            upto
        };
        // Between the two reads the row has moved on: it may show an end whose result was not read yet.
        let read = events.len();
        events = state.store.read_received(&stream, upto).await?;
        if events.len() == read {
            break;
        }
    }
    let mut views = Views::default();
    for recorded in &events {
        views.apply(recorded);
    }
    let row = views.get(id).ok_or_else(Problem::not_found)?;
    Ok(with_payload(task_doc(state, &views, row), events.iter()))
}

fn with_payload<'a>(doc: TaskDoc, events: impl Iterator<Item = &'a Arc<Recorded>>) -> TaskPage {
    let (mut input, mut result, mut output) = (JsonText::default(), None, None);
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

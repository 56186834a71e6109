//! The response for one task: its row from the views, with the input, result and output from the task's own stream.
//!
//! 1. The stream is read first and the views second. Events may be appended in between.
//! 2. The row is at least as new as the revision that the caller requires.
//! 3. Input, result and output come from the events up to the row's revision. So the whole response shows one revision.
//!
//! After a create the stream is not read: see [`page_after_command`].

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::AppState;
use super::past::past_task_doc;
use super::plumbing::caller::Visibility;
use super::plumbing::error::Problem;
use super::plumbing::response::respond_with_position;
use crate::store::{LogEvent, Recorded, StreamName};
use crate::streams::messages::Receipt;
use crate::task::event::OutputKept;
use crate::task::{Event, JsonText, Position, Revision, TaskId};
use crate::views::{Row, TaskDoc, Views};

/// A task with its input, result and output.
pub struct TaskPage {
    doc: TaskDoc,
    input: JsonText,
    result: Option<JsonText>,
    /// The last bytes of the output of the latest attempt that wrote output.
    output: Option<OutputKept>,
    /// The JSON pointers to the members that the caller may not see. They are null. Absent if the caller may see all.
    redacted: &'static [&'static str],
}

/// The members that a redacted page doesn't show.
const REDACTED: &[&str] = &["/input", "/result", "/output"];

impl TaskPage {
    /// The page as a caller with this visibility may see it. A redacted page names all three members, also those that have no
    /// value, so that it doesn't say which of them have one.
    #[must_use]
    pub fn visible_as(self, visibility: Visibility) -> Self {
        match visibility {
            Visibility::Whole => self,
            Visibility::Redacted => {
                Self { input: JsonText::default(), result: None, output: None, redacted: REDACTED, ..self }
            }
        }
    }

    /// Returns the position of the task's last event.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.doc.row().position()
    }
}

impl Serialize for TaskPage {
    /// Writes the members of the task and those of the page into one object. A derived implementation would write them through
    /// a map (`flatten`), which takes twice the time.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("TaskPage", TaskDoc::MEMBERS + 4)?;
        self.doc.serialize_members(&mut out)?;
        out.serialize_field("input", &self.input)?;
        out.serialize_field("result", &self.result)?;
        out.serialize_field("output", &self.output)?;
        if !self.redacted.is_empty() {
            out.serialize_field("redacted", self.redacted)?;
        }
        out.end()
    }
}

/// Makes the response from the page. Its header has the position of the task's last event.
///
/// # Errors
/// 500 if the page can't be encoded as JSON, which is a fault of this server.
pub fn respond_with_page(status: StatusCode, page: &TaskPage) -> Result<HttpResponse, Problem> {
    respond_with_position(status, page.position(), page)
}

/// Makes the JSON document of a row, for lists and for single tasks.
#[must_use]
pub fn task_doc(state: &AppState, views: &Views, row: &Row) -> TaskDoc {
    row.doc(state.queue_and_offers.waiting_for(row), views.live_progress(row.id()))
}

/// Returns the task's page after a command, when the views show the command's events. If the views don't show them in time,
/// the page is computed from the task's own stream, because the command has succeeded.
///
/// After a create, if the views show no later event of the task, the stream is not read: the input comes from the receipt,
/// and a new task has no result and no output.
///
/// # Errors
/// 500 or 503 if the log can't be read.
pub async fn page_after_command(state: &AppState, id: TaskId, receipt: &Receipt) -> Result<TaskPage, Problem> {
    state.reader.wait_for_revision(id, receipt.revision).await;
    if receipt.appended == 1 && receipt.revision == Revision(0) {
        let views = state.reader.views();
        if let Some(row) = views.get(id).filter(|row| row.revision() == receipt.revision) {
            let input = receipt.task.created.input.clone();
            return Ok(TaskPage {
                doc: task_doc(state, &views, &row),
                input,
                result: None,
                output: None,
                redacted: &[],
            });
        }
    }
    Box::pin(page_at_least(state, id, receipt.revision)).await
}

/// Returns the task's page at the revision that the views show now, or at a later one.
///
/// # Errors
/// 404; 500 or 503 if the log can't be read.
pub async fn current_page(state: &AppState, id: TaskId) -> Result<TaskPage, Problem> {
    let revision = state.reader.views().get(id).map(|row| row.revision()).ok_or_else(Problem::not_found)?;
    page_at_least(state, id, revision).await
}

/// Returns the task's page at the revision `minimum` or at a later one. The row comes from the views, or from the
/// task's stream if the views are older than `minimum`. The input, result and output always come from the stream.
///
/// # Errors
/// 404; 500 or 503 if the log can't be read.
pub async fn page_at_least(state: &AppState, id: TaskId, minimum: Revision) -> Result<TaskPage, Problem> {
    let stream = StreamName::task(id);
    let mut events = state.store.read_stream_at_least(&stream, minimum).await?;
    loop {
        let row_revision = {
            let views = state.reader.views();
            let Some(row) = views.get(id).filter(|row| row.revision() >= minimum) else { break };
            let row_revision = row.revision();
            if events.last().is_some_and(|last| last.revision >= row_revision) {
                return Ok(build_page(
                    task_doc(state, &views, &row),
                    events.iter().filter(|e| e.revision <= row_revision),
                ));
            }
            row_revision
        };
        // An event was appended between the two reads, so the row is newer than the events that were read. The row may show
        // that the task has ended, and the result is in an event that was not read yet. So the stream is read again.
        let count_before = events.len();
        events = state.store.read_stream_at_least(&stream, row_revision).await?;
        if events.len() == count_before {
            break;
        }
    }
    let mut views = Views::default();
    for recorded in &events {
        views.apply(recorded);
    }
    let row = views.get(id).ok_or_else(Problem::not_found)?;
    Ok(build_page(task_doc(state, &views, &row), events.iter()))
}

/// Returns the task's page when `position` was the last position of the log.
///
/// # Errors
/// 404 if the task didn't exist then; 500 or 503 if the log can't be read.
pub async fn page_at_position(state: &AppState, id: TaskId, position: Position) -> Result<TaskPage, Problem> {
    let mut views = Views::default();
    let events = apply_stream(state, &StreamName::task(id), position, &mut views).await?;
    let row = views.get(id).ok_or_else(Problem::not_found)?.into_owned();
    // Whether the queue was paused then.
    apply_stream(state, &StreamName::queue(row.queue()), position, &mut views).await?;
    Ok(build_page(past_task_doc(&views, &row), events.iter()))
}

/// Applies the events of the stream up to this position to the views. Returns them.
async fn apply_stream(
    state: &AppState,
    stream: &StreamName,
    position: Position,
    views: &mut Views,
) -> Result<Vec<Arc<Recorded>>, Problem> {
    let mut events = state.store.read_stream(stream, Revision(0)).await?;
    events.retain(|recorded| recorded.position <= position);
    for recorded in &events {
        views.apply(recorded);
    }
    Ok(events)
}

/// Adds the payload from the task's events to the document of its row.
fn build_page<'a>(doc: TaskDoc, events: impl Iterator<Item = &'a Arc<Recorded>>) -> TaskPage {
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
    TaskPage { doc, input, result, output, redacted: &[] }
}

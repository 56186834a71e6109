//! Checks whether the caller may do something with one task. What the caller may not see is answered exactly like a task that
//! doesn't exist.

use actix_web::http::StatusCode;

use super::AppState;
use super::plumbing::caller::{Caller, Visibility};
use super::plumbing::error::Problem;
use super::plumbing::scope::check_command;
use crate::projection::bulk_cancel::BULK_CANCEL;
use crate::store::{LogEvent, StreamName};
use crate::task::access::Action;
use crate::task::{Event, Revision, TaskId};
use crate::views::Views;
use crate::work::BulkCancelInput;

/// Checks that the caller may do this with the task. A handler calls it after it has read the request's body: otherwise a
/// response before the end of the body would close the connection, or not, depending on how long the check takes. `action` makes the action from the task's owner.
///
/// # Errors
/// 404 if there is no such task or the caller may not see it; 403 if the role of the caller may not do this; 500 or 503 if the
/// log can't be read.
pub async fn check_task(
    state: &AppState,
    caller: &Caller,
    id: TaskId,
    action: impl FnOnce(&str) -> Action<'_>,
) -> Result<Visibility, Problem> {
    let visible = state.reader.views().get(id).map(|row| row.owner().to_owned());
    let visible = visible.filter(|owner| caller.check(Action::ReadTasks { owner }).is_ok());
    // A task that the caller may not see is looked up in the log, like one that doesn't exist: otherwise the time until the
    // response would tell one from the other.
    let owner = match visible {
        Some(owner) => Some(owner),
        None => owner_in_log(state, id).await?,
    };
    caller.check(action(&owner.ok_or_else(Problem::not_found)?))
}

/// The owner of a task that the views don't show yet.
async fn owner_in_log(state: &AppState, id: TaskId) -> Result<Option<String>, Problem> {
    state.require_caught_up()?;
    let events = state.store.read_stream(&StreamName::task(id), Revision(0)).await?;
    Ok(events.first().and_then(|first| match &first.event {
        LogEvent::Task(Event::Created(created)) => Some(created.owner.clone()),
        _ => None,
    }))
}

/// Checks that the caller may still cancel the tasks of a bulk cancel that it retries. Its role may have changed since the bulk
/// cancel was requested.
///
/// # Errors
/// As [`check_command`]; 500 or 503 if the log can't be read.
pub async fn check_retry_of_bulk_cancel(state: &AppState, caller: &Caller, id: TaskId) -> Result<(), Problem> {
    if state.reader.views().get(id).is_none_or(|row| row.kind() != BULK_CANCEL) {
        return Ok(());
    }
    let events = state.store.read_stream(&StreamName::task(id), Revision(0)).await?;
    let Some(LogEvent::Task(Event::Created(created))) = events.first().map(|first| &first.event) else { return Ok(()) };
    let input: BulkCancelInput = serde_json::from_value(created.input.to_value())
        .map_err(|_| Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR))?;
    check_command(caller, &input.filter.scope())
}

/// Whether the views show this task and the caller may read it.
#[must_use]
pub fn is_visible(views: &Views, caller: &Caller, id: TaskId) -> bool {
    views.get(id).is_some_and(|row| caller.check(Action::ReadTasks { owner: row.owner() }).is_ok())
}

//! The field `as_of` of a query: the state of the tasks at an earlier moment, computed from the log.
//!
//! The progress reports of running attempts and the workers that wait for tasks are not in the log. So a task of the past shows
//! the last progress that an event has, and `waiting_for` of a queued task says only whether its queue was paused.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use tokio::time::timeout;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::query::Fields;
use crate::projection::replay::{AsOf, ViewsAsOf};
use crate::store::now;
use crate::views::doc::WaitingFor;
use crate::views::{Row, TaskDoc, Views};

/// How long a request waits for the views of the past.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Takes the field `as_of`: digits are a position of the log, everything else must be a time (RFC 3339).
///
/// # Errors
/// 422 if it is neither; if the position is after the head of the log, or the time in the future.
pub fn take_as_of(state: &AppState, fields: &mut Fields) -> Result<Option<AsOf>, Problem> {
    let is_position = fields.value("as_of").is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    if is_position {
        let position = fields.take_position("as_of")?;
        let head = state.store.head().position;
        if position.is_some_and(|position| position > head) {
            return Err(fields.refuse("as_of", format!("the log ends at position {head}")));
        }
        return Ok(position.map(AsOf::Position));
    }
    let time = fields.take_time("as_of")?;
    if time.is_some_and(|time| time > now()) {
        return Err(fields.refuse("as_of", "this time is in the future"));
    }
    Ok(time.map(AsOf::Time))
}

/// The views as of this moment. The request counts as a long poll of the caller while it waits.
///
/// # Errors
/// 401 if the caller's credential ends during the wait; 429 `too_many_requests`; 500 or 503 if the log can't be read; 503
/// `overloaded` if it takes longer than a minute.
pub async fn views_as_of(state: &AppState, caller: &Caller, as_of: AsOf) -> Result<Arc<Views>, Problem> {
    let _permit = state.long_polls.acquire(caller)?;
    let asked = timeout(WAIT_MAX, state.replayer.send(ViewsAsOf(as_of)));
    let answer = caller.identity.while_valid(&state.reader, asked).await?;
    let overloaded = |_| {
        let detail =
            "the past of this log takes long to compute, or other requests for it wait; send the request again later";
        Problem::new(Refusal::Overloaded, detail)
    };
    let stopping = |_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE);
    Ok(answer.map_err(overloaded)?.map_err(stopping)??)
}

/// Makes the JSON document of a row of the past.
#[must_use]
pub fn past_task_doc(views: &Views, row: &Row) -> TaskDoc {
    let is_paused = views.paused_queues().get(row.queue()).is_some();
    row.doc(if is_paused { WaitingFor::PausedQueue } else { WaitingFor::Nothing }, None)
}

//! `POST /v1/tasks/cancel`: cancels all tasks that match a filter. The bulk cancel is itself a task, which shows
//! progress and can be cancelled.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::filter::SentFilter;
use super::plumbing::json;
use super::plumbing::query::Fields;
use super::plumbing::request::check_reason;
use super::plumbing::response::respond_with_position;
use super::plumbing::scope::{check_command, take_scope};
use super::task_page::{TaskPage, page_after_command};
use crate::projection::bulk_cancel::{BULK_CANCEL, bulk_cancel_targets};
use crate::task::access::Action;
use crate::task::event::Created;
use crate::task::{Command, JsonText, Position};
use crate::views::Snapshot;
use crate::work::BulkCancelInput;

pub(super) mod docs;

/// The queue of the tasks that this server creates for itself. They don't wait behind other tasks, and clients can't
/// pause the queue.
const SYSTEM_QUEUE: &str = "taskbell.system";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BulkCancelBody {
    filter: SentFilter,
    reason: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize)]
struct BulkCancelResponse {
    matched: u64,
    task: Option<TaskPage>,
    position: Position,
}

/// `POST /v1/tasks/cancel`: 202, the number of tasks that will be cancelled, and the task that cancels them. With
/// `dry_run` it creates no task.
///
/// The set is fixed by the position in the response. It contains every task that, at this position, matches the filter, is
/// not final and is not itself a bulk cancel. The created task replays the log up to the position and so finds the same set.
///
/// # Errors
/// 400, 404 if the filter names an owner whose tasks the caller may not see, 422 `invalid_request` or `empty_filter`, 503.
pub async fn cancel(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::CommandTask { owner: caller.subject() })?;
    let body: BulkCancelBody = json::read_body(&request, payload, json::BodyKind::One).await?;
    let reason = check_reason(body.reason)?;
    let mut fields = Fields::from_filter(body.filter)?;
    let is_empty = fields.is_empty();
    let scope = take_scope(&mut fields, &caller, &state.limits)?;
    check_command(&caller, &scope)?;
    let filter = fields.take_filter(&state.limits, scope)?;
    fields.refuse_unknown()?;
    if is_empty || filter.is_empty() {
        let detail = "this filter would cancel all tasks; give at least one field besides `owner=*`";
        return Err(Problem::new(Refusal::EmptyFilter, detail));
    }
    let counted_filter = filter.clone();
    let count =
        move |snapshot: Snapshot| (bulk_cancel_targets(&snapshot, &counted_filter).count() as u64, snapshot.position());
    let (matched, position) = state.scans.run(|| state.reader.views().snapshot(), count).await?;
    if body.dry_run {
        return respond_with_position(
            StatusCode::ACCEPTED,
            position,
            &BulkCancelResponse { matched, task: None, position },
        );
    }
    let input = BulkCancelInput { filter, position, reason, requested_by: caller.subject().to_owned() };
    let created = bulk_cancel_task(&caller, &input, matched)?;
    let id = state.registry.new_task_id();
    let receipt = state.registry.execute(caller.command(id, Command::Create(Arc::new(created)))).await?;
    let task = page_after_command(&state, id, &receipt).await?;
    respond_with_position(
        StatusCode::ACCEPTED,
        task.position(),
        &BulkCancelResponse { matched, task: Some(task), position },
    )
}

fn bulk_cancel_task(caller: &Caller, input: &BulkCancelInput, matched: u64) -> Result<Created, Problem> {
    let input =
        JsonText::of(input).map_err(|_| Problem::invalid_field("/filter", "the filter can't be encoded as JSON"))?;
    Ok(Created {
        kind: BULK_CANCEL.to_owned(),
        title: format!("Cancel {matched} {}", if matched == 1 { "task" } else { "tasks" }),
        owner: caller.subject().to_owned(),
        input,
        queue: SYSTEM_QUEUE.to_owned(),
        priority: i32::MAX,
        run_at: None,
        // A request to cancel a task that is cancelling or final adds no event, so a second attempt may repeat all requests.
        max_attempts: 3,
        timeout_s: None,
        labels: BTreeMap::new(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    })
}

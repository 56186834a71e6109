//! `POST /v1/tasks/cancel`: a cancel of all tasks that match a filter. It is itself a task, with progress and a cancel of its
//! own.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::AppState;
use super::plumbing::answer::answer_at;
use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::filter::SentFilter;
use super::plumbing::json;
use super::plumbing::query::Fields;
use super::plumbing::request::check_reason;
use super::task_page::{TaskPage, page_after};
use crate::projection::replay::{BULK_CANCEL, cancellable};
use crate::task::event::Created;
use crate::task::{Command, JsonText, Position};
use crate::work::BulkCancelInput;

/// The queue of this server's own tasks. It doesn't wait behind other tasks, and clients can't pause it.
const SYSTEM_QUEUE: &str = "taskbell.system";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    filter: SentFilter,
    reason: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Answer {
    matched: u64,
    task: Option<TaskPage>,
    position: Position,
}

/// `POST /v1/tasks/cancel`. At the position in the answer, the set is every task that matches, is not final and is not a bulk
/// cancel itself. The bulk cancel replays the log up to that position and so finds the same set.
///
/// # Errors
/// 400, 422 `invalid_request` or `empty_filter`, 503.
pub async fn cancel(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: CancelBody = json::read_body(&request, payload, json::BODY_MAX).await?;
    let reason = check_reason(body.reason)?;
    let mut fields = Fields::of_filter(body.filter)?;
    let filter = fields.filter()?;
    fields.refuse_rest()?;
    if filter.is_empty() {
        let detail = "an empty filter would cancel everything: name at least one field";
        return Err(Problem::new(Refusal::EmptyFilter, detail));
    }
    let snapshot = state.read.views().snapshot();
    let position = snapshot.position();
    let wanted = filter.clone();
    let matching = web::block(move || cancellable(&snapshot, &wanted).count() as u64).await;
    let matched = matching.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?;
    if body.dry_run {
        return answer_at(StatusCode::ACCEPTED, position, &Answer { matched, task: None, position });
    }
    let input = BulkCancelInput { filter, position, reason, requested_by: caller.subject.clone() };
    let created = new_task(&caller, &input, matched)?;
    let id = state.registry.new_task_id();
    let receipt = state.registry.execute(caller.command(id, Command::Create(Arc::new(created)))).await?;
    let task = page_after(&state, id, &receipt).await?;
    answer_at(StatusCode::ACCEPTED, task.position(), &Answer { matched, task: Some(task), position })
}

fn new_task(caller: &Caller, input: &BulkCancelInput, matched: u64) -> Result<Created, Problem> {
    let input = JsonText::of(input).map_err(|_| Problem::invalid_field("/filter", "can't be kept"))?;
    Ok(Created {
        kind: BULK_CANCEL.to_owned(),
        title: format!("Cancel {matched} {}", if matched == 1 { "task" } else { "tasks" }),
        owner: caller.subject.clone(),
        input,
        queue: SYSTEM_QUEUE.to_owned(),
        priority: i32::MAX,
        run_at: None,
        // A second request to cancel the same task adds no event, so a later attempt may repeat the whole set.
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

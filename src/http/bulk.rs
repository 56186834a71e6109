//! `POST /v1/tasks/cancel`: a cancel of everything that matches, which is itself a task with progress and a cross.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::Pairs;
use super::tasks::{TaskPage, answer_at, check_reason, page_of};
use crate::projection::replay::{BULK_CANCEL, cancellable};
use crate::task::event::Created;
use crate::task::{Command, Position};
use crate::work::BulkCancelInput;

/// Where this server's own work waits: no flood of others' work, and no pause of their queues, is before it.
const SYSTEM_QUEUE: &str = "taskbell.system";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    filter: Value,
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

/// `POST /v1/tasks/cancel`. The set is what matched, was not final and was no bulk cancel at the position that the
/// answer names; the task finds the same set again by replaying the log up to there.
///
/// # Errors
/// 400, 422 `invalid_request` or `empty_filter`, 503.
pub async fn cancel(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let ask: Ask = json::read_body(&request, payload, json::BODY_MAX).await?;
    let reason = check_reason(ask.reason)?;
    let mut pairs = Pairs::of_filter(&ask.filter)?;
    let filter = pairs.filter()?;
    pairs.done()?;
    if filter.is_empty() {
        let detail = "an empty filter would cancel everything: name at least one field";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "empty_filter", detail));
    }
    let snapshot = edge.read.views().snapshot();
    let position = snapshot.position();
    let wanted = filter.clone();
    let matching = web::block(move || cancellable(&snapshot, &wanted).count() as u64).await;
    let matched = matching.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?;
    if ask.dry_run {
        return answer_at(StatusCode::ACCEPTED, position, &Answer { matched, task: None, position });
    }
    let input = BulkCancelInput { filter, position, reason, requested_by: caller.subject.clone() };
    let created = new_task(&caller, &input, matched)?;
    let id = edge.registry.new_task_id();
    let receipt = edge.registry.execute(caller.asks(id, Command::Create(Box::new(created)))).await?;
    let task = page_of(&edge, id, &receipt).await?;
    answer_at(StatusCode::ACCEPTED, task.position(), &Answer { matched, task: Some(task), position })
}

fn new_task(caller: &Caller, input: &BulkCancelInput, matched: u64) -> Result<Created, Problem> {
    let input = serde_json::to_value(input).map_err(|_| Problem::invalid_field("/filter", "can't be kept"))?;
    Ok(Created {
        kind: BULK_CANCEL.to_owned(),
        title: format!("Cancel {matched} {}", if matched == 1 { "task" } else { "tasks" }),
        owner: caller.subject.clone(),
        input,
        queue: SYSTEM_QUEUE.to_owned(),
        priority: i32::MAX,
        run_at: None,
        // A cancel that was asked for already leads to no second event, so the whole set may be walked again.
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

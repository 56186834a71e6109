//! Routes of schedules: create, list, show and remove them. A schedule creates a task at each time of its cron expression.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AppState;
use super::accept::{NewTask, complete_request};
use super::plumbing::caller::{Caller, Visibility};
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::Fields;
use super::plumbing::request::{read_reason, uuid_in_path};
use super::plumbing::response::{respond_with_position, wait_for_min_position};
use crate::store::{StreamName, new_id, now};
use crate::streams::ExecuteOnStream;
use crate::task::access::Action;
use crate::task::calendar::Calendar;
use crate::task::event::Created;
use crate::task::schedule::{Missed, Schedule, ScheduleCommand, ScheduleCreated, Template};
use crate::task::{Invalid, JsonText, Position, Revision, Timestamp, limits};
use crate::views::Views;
use crate::views::schedules::ActiveSchedule;

pub(super) mod docs;

/// The time zone of a schedule whose request names none.
const DEFAULT_ZONE: &str = "UTC";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSchedule {
    cron: String,
    time_zone: Option<String>,
    missed: Option<Missed>,
    task: json::Object<NewTemplate>,
}

/// The tasks that the schedule creates: the fields of `POST /v1/tasks` without `run_at` and `parent`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTemplate {
    kind: String,
    title: Option<String>,
    #[serde(default)]
    input: JsonText,
    queue: Option<String>,
    priority: Option<i32>,
    max_attempts: Option<u32>,
    timeout_s: Option<u64>,
    labels: Option<BTreeMap<String, String>>,
    owner: Option<String>,
    unique_key: Option<String>,
    concurrency_key: Option<String>,
}

#[derive(Serialize)]
struct ScheduleDoc<'a> {
    id: Uuid,
    #[serde(flatten)]
    created: &'a ScheduleCreated,
    created_at: Timestamp,
    created_by: &'a str,
    next_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    /// The JSON pointers to the members that the caller may not see. They are null. Absent if the caller may see all.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    redacted: &'static [&'static str],
}

#[derive(Serialize)]
struct ScheduleList<'a> {
    items: Vec<ScheduleDoc<'a>>,
    position: Position,
}

impl<'a> ScheduleDoc<'a> {
    /// `next_at` is the first nominal time after the present, even if tasks for missed nominal times are still to be
    /// created.
    /// For a caller who may not see inputs, `scheduled` comes from [`visible_as`].
    fn new(id: Uuid, scheduled: &'a ActiveSchedule) -> Self {
        let created = &scheduled.created;
        let calendar = Calendar::parse(&created.cron, &created.time_zone).ok();
        let next_at = calendar.and_then(|calendar| calendar.next_after(now().max(scheduled.handled_until())));
        Self {
            id,
            created,
            created_at: scheduled.created_at,
            created_by: &scheduled.created_by,
            next_at,
            last_at: scheduled.last_nominal,
            position: None,
            redacted: &[],
        }
    }
}

/// `POST /v1/schedules`: creates a schedule.
///
/// # Errors
/// 400, 413, 415, 422 if the expression, the time zone or the task is invalid, 503.
pub async fn create(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::ControlSchedules)?;
    let new: NewSchedule = json::read_body(&request, payload, json::BodyKind::One).await?;
    let time_zone = new.time_zone.unwrap_or_else(|| DEFAULT_ZONE.to_owned());
    let (cron, time_zone) = normalize(new.cron, time_zone).await?;
    let task = check_template(&state, &caller, new.task.0).map_err(|problem| prefix_pointers("/task", problem))?;
    let created = ScheduleCreated { cron, time_zone, missed: new.missed.unwrap_or_default(), task };
    let id = new_id();
    let command = ScheduleCommand::Create(Box::new(created));
    let execute = ExecuteOnStream::<Schedule> { key: id, command, at: now(), meta: caller.meta() };
    state.registry.execute_on_stream(execute).await?;
    state.reader.wait_for_position(state.store.head().position).await;
    // The response is computed from the schedule's first event. The views may not show the schedule yet, or not any more
    // because another caller has removed it since.
    let mut folded = Views::default();
    let events = state.store.read_stream(&StreamName::schedule(id), Revision(0)).await?;
    events.first().map(|created| folded.apply(created));
    let missing = || Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR);
    let scheduled = folded.schedules().get(id).ok_or_else(missing)?;
    let doc = ScheduleDoc { position: Some(folded.position()), ..ScheduleDoc::new(id, scheduled) };
    let mut response = respond_with_position(StatusCode::CREATED, folded.position(), &doc)?;
    if let Ok(location) = format!("{}/v1/schedules/{id}", state.public_address.path_prefix).parse() {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Checks the expression and the time zone, and returns both in the form that is recorded. For an expression that never
/// matches, the search for the next time takes long, so it runs on the blocking pool.
async fn normalize(cron: String, time_zone: String) -> Result<(String, String), Problem> {
    let normalized = web::block(move || {
        let calendar = Calendar::parse(&cron, &time_zone)?;
        if calendar.next_after(now()).is_none() {
            return Err(vec![Invalid::new("/cron", "the expression matches no time in the future")]);
        }
        let cron = cron.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok((cron, calendar.time_zone().to_owned()))
    });
    normalized.await.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?.map_err(Problem::invalid)
}

/// Checks the fields as `POST /v1/tasks` checks them, and returns the template of the schedule's tasks.
fn check_template(state: &AppState, caller: &Caller, new: NewTemplate) -> Result<Template, Problem> {
    let new = NewTask {
        kind: new.kind,
        title: new.title,
        input: new.input,
        queue: new.queue,
        priority: new.priority,
        max_attempts: new.max_attempts,
        timeout_s: new.timeout_s,
        labels: new.labels,
        owner: new.owner,
        unique_key: new.unique_key,
        concurrency_key: new.concurrency_key,
        ..NewTask::default()
    };
    let created = complete_request(state, caller, new)?;
    let invalid = limits::invalid_fields(&created);
    if !invalid.is_empty() {
        return Err(Problem::invalid(invalid));
    }
    let Created { kind, title, owner, input, queue, priority, .. } = created;
    let Created { max_attempts, timeout_s, labels, unique_key, concurrency_key, .. } = created;
    Ok(Template {
        kind,
        title,
        owner,
        input,
        queue,
        priority,
        max_attempts,
        timeout_s,
        labels,
        unique_key,
        concurrency_key,
    })
}

/// Puts `prefix` before the problem's pointers, because the object that they point into is part of a larger body.
fn prefix_pointers(prefix: &str, mut problem: Problem) -> Problem {
    for invalid in &mut problem.errors {
        invalid.pointer.insert_str(0, prefix);
    }
    if problem.detail.starts_with('/') {
        problem.detail.insert_str(0, prefix);
    }
    problem
}

/// The schedule as a caller with this visibility may see it.
fn visible_as(scheduled: &ActiveSchedule, visibility: Visibility) -> ActiveSchedule {
    let mut visible = scheduled.clone();
    if visibility == Visibility::Redacted {
        Arc::make_mut(&mut visible.created).task.input = JsonText::default();
    }
    visible
}

const fn redacted_members(visibility: Visibility) -> &'static [&'static str] {
    match visibility {
        Visibility::Whole => &[],
        Visibility::Redacted => &["/task/input"],
    }
}

/// `GET /v1/schedules`: the schedules that are not removed, oldest first.
///
/// # Errors
/// 422, 503 `behind`.
pub async fn list(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let visibility = caller.check(Action::ReadSchedules)?;
    wait_for_min_position(&state, &caller, Fields::from_query(request.query_string())?).await?;
    let (position, schedules) = {
        let views = state.reader.views();
        let schedules: Vec<_> =
            views.schedules().iter().map(|(id, scheduled)| (id, visible_as(scheduled, visibility))).collect();
        (views.position(), schedules)
    };
    let redacted = redacted_members(visibility);
    let doc = |(id, scheduled)| ScheduleDoc { redacted, ..ScheduleDoc::new(id, scheduled) };
    let items = schedules.iter().map(|(id, scheduled)| doc((*id, scheduled))).collect();
    respond_with_position(StatusCode::OK, position, &ScheduleList { items, position })
}

/// `GET /v1/schedules/{id}`: one schedule.
///
/// # Errors
/// 404 if the schedule doesn't exist or is removed, 422, 503 `behind`.
pub async fn show(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let visibility = caller.check(Action::ReadSchedules)?;
    let id = uuid_in_path(&request)?;
    wait_for_min_position(&state, &caller, Fields::from_query(request.query_string())?).await?;
    let (position, scheduled) = {
        let views = state.reader.views();
        (views.position(), visible_as(views.schedules().get(id).ok_or_else(Problem::not_found)?, visibility))
    };
    let redacted = redacted_members(visibility);
    let doc = ScheduleDoc { position: Some(position), redacted, ..ScheduleDoc::new(id, &scheduled) };
    respond_with_position(StatusCode::OK, position, &doc)
}

/// `DELETE /v1/schedules/{id}`: removes the schedule. After the response it creates no more tasks. The tasks that it has
/// created remain.
///
/// # Errors
/// 400, 404 if the schedule doesn't exist or is removed, 422, 503.
pub async fn remove(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::ControlSchedules)?;
    let id = uuid_in_path(&request)?;
    let reason = read_reason(&request, payload).await?;
    // Without this check, each request with an unknown id would start an actor.
    if state.reader.views().schedules().get(id).is_none() {
        return Err(Problem::not_found());
    }
    let command = ScheduleCommand::Remove { reason };
    let execute = ExecuteOnStream::<Schedule> { key: id, command, at: now(), meta: caller.meta() };
    if state.registry.execute_on_stream(execute).await?.appended == 0 {
        return Err(Problem::not_found());
    }
    state.reader.wait_for_position(state.store.head().position).await;
    state.creation_lock.wait_until_idle().await;
    Ok(HttpResponse::NoContent().finish())
}

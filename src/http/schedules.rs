//! Schedules: tasks that come again and again.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::AppState;
use super::create::{NewTask, check};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::Pairs;
use super::tasks::{answer_at, id_of, reason, wait};
use crate::store::{StreamName, new_id, now};
use crate::streams::actor::Ask;
use crate::task::calendar::Calendar;
use crate::task::event::Created;
use crate::task::schedule::{Missed, Schedule, ScheduleCommand, ScheduleCreated, Template};
use crate::task::{Invalid, Position, Revision, Timestamp, limits};
use crate::views::Views;
use crate::views::schedules::Scheduled;

/// The zone of an expression that names none.
const DEFAULT_ZONE: &str = "UTC";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSchedule {
    cron: String,
    time_zone: Option<String>,
    missed: Option<Missed>,
    task: json::Object<NewTemplate>,
}

/// What `POST /v1/tasks` takes, but for a time and a parent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTemplate {
    kind: String,
    title: Option<String>,
    #[serde(default)]
    input: Value,
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
}

#[derive(Serialize)]
struct List<'a> {
    items: Vec<ScheduleDoc<'a>>,
    position: Position,
}

impl<'a> ScheduleDoc<'a> {
    /// `next_at` is the first nominal time after this instant, whatever is still being made up for.
    fn new(id: Uuid, scheduled: &'a Scheduled) -> Self {
        let created = &scheduled.created;
        let calendar = Calendar::parse(&created.cron, &created.time_zone).ok();
        let next_at = calendar.and_then(|calendar| calendar.next(now().max(scheduled.passed())));
        Self {
            id,
            created,
            created_at: scheduled.created_at,
            created_by: &scheduled.created_by,
            next_at,
            last_at: scheduled.last,
            position: None,
        }
    }
}

/// `POST /v1/schedules`.
///
/// # Errors
/// 400, 413, 415, 422 where the expression, the zone or the task can't be what it is, 503.
pub async fn create(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let new: NewSchedule = json::read_body(&request, payload, json::BODY_MAX).await?;
    let time_zone = new.time_zone.unwrap_or_else(|| DEFAULT_ZONE.to_owned());
    let (cron, time_zone) = understood(new.cron, time_zone).await?;
    let task = template(&edge, &caller, new.task.0).map_err(|problem| under("/task", problem))?;
    let created = ScheduleCreated { cron, time_zone, missed: new.missed.unwrap_or_default(), task };
    let id = new_id();
    let stream = StreamName::schedule(id);
    let command = ScheduleCommand::Create(Box::new(created));
    let ask = Ask { stream: stream.clone(), command, at: now(), meta: caller.meta() };
    edge.registry.ask::<Schedule>(ask).await?;
    edge.read.wait_for_position(edge.store.head().position).await;
    // From its own stream: that doesn't depend on how late the views are, nor on who has removed it meanwhile.
    let mut shown = Views::default();
    let events = edge.store.read_stream(&stream, Revision(0)).await?;
    events.first().map(|created| shown.apply(created));
    let gone = || Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR);
    let scheduled = shown.schedules().get(id).ok_or_else(gone)?;
    let doc = ScheduleDoc { position: Some(shown.position()), ..ScheduleDoc::new(id, scheduled) };
    let mut response = answer_at(StatusCode::CREATED, shown.position(), &doc)?;
    if let Ok(location) = format!("/v1/schedules/{id}").parse() {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// The expression and the name of the zone as they are kept. An expression that never comes is found out by a long search,
/// which is not this thread's business.
async fn understood(cron: String, time_zone: String) -> Result<(String, String), Problem> {
    let work = web::block(move || {
        let calendar = Calendar::parse(&cron, &time_zone)?;
        if calendar.next(now()).is_none() {
            return Err(vec![Invalid::new("/cron", "a time that never comes")]);
        }
        let cron = cron.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok((cron, calendar.time_zone().to_owned()))
    });
    work.await.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?.map_err(Problem::invalid)
}

/// The task as `POST /v1/tasks` would take it on now.
fn template(edge: &AppState, caller: &Caller, new: NewTemplate) -> Result<Template, Problem> {
    let new = NewTask {
        kind: new.kind,
        title: new.title,
        input: new.input,
        queue: new.queue,
        priority: new.priority,
        run_at: None,
        max_attempts: new.max_attempts,
        timeout_s: new.timeout_s,
        labels: new.labels,
        owner: new.owner,
        parent: None,
        unique_key: new.unique_key,
        concurrency_key: new.concurrency_key,
    };
    let created = check(edge, caller, new)?;
    let invalid = limits::check(&created);
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

/// The problem of what stands at this place of the body.
fn under(place: &str, mut problem: Problem) -> Problem {
    for invalid in &mut problem.errors {
        invalid.pointer.insert_str(0, place);
    }
    if problem.detail.starts_with('/') {
        problem.detail.insert_str(0, place);
    }
    problem
}

/// `GET /v1/schedules`: those in force, oldest first.
///
/// # Errors
/// 422, 503 `behind`.
pub async fn list(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    wait(&edge, Pairs::of_query(request.query_string())?).await?;
    let (position, schedules) = {
        let views = edge.read.views();
        let schedules: Vec<_> = views.schedules().iter().map(|(id, scheduled)| (id, scheduled.clone())).collect();
        (views.position(), schedules)
    };
    let items = schedules.iter().map(|(id, scheduled)| ScheduleDoc::new(*id, scheduled)).collect();
    answer_at(StatusCode::OK, position, &List { items, position })
}

/// `GET /v1/schedules/{id}`.
///
/// # Errors
/// 404 where it is not in force (any more), 422, 503 `behind`.
pub async fn show(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = id_of(&request)?.uuid();
    wait(&edge, Pairs::of_query(request.query_string())?).await?;
    let (position, scheduled) = {
        let views = edge.read.views();
        (views.position(), views.schedules().get(id).ok_or_else(Problem::not_found)?.clone())
    };
    let doc = ScheduleDoc { position: Some(position), ..ScheduleDoc::new(id, &scheduled) };
    answer_at(StatusCode::OK, position, &doc)
}

/// `DELETE /v1/schedules/{id}`: it creates nothing any more once this has answered; what it has created stays.
///
/// # Errors
/// 400, 404 where it is not in force (any more), 422, 503.
pub async fn remove(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = id_of(&request)?.uuid();
    let reason = reason(&request, payload).await?;
    // What isn't there needs no actor, however often rubbish asks for one.
    if edge.read.views().schedules().get(id).is_none() {
        return Err(Problem::not_found());
    }
    let (stream, command) = (StreamName::schedule(id), ScheduleCommand::Remove { reason });
    let ask = Ask { stream, command, at: now(), meta: caller.meta() };
    let (_, appended) = edge.registry.ask::<Schedule>(ask).await?;
    if appended == 0 {
        return Err(Problem::not_found());
    }
    edge.read.wait_for_position(edge.store.head().position).await;
    edge.firing.wait_until_idle().await;
    Ok(HttpResponse::NoContent().finish())
}

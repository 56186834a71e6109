//! `POST /v1/leases`.

use std::collections::BTreeMap;
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::checks::{LEASES_MAX, WAIT_MAX_S, check_names, check_wait, check_worker};
use crate::dispatch::messages::{Given, Granted, Take};
use crate::http::AppState;
use crate::http::plumbing::answer::answer_at;
use crate::http::plumbing::connection::{ClientConnection, LeaseBody};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::json;
use crate::store::now;
use crate::task::{Invalid, JsonText, Position, TaskId, Timestamp};
use crate::views::WorkOffer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TakeBody {
    worker: String,
    kinds: Option<Vec<String>>,
    queues: Option<Vec<String>>,
    max: Option<u64>,
    wait_s: Option<f64>,
}

#[derive(Serialize)]
struct TakeReply<'a> {
    leases: Vec<LeaseDoc<'a>>,
    position: Position,
}

#[derive(Serialize)]
struct LeaseDoc<'a> {
    lease: String,
    task_id: TaskId,
    kind: &'a str,
    input: &'a JsonText,
    attempt: u32,
    deadline: Timestamp,
    /// Milliseconds, rounded down, from the sending of the answer.
    left_ms: u128,
    title: &'a str,
    owner: &'a str,
    labels: &'a BTreeMap<String, String>,
}

/// `POST /v1/leases`: at most `max` leases, as soon as there is one, or none after `wait_s`. If the client has left before
/// the answer, the attempts are handed back. While the log takes no writes no attempt can start: the answer is a refusal then,
/// not an empty list.
///
/// # Errors
/// 400, 422, 503.
pub async fn take(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (worker, wants, max, wait) = json::read_body::<TakeBody>(&request, payload, json::BODY_MAX).await?.check()?;
    require_log(&state)?;
    let (answer, given) = oneshot::channel();
    let connection = request.conn_data::<ClientConnection>().cloned().unwrap_or_default();
    let gone = Box::new({
        let connection = connection.clone();
        move || connection.is_gone()
    });
    // Waits for room in the dispatcher's mailbox. If the dispatcher is gone, the answer's sender is dropped with the message.
    let _ = state.dispatcher.send(Take { worker, wants, max, wait, gone, answer }).await;
    // A dispatcher that has stopped grants nothing.
    let Given { leases, delivery } = given.await.unwrap_or_default();
    if leases.is_empty() {
        require_log(&state)?;
    }
    let granted_at = (Instant::now(), now());
    state.read.wait_for_position(state.store.head().position).await;
    let position = state.read.position();
    let leases = leases.iter().map(|granted| LeaseDoc::new(granted, granted_at)).collect();
    let response = answer_at(StatusCode::OK, position, &TakeReply { leases, position })?;
    if connection.is_gone() {
        // Dropping the delivery hands the attempts back.
        return Ok(response);
    }
    Ok(LeaseBody::wrap(response, delivery))
}

/// Refuses while the log takes no writes.
fn require_log(state: &AppState) -> Result<(), Problem> {
    let refusal = if state.store.has_failed() { Refusal::LogReadOnly } else { Refusal::LogUnavailable };
    state.store.health().map_err(|why| Problem::new(refusal, format!("no attempt can start: {why}")))
}

impl TakeBody {
    fn check(self) -> Result<(String, WorkOffer, usize, std::time::Duration), Problem> {
        let Self { worker, kinds, queues, max, wait_s } = self;
        let mut invalid = check_worker(&worker);
        check_names(kinds.as_deref(), "/kinds", &mut invalid);
        check_names(queues.as_deref(), "/queues", &mut invalid);
        let max = usize::try_from(max.unwrap_or(1)).unwrap_or(usize::MAX);
        if !(1..=LEASES_MAX).contains(&max) {
            invalid.push(Invalid::new("/max", format!("1 to {LEASES_MAX}")));
        }
        let wait = check_wait(wait_s.unwrap_or(WAIT_MAX_S), &mut invalid);
        if invalid.is_empty() {
            Ok((worker, WorkOffer { kinds, queues }, max, wait))
        } else {
            Err(Problem::invalid(invalid))
        }
    }
}

impl<'a> LeaseDoc<'a> {
    /// The lease has lived since it was granted, while this answer waited for the views.
    fn new(granted: &'a Granted, (granted_at, granted_time): (Instant, Timestamp)) -> Self {
        let Granted { task, attempt, secret, created, left } = granted;
        Self {
            lease: format!("{task}.{attempt}.{secret}"),
            task_id: *task,
            kind: &created.kind,
            input: &created.input,
            attempt: *attempt,
            deadline: granted_time.plus(*left),
            left_ms: left.saturating_sub(granted_at.elapsed()).as_millis(),
            title: &created.title,
            owner: &created.owner,
            labels: &created.labels,
        }
    }
}

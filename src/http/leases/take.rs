//! `POST /v1/leases`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::checks::{LEASES_MAX, WAIT_MAX_S, check_names, check_wait, check_worker};
use super::command::authenticated_subject;
use crate::dispatch::messages::{GrantedLease, GrantedLeases, TakeLeases};
use crate::http::AppState;
use crate::http::identity::Identity;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::connection::{ClientConnection, LeaseResponseBody};
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::json;
use crate::http::plumbing::response::respond_with_position;
use crate::store::now;
use crate::task::access::Action;
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

/// A checked request.
struct CheckedTake {
    worker: String,
    /// The kinds and queues that the worker takes tasks from.
    wants: WorkOffer,
    /// The maximum number of leases.
    max: usize,
    /// How long the request waits for the first lease.
    wait: Duration,
}

#[derive(Serialize)]
struct TakeResponse<'a> {
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
    /// How long the lease is valid from the moment when the response is sent: milliseconds, rounded down.
    left_ms: u128,
    title: &'a str,
    owner: &'a str,
    labels: &'a BTreeMap<String, String>,
}

/// `POST /v1/leases`: grants up to `max` leases. The response is sent when at least one lease is granted, or with an
/// empty list after `wait_s` seconds. The empty list is sent at once if too many requests wait already, or if the server is
/// stopping.
///
/// If the client has closed its connection before the response is sent, or its credential has ended, the attempts are returned to
/// the queue. While
/// the log accepts no writes, no attempt can start, and the request is refused, also if it waits already.
///
/// # Errors
/// 400, 401 if the caller's credential ends during the wait, 422, 429 `too_many_requests`, 503.
pub async fn take(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::UseLeases)?;
    let CheckedTake { worker, wants, max, wait } =
        json::read_body::<TakeBody>(&request, payload, json::BodyKind::One).await?.check()?;
    let wants = restrict_kinds(&caller.identity, wants)?;
    require_writable_log(&state)?;
    let permit = if wait.is_zero() { None } else { Some(state.long_polls.acquire(&caller)?) };
    let (answer_sender, granted) = oneshot::channel();
    let connection = request.conn_data::<ClientConnection>().cloned().unwrap_or_default();
    let gone = Box::new({
        let connection = connection.clone();
        move || connection.is_gone()
    });
    // This waits until the dispatcher's mailbox has room. If the dispatcher has stopped, the message is dropped with
    // the sender of its response, and `granted` ends without leases.
    let _ = state
        .dispatcher
        .send(TakeLeases {
            worker,
            actor: authenticated_subject(&caller),
            offer: wants,
            max,
            wait,
            is_client_gone: gone,
            caller: answer_sender,
        })
        .await;
    // If the credential ends first, the receiver is dropped. Then the dispatcher grants no lease, or releases it again.
    // The same holds if the log can't be written any more.
    let granted = while_writable(&state, granted);
    let granted = caller.identity.while_valid(&state.reader, granted).await??;
    let GrantedLeases { leases, delivery, are_starts_paused } = granted;
    drop(permit);
    if leases.is_empty() {
        require_writable_log(&state)?;
        if are_starts_paused {
            let detail = "no attempt can start now: the start of an attempt could not be recorded a moment ago";
            return Err(Problem::new(Refusal::LogUnavailable, detail));
        }
    }
    let received_at = (Instant::now(), now());
    state.reader.wait_for_position(state.store.head().position).await;
    // The credential may have ended after the grant. The delivery is dropped then, as for a client that has left.
    caller.identity.require_valid(&state.reader)?;
    let position = state.reader.position();
    let leases = leases.iter().map(|granted| LeaseDoc::new(granted, received_at)).collect();
    let response = respond_with_position(StatusCode::OK, position, &TakeResponse { leases, position })?;
    if connection.is_gone() {
        // The delivery is dropped here, which returns the attempts to the queue.
        return Ok(response);
    }
    Ok(LeaseResponseBody::wrap(response, delivery))
}

/// Limits the kinds to those of the caller's credential.
fn restrict_kinds(identity: &Identity, wants: WorkOffer) -> Result<WorkOffer, Problem> {
    let kinds = match (wants.kinds, &identity.kinds) {
        (None, Some(allowed)) => Some(allowed.to_vec()),
        (Some(kinds), _) => match kinds.iter().find(|kind| !identity.may_lease(kind)) {
            Some(kind) => {
                let detail = format!("this credential may not take leases of the kind `{kind}`");
                return Err(Problem::new(Refusal::Forbidden, detail));
            }
            None => Some(kinds),
        },
        (None, None) => None,
    };
    Ok(WorkOffer { kinds, ..wants })
}

/// Waits for the leases while the log accepts writes. If both end at the same time, the leases count.
///
/// # Errors
/// The log accepts no writes any more.
async fn while_writable(state: &AppState, granted: oneshot::Receiver<GrantedLeases>) -> Result<GrantedLeases, Problem> {
    tokio::select! {
        biased;
        granted = granted => Ok(granted.unwrap_or_default()),
        health = state.store.wait_for_health(false) => {
            health.map_err(|reason| no_attempt_can_start(state, &reason))?;
            Ok(GrantedLeases::default())
        }
    }
}

/// Refuses the request while the log accepts no writes.
fn require_writable_log(state: &AppState) -> Result<(), Problem> {
    state.store.health().map_err(|reason| no_attempt_can_start(state, &reason))
}

fn no_attempt_can_start(state: &AppState, reason: &str) -> Problem {
    let refusal = if state.store.has_failed() { Refusal::LogReadOnly } else { Refusal::LogUnavailable };
    Problem::new(refusal, format!("no attempt can start: the log: {reason}"))
}

impl TakeBody {
    fn check(self) -> Result<CheckedTake, Problem> {
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
            Ok(CheckedTake { worker, wants: WorkOffer { kinds, queues }, max, wait })
        } else {
            Err(Problem::invalid(invalid))
        }
    }
}

impl<'a> LeaseDoc<'a> {
    /// The pair says when the HTTP handler received the lease from the dispatcher, as an `Instant` and as a wall-clock time.
    /// Since then the request has waited for the views, so less of the lease's time is left.
    fn new(granted: &'a GrantedLease, (received_at, received_time): (Instant, Timestamp)) -> Self {
        let GrantedLease { task, attempt, secret, created, time_left } = granted;
        Self {
            lease: format!("{task}.{attempt}.{}", secret.reveal()),
            task_id: *task,
            kind: &created.kind,
            input: &created.input,
            attempt: *attempt,
            deadline: received_time.plus(*time_left),
            left_ms: time_left.saturating_sub(received_at.elapsed()).as_millis(),
            title: &created.title,
            owner: &created.owner,
            labels: &created.labels,
        }
    }
}

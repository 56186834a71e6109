//! The worker's side: take, heartbeat, acknowledge, finish. A lease is `<task>.<attempt>.<secret>`; only the hash of the
//! secret is in the log, and whoever shows another one is told that the lease is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::dev::RecipientRequest;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::AppState;
use super::finish::Finish;
use super::plumbing::answer::{answer_at, answer_empty};
use super::plumbing::caller::Caller;
use super::plumbing::connection::{ClientConnection, LeaseBody};
use super::plumbing::error::Problem;
use super::plumbing::json;
use crate::dispatch::lease_table::{HeartbeatReply, LeaseHeartbeat};
use crate::dispatch::messages::{Directive, Given, Granted, Heartbeat, Take};
use crate::projection::projector::NoteProgress;
use crate::store::{Meta, Via, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::task::event::Progress;
use crate::task::limits::{LOCAL_WORKER, TEXT_MAX, WORKER_MAX, is_line, is_name, is_own};
use crate::task::{Command, Invalid, Position, Rejection, TaskId, Timestamp};
use crate::views::{Row, WorkOffer};

/// Leases of one request.
const LEASES_MAX: usize = 1000;
/// Names in one list of a request.
const NAMES_MAX: usize = 64;
/// The longest long poll.
const WAIT_MAX_S: f64 = 30.0;

/// A lease, as its worker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// BLAKE3 of its secret, in hexadecimal.
    pub hash: String,
}

impl Lease {
    /// The lease of this text.
    ///
    /// # Errors
    /// 422 where it can't be one.
    pub fn parse(text: &str, pointer: &str) -> Result<Self, Problem> {
        let mut parts = text.split('.');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        if let (Some(task), Some(attempt), Some(secret), None) = parts
            && let (Ok(task), Ok(attempt)) = (task.parse(), attempt.parse())
        {
            return Ok(Self { task, attempt, hash: blake3::hash(secret.as_bytes()).to_hex().to_string() });
        }
        Err(Problem::invalid_field(pointer, "a lease is <task>.<attempt>.<secret>, as it was handed out"))
    }
}

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
struct Leases<'a> {
    leases: Vec<LeaseDoc<'a>>,
    position: Position,
}

#[derive(Serialize)]
struct LeaseDoc<'a> {
    lease: String,
    task_id: TaskId,
    kind: &'a str,
    input: &'a Value,
    attempt: u32,
    deadline: Timestamp,
    title: &'a str,
    owner: &'a str,
    labels: &'a BTreeMap<String, String>,
}

impl<'a> LeaseDoc<'a> {
    fn new(granted: &'a Granted, now: Timestamp) -> Self {
        let Granted { task, attempt, secret, created, ttl } = granted;
        Self {
            lease: format!("{task}.{attempt}.{secret}"),
            task_id: *task,
            kind: &created.kind,
            input: &created.input,
            attempt: *attempt,
            deadline: now.plus(*ttl),
            title: &created.title,
            owner: &created.owner,
            labels: &created.labels,
        }
    }
}

/// `POST /v1/leases`: work, as soon as there is some. If the caller leaves before the answer, it is handed back.
///
/// # Errors
/// 400, 422, 503.
pub async fn take(
    edge: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let TakeBody { worker, kinds, queues, max, wait_s } = json::read_body(&request, payload, json::BODY_MAX).await?;
    let mut invalid = check_worker(&worker);
    check_names(kinds.as_deref(), "/kinds", &mut invalid);
    check_names(queues.as_deref(), "/queues", &mut invalid);
    let max = max.unwrap_or(1);
    if !(1..=LEASES_MAX as u64).contains(&max) {
        invalid.push(Invalid::new("/max", format!("1 to {LEASES_MAX}")));
    }
    let wait = wait(wait_s.unwrap_or(WAIT_MAX_S), &mut invalid);
    if !invalid.is_empty() {
        return Err(Problem::invalid(invalid));
    }
    let (answer, given) = oneshot::channel();
    let max = usize::try_from(max).unwrap_or(1);
    let line = request.conn_data::<ClientConnection>().cloned().unwrap_or_default();
    let gone = Box::new({
        let line = line.clone();
        move || line.is_gone()
    });
    edge.dispatcher.do_send(Take { worker, wants: WorkOffer { kinds, queues }, max, wait, gone, answer });
    // A dispatcher that has stopped has nothing to give.
    let Given { leases, delivery } = given.await.unwrap_or_default();
    // They live from now on, however long the views take.
    let now = now();
    edge.read.wait_for_position(edge.store.head().position).await;
    let position = edge.read.position();
    let leases = leases.iter().map(|granted| LeaseDoc::new(granted, now)).collect();
    let response = answer_at(StatusCode::OK, position, &Leases { leases, position })?;
    if line.is_gone() {
        // What is dropped here is handed back.
        return Ok(response);
    }
    Ok(LeaseBody::wrap(response, delivery))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatBody {
    worker: String,
    leases: Vec<json::Object<BeatBody>>,
    wait_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BeatBody {
    lease: String,
    progress: Option<json::Object<ProgressBody>>,
    seen: Option<Directive>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgressBody {
    fraction: Option<f64>,
    message: Option<String>,
}

#[derive(Serialize)]
struct News {
    directives: Vec<Told>,
    deadline: Option<Timestamp>,
}

#[derive(Serialize)]
struct Told {
    lease: String,
    directive: Directive,
}

/// `POST /v1/leases/heartbeat`: the leases live on; the answer comes with the first news of any of them.
///
/// # Errors
/// 400, 422, 503.
pub async fn heartbeat(
    edge: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: HeartbeatBody = json::read_body(&request, payload, json::BATCH_MAX).await?;
    let HeartbeatBody { worker, leases, wait_s } = body;
    let mut invalid = check_worker(&worker);
    if leases.len() > LEASES_MAX {
        invalid.push(Invalid::new("/leases", format!("at most {LEASES_MAX}")));
    }
    let wait = wait(wait_s.unwrap_or(0.0), &mut invalid);
    let (mut texts, mut beats, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for (place, json::Object(BeatBody { lease, progress, seen })) in leases.into_iter().enumerate() {
        match Lease::parse(&lease, &format!("/leases/{place}/lease")) {
            Ok(Lease { task, attempt, hash }) => {
                said.extend(progress.and_then(|said| said.0.check(place, &mut invalid)).map(|said| (place, said)));
                beats.push(LeaseHeartbeat { task, attempt, secret: hash, seen });
                texts.push(lease);
            }
            Err(problem) => invalid.extend(problem.errors),
        }
    }
    if !invalid.is_empty() {
        return Err(Problem::invalid(invalid));
    }
    // Heard before this is answered: the end that its worker reports next is recorded with it.
    join_all(said.into_iter().filter_map(|(place, said)| note(&edge, &worker, &beats[place], said))).await;
    let (answer, beaten) = oneshot::channel();
    edge.dispatcher.do_send(Heartbeat { worker, beats, wait, answer });
    let HeartbeatReply { directives, left } =
        beaten.await.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?;
    let told = |(place, directive): (usize, Directive)| Some(Told { lease: texts.get(place)?.clone(), directive });
    let directives = directives.into_iter().filter_map(told).collect();
    let deadline = left.map(|left| now().plus(left));
    answer_at(StatusCode::OK, edge.read.position(), &News { directives, deadline })
}

impl ProgressBody {
    fn check(self, place: usize, invalid: &mut Vec<Invalid>) -> Option<Progress> {
        let Self { fraction, message } = self;
        let mut rule = |holds: bool, field: &str, detail: &str| {
            if !holds {
                invalid.push(Invalid::new(format!("/leases/{place}/progress/{field}"), detail));
            }
            holds
        };
        let fraction_holds = rule(fraction.is_none_or(|f| (0.0..=1.0).contains(&f)), "fraction", "0 to 1");
        let message_holds = message.as_ref().is_none_or(|text| is_line(text, TEXT_MAX));
        let message_holds = rule(message_holds, "message", "one line of 1 to 1024 bytes");
        // Adding zero turns -0.0 into 0.0.
        let fraction = fraction.map(|fraction| fraction + 0.0);
        (fraction_holds && message_holds).then(|| Progress { fraction, message, at: now() })
    }
}

/// Only whoever holds the attempt says how far it has come.
fn note(
    edge: &AppState,
    worker: &str,
    beat: &LeaseHeartbeat,
    progress: Progress,
) -> Option<RecipientRequest<NoteProgress>> {
    let LeaseHeartbeat { task, attempt, ref secret, .. } = *beat;
    let holder = |row: &Row| row.attempt() == attempt && row.lease() == Some(secret) && row.worker() == Some(worker);
    let theirs = edge.read.views().get(task).is_some_and(holder);
    theirs.then(|| edge.progress.send(NoteProgress { task, attempt, progress }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckBody {
    lease: String,
    stopping_after: Option<String>,
    expected_end: Option<Timestamp>,
}

/// `POST /v1/leases/cancel-ack`: the worker has heard the request to cancel.
///
/// # Errors
/// 400, 409 `lease_lost` or `not_cancelling`, 422, 503.
pub async fn acknowledge(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let AckBody { lease, stopping_after, expected_end } = json::read_body(&request, payload, json::BODY_MAX).await?;
    let lease = Lease::parse(&lease, "/lease")?;
    if stopping_after.as_ref().is_some_and(|step| !is_line(step, TEXT_MAX)) {
        return Err(Problem::invalid_field("/stopping_after", "one line of 1 to 1024 bytes"));
    }
    let Lease { attempt, ref hash, .. } = lease;
    let command = Command::AcknowledgeCancel { attempt, lease: Some(hash.clone()), stopping_after, expected_end };
    let receipt = edge.registry.execute(asks(&edge, &caller, &lease, command)).await.map_err(no_lease)?;
    edge.read.wait_for_revision(lease.task, receipt.revision).await;
    Ok(answer_empty(HttpResponse::NoContent(), edge.read.position()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishBody {
    items: Vec<Value>,
}

#[derive(Serialize)]
struct Finished {
    items: Vec<Item>,
    position: Position,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Status(&'static str),
    Problem(Problem),
}

/// `POST /v1/leases/finish`: how attempts ended, each judged by itself. One that is sent twice is answered twice the same.
///
/// # Errors
/// Where the body itself can't be what it is; what is wrong with one item is said in its place.
pub async fn finish(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let FinishBody { items } = json::read_body(&request, payload, json::BATCH_MAX).await?;
    if !(1..=LEASES_MAX).contains(&items.len()) {
        return Err(Problem::invalid_field("/items", format!("1 to {LEASES_MAX} items")));
    }
    let mut answers = Vec::with_capacity(items.len());
    let (mut leases, mut commands) = (Vec::new(), Vec::new());
    for (place, item) in items.into_iter().enumerate() {
        let read = json::read::<Finish>(item).and_then(Finish::check);
        match read {
            Ok((lease, command)) => {
                let progress = live_progress(&edge, &lease);
                commands.push(asks(&edge, &caller, &lease, command(progress)));
                leases.push((place, lease));
                answers.push(None);
            }
            Err(problem) => answers.push(Some(Item::Problem(problem))),
        }
    }
    let receipts = edge.registry.execute_many(commands).await;
    for ((place, lease), receipt) in leases.into_iter().zip(receipts) {
        let status = receipt.map(|receipt| receipt.task.ended_by_its_worker(lease.attempt, &lease.hash));
        answers[place] = Some(match status {
            Ok(Some(status)) => Item::Status(status.name()),
            Ok(None) => Item::Problem(Rejection::LeaseLost.into()),
            Err(error) => Item::Problem(no_lease(error)),
        });
    }
    edge.read.wait_for_position(edge.store.head().position).await;
    let position = edge.read.position();
    let named = |item| match item {
        Item::Problem(problem) => Item::Problem(Problem { request_id: caller.request_id.clone(), ..problem }),
        status @ Item::Status(_) => status,
    };
    let items = answers.into_iter().flatten().map(named).collect();
    answer_at(StatusCode::OK, position, &Finished { items, position })
}

fn live_progress(edge: &AppState, lease: &Lease) -> Option<Progress> {
    let views = edge.read.views();
    let row = views.get(lease.task)?;
    views.live_progress(lease.task).filter(|_| row.attempt() == lease.attempt).cloned()
}

/// A worker's word. Who it is the log knows by the attempt.
fn asks(edge: &AppState, caller: &Caller, lease: &Lease, command: Command) -> Execute {
    let views = edge.read.views();
    let worker = views.get(lease.task).filter(|row| row.attempt() == lease.attempt).and_then(|row| row.worker());
    let meta = Meta { actor: worker.unwrap_or("worker").to_owned(), via: Via::Worker, ..caller.meta() };
    Execute { task: lease.task, command, at: now(), meta }
}

/// A task that isn't there is a lease that isn't there.
fn no_lease(error: ExecuteError) -> Problem {
    match error {
        ExecuteError::Rejected(Rejection::NotFound) => Rejection::LeaseLost.into(),
        error => Problem::of_report(error),
    }
}

fn check_worker(worker: &str) -> Vec<Invalid> {
    let mut invalid = Vec::new();
    if !is_line(worker, WORKER_MAX * 4) || worker.chars().count() > WORKER_MAX {
        invalid.push(Invalid::new("/worker", format!("one line of 1 to {WORKER_MAX} characters")));
    } else if worker.starts_with(LOCAL_WORKER) {
        invalid.push(Invalid::new("/worker", "names that begin with `local/` are those of workers inside a server"));
    }
    invalid
}

fn check_names(names: Option<&[String]>, pointer: &str, invalid: &mut Vec<Invalid>) {
    let Some(names) = names else { return };
    if !(1..=NAMES_MAX).contains(&names.len()) {
        invalid.push(Invalid::new(pointer, format!("1 to {NAMES_MAX} names; leave it away for any")));
    }
    for (place, name) in names.iter().enumerate() {
        if !is_name(name) || is_own(name) {
            let detail = "1 to 64 of a-z, 0-9, '.', '_', '-', and not this server's own";
            invalid.push(Invalid::new(format!("{pointer}/{place}"), detail));
        }
    }
}

fn wait(seconds: f64, invalid: &mut Vec<Invalid>) -> Duration {
    if (0.0..=WAIT_MAX_S).contains(&seconds) {
        return Duration::from_secs_f64(seconds);
    }
    invalid.push(Invalid::new("/wait_s", format!("0 to {WAIT_MAX_S} seconds")));
    Duration::ZERO
}

//! `POST /v1/tasks`: a piece of work is accepted, once for each idempotency key, and once at a time for each unique key.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::Value;

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::tasks::{self, answer};
use crate::store::now;
use crate::streams::create::{self, Accepted};
use crate::streams::keyed_lock::KeyGuard;
use crate::task::event::{Created, Idempotency};
use crate::task::limits::{INPUT_MAX, KEY_MAX, TITLE_MAX, is_inline, is_line, is_name, is_own};
use crate::task::{Command, Invalid, Revision, TaskId, Timestamp};

/// Where a task waits that doesn't say where.
const DEFAULT_QUEUE: &str = "default";

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTask {
    pub(super) kind: String,
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) input: Value,
    pub(super) queue: Option<String>,
    pub(super) priority: Option<i32>,
    pub(super) run_at: Option<Timestamp>,
    pub(super) max_attempts: Option<u32>,
    pub(super) timeout_s: Option<u64>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) owner: Option<String>,
    pub(super) parent: Option<TaskId>,
    pub(super) unique_key: Option<String>,
    pub(super) concurrency_key: Option<String>,
}

/// The task that an idempotency key stands for, and the hash of the body that it came with.
pub type Known = (TaskId, String);

/// `POST /v1/tasks`: 201 and the new task, or 200 and the task that an idempotency key or a unique key stands for. The
/// holder of a unique key is answered as it is, whatever else the request asks for.
///
/// # Errors
/// See [`accept`].
pub async fn create(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    super::plumbing::query::Pairs::of_query(request.query_string())?.done()?;
    let key = idempotency_key(&request)?;
    let body = json::body(&request, payload, json::BODY_MAX).await?;
    let body = body.ok_or_else(|| Problem::malformed_json("a body is needed"))?;
    match accept(&edge, &caller, body, key).await? {
        Accepted::Known(id) | Accepted::Held(id) => {
            answer(StatusCode::OK, &tasks::read_page(&edge, id, Revision(0)).await?)
        }
        Accepted::New(id, receipt) => {
            let mut response = answer(StatusCode::CREATED, &tasks::page_of(&edge, id, &receipt).await?)?;
            if let Ok(location) = format!("/v1/tasks/{id}").parse() {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
    }
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut given = request.headers().get_all("idempotency-key");
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    if given.next().is_some() || !is_line(text, KEY_MAX) {
        let detail = "the header Idempotency-Key holds one key of 1 to 255 printable ASCII characters";
        return Err(Problem::invalid(vec![Invalid::new("", detail)]));
    }
    Ok(Some(text.to_owned()))
}

/// Accepts one piece of work: durable when this answers. Whoever shows it waits for the views.
///
/// The idempotency key is looked at first. It lives on the task that its request created: where the answer was the holder
/// of a unique key, nothing is remembered, and the same request may lead to a task once that one is final.
///
/// # Errors
/// 413, 422 `invalid_request` or `idempotency_key_reused`, 503 where the log can't be written.
pub async fn accept(edge: &AppState, caller: &Caller, body: Value, key: Option<String>) -> Result<Accepted, Problem> {
    let body_hash = key.as_ref().map(|_| json::digest(&body));
    let new = json::read(body)?;
    let (Some(key), Some(body_hash)) = (key, body_hash) else {
        return begin(edge, caller, check(edge, caller, new)?).await;
    };
    let mut turn = edge.keys.turn((caller.subject.clone(), key.clone())).await;
    if let Some((id, hash)) = known(edge, caller, &key, &turn) {
        if hash == body_hash {
            return Ok(Accepted::Known(id));
        }
        let detail = "this Idempotency-Key stands for a request with another body";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail));
    }
    // Only now: what was accepted once stays accepted, also by a server with other roots or kinds.
    let mut created = check(edge, caller, new)?;
    created.idempotency = Some(Idempotency { key, body_hash: body_hash.clone() });
    // If the caller is gone before this is through, the append may still happen: the work goes on without it, and the
    // turn with it, so that the key is remembered.
    let (edge, caller) = (edge.clone(), caller.clone());
    let work = actix_rt::spawn(async move {
        let accepted = begin(&edge, &caller, created).await?;
        if let Accepted::New(id, receipt) = &accepted {
            turn.remember((*id, body_hash));
            if edge.read.wait_for_revision(*id, receipt.revision).await {
                turn.forget();
            }
        }
        Ok(accepted)
    });
    work.await.unwrap_or_else(|_| Err(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)))
}

/// What a request without keys stands for.
///
/// # Errors
/// 413, 422 `invalid_request`.
pub fn plain(edge: &AppState, caller: &Caller, body: Value) -> Result<Created, Problem> {
    check(edge, caller, json::read(body)?)
}

/// Takes on pieces of work without keys, all of them in one write: durable when this answers, in the same order.
pub async fn begin_plain(edge: &AppState, caller: &Caller, new: Vec<Created>) -> Vec<Result<TaskId, Problem>> {
    let ids: Vec<TaskId> = new.iter().map(|_| edge.registry.new_task_id()).collect();
    let asks = ids.iter().zip(new).map(|(id, created)| caller.asks(*id, Command::Create(Box::new(created))));
    let begun = edge.registry.execute_many(asks.collect()).await;
    ids.into_iter().zip(begun).map(|(id, begun)| Ok(begun.map(|_| id)?)).collect()
}

fn known(edge: &AppState, caller: &Caller, key: &str, turn: &KeyGuard<Known>) -> Option<Known> {
    let views = edge.read.views();
    let shown = views.find_idempotent(&caller.subject, key).map(|(id, hash)| (id, hash.to_owned()));
    shown.or_else(|| turn.known().cloned())
}

async fn begin(edge: &AppState, caller: &Caller, created: Created) -> Result<Accepted, Problem> {
    let id = edge.registry.new_task_id();
    Ok(create::create(&edge.registry, &edge.read, &edge.unique, created, id, now(), caller.meta()).await?)
}

/// Fills in what the request left open, and refuses what this process knows to be wrong. The rules check the rest.
pub(super) fn check(edge: &AppState, caller: &Caller, new: NewTask) -> Result<Created, Problem> {
    if new.input.to_string().len() > INPUT_MAX {
        let errors = vec![Invalid::new("/input", format!("at most {INPUT_MAX} bytes as compact JSON"))];
        return Err(Problem { errors, ..Problem::too_large(format!("/input: more than {INPUT_MAX} bytes")) });
    }
    let mut invalid = Vec::new();
    let offered = edge.kinds.as_ref().is_none_or(|kinds| kinds.contains(&new.kind));
    if is_own(&new.kind) {
        invalid.push(Invalid::new("/kind", "kinds that begin with `taskbell.` are this server's own"));
    } else if is_name(&new.kind) && !offered {
        invalid.push(Invalid::new("/kind", "this server does not take this kind"));
    }
    if new.parent.is_some_and(|parent| edge.read.views().get(parent).is_none()) {
        invalid.push(Invalid::new("/parent", "there is no such task"));
    }
    if new.queue.as_ref().is_some_and(|queue| is_own(queue)) {
        invalid.push(Invalid::new("/queue", "queues that begin with `taskbell.` are this server's own"));
    }
    let handler = edge.handlers.get(&new.kind);
    if let Some(Err(errors)) = handler.as_ref().map(|handler| handler.check(&new.input)) {
        invalid.extend(errors.into_iter().map(|e| Invalid::new(format!("/input{}", e.pointer), e.detail)));
    }
    if !invalid.is_empty() {
        return Err(Problem::invalid(invalid));
    }
    let defaults = handler.as_ref().map(|handler| handler.defaults()).unwrap_or_default();
    let set = edge.settings.of(&new.kind);
    let timeout_s = defaults.timeout.map(|timeout| timeout.as_secs().max(1));
    let suggested = || handler.as_ref().and_then(|handler| handler.title(&new.input)).map(|title| one_line(&title));
    Ok(Created {
        title: new.title.or_else(suggested).unwrap_or_else(|| new.kind.clone()),
        kind: new.kind,
        owner: new.owner.unwrap_or_else(|| caller.subject.clone()),
        input: new.input,
        queue: new.queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()),
        priority: new.priority.unwrap_or(0),
        run_at: new.run_at,
        max_attempts: new.max_attempts.or(set.and_then(|set| set.max_attempts)).unwrap_or(defaults.max_attempts),
        timeout_s: new.timeout_s.or(set.and_then(|set| set.timeout_s)).or(timeout_s),
        labels: new.labels.unwrap_or_default(),
        parent: new.parent,
        unique_key: new.unique_key,
        concurrency_key: new.concurrency_key,
        schedule: None,
        idempotency: None,
    })
}

/// A handler's suggestion, made fit for one line of at most [`TITLE_MAX`] bytes.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if is_inline(c) { c } else { ' ' }).collect();
    let mut end = line.len().min(TITLE_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

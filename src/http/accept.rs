//! A new task: its request is checked, its open fields are filled in, and it is accepted. `POST /v1/tasks`, the batch,
//! schedules and [`app`](crate::app) share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use serde::Deserialize;

use super::plumbing::body_hash::{body_hash, is_hash_of};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::state::{AppState, IdempotentTask};
use crate::store::now;
use crate::streams::create::{self, Accepted};
use crate::streams::keyed_lock::KeyGuard;
use crate::task::event::{Created, Idempotency};
use crate::task::limits::{INPUT_MAX, TITLE_MAX, is_inline, is_name, is_own, is_within};
use crate::task::{Command, Invalid, JsonText, Rejection, TaskId, Timestamp};
use crate::views::Views;

/// The queue of a task that names none.
const DEFAULT_QUEUE: &str = "default";

/// A new task, as the client sends it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    pub(super) kind: String,
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) input: JsonText,
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
    /// In an item of a batch alone.
    #[serde(default)]
    pub(super) idempotency_key: ItemKey,
}

/// The idempotency key inside an item of a batch.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Option<String>")]
pub(super) enum ItemKey {
    #[default]
    Absent,
    /// Null is no key.
    Given(Option<String>),
}

impl From<Option<String>> for ItemKey {
    fn from(key: Option<String>) -> Self {
        Self::Given(key)
    }
}

/// The idempotency key of a request, and the scanned text of its body.
#[derive(Debug)]
pub struct KeyedBody<'a> {
    /// The key.
    pub key: String,
    /// The body, or the item of a batch.
    pub body: &'a str,
}

impl NewTask {
    /// A new task of this kind and with this input, and the defaults for all else.
    #[must_use]
    pub fn new(kind: &str, input: JsonText) -> Self {
        Self { kind: kind.to_owned(), input, ..Self::default() }
    }
}

/// Accepts a new task. When this returns, the task is durable, and the views may not show it yet.
///
/// The idempotency key is checked first. It is recorded with the task that its request creates. Where the answer is the
/// holder of a unique key, the idempotency key is not recorded: the same request creates a task once the holder is final.
///
/// # Errors
/// 413, 422 `invalid_request` or `idempotency_key_reused`, 503 where the log can't be written.
pub async fn accept(
    state: &AppState,
    caller: &Caller,
    new: NewTask,
    keyed: Option<KeyedBody<'_>>,
) -> Result<Accepted, Problem> {
    let Some(KeyedBody { key, body }) = keyed else {
        return create_task(state, caller, check(state, caller, new)?).await;
    };
    let mut turn = state.keys.turn((caller.subject.clone(), key.clone())).await;
    if let Some((id, hash)) = known_task(state, caller, &key, &turn).await? {
        if is_hash_of(&hash, body) {
            return Ok(Accepted::Known(id));
        }
        return Err(Rejection::IdempotencyKeyReused.into());
    }
    // Checked after the key, so that a repeated request gets its task also from a server with other roots or kinds.
    let mut created = check(state, caller, new)?;
    let body_hash = body_hash(body);
    created.idempotency = Some(Idempotency { key, body_hash: body_hash.clone() });
    // If the client disconnects during the append, this handler is dropped and the append may still succeed. So the append
    // runs in a task of its own, which holds the lock of the key until the views show the key.
    let (state, caller) = (state.clone(), caller.clone());
    let accepted = actix_rt::spawn(async move {
        let accepted = create_task(&state, &caller, created).await?;
        if let Accepted::New(id, receipt) = &accepted {
            turn.remember((*id, body_hash));
            if state.read.wait_for_revision(*id, receipt.revision).await {
                turn.forget();
            }
        }
        Ok(accepted)
    });
    accepted.await.unwrap_or_else(|_| Err(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)))
}

/// Creates tasks without keys, all of them in one write. When this returns they are durable; the answers are in the order
/// of the tasks.
pub async fn create_plain(state: &AppState, caller: &Caller, new: Vec<Created>) -> Vec<Result<TaskId, Problem>> {
    let ids: Vec<TaskId> = new.iter().map(|_| state.registry.new_task_id()).collect();
    let commands = ids.iter().zip(new).map(|(id, created)| caller.command(*id, Command::Create(Arc::new(created))));
    let created = state.registry.execute_many(commands.collect()).await;
    ids.into_iter().zip(created).map(|(id, created)| Ok(created.map(|_| id)?)).collect()
}

/// The task of this idempotency key: from the views, or, where they are late, from the lock or the key's claim.
async fn known_task(
    state: &AppState,
    caller: &Caller,
    key: &str,
    turn: &KeyGuard<IdempotentTask>,
) -> Result<Option<IdempotentTask>, Problem> {
    let find = |views: &Views| views.find_idempotent(&caller.subject, key).map(|(id, hash)| (id, hash.to_owned()));
    let shown = find(&state.read.views());
    match shown.or_else(|| turn.known().cloned()) {
        Some(known) => Ok(Some(known)),
        None => Ok(create::find_claimed(&state.registry, &caller.subject, key).await?),
    }
}

async fn create_task(state: &AppState, caller: &Caller, created: Created) -> Result<Accepted, Problem> {
    let id = state.registry.new_task_id();
    Ok(create::create(&state.registry, &state.read, &state.unique, created, id, now(), caller.meta()).await?)
}

/// Fills in the fields that the request left open, and refuses what only this process can check. The rules check the rest.
///
/// # Errors
/// 413, 422 `invalid_request`.
pub fn check(state: &AppState, caller: &Caller, new: NewTask) -> Result<Created, Problem> {
    if !is_within(&new.input, INPUT_MAX) {
        let errors = vec![Invalid::new("/input", format!("at most {INPUT_MAX} bytes as compact JSON"))];
        return Err(Problem { errors, ..Problem::too_large(format!("/input: more than {INPUT_MAX} bytes")) });
    }
    let mut invalid = Vec::new();
    let is_allowed = state.kinds.as_ref().is_none_or(|kinds| kinds.contains(&new.kind));
    if is_own(&new.kind) {
        invalid.push(Invalid::new("/kind", "kinds that begin with `taskbell.` are this server's own"));
    } else if is_name(&new.kind) && !is_allowed {
        invalid.push(Invalid::new("/kind", "this server does not take this kind"));
    }
    if new.parent.is_some_and(|parent| state.read.views().get(parent).is_none()) {
        invalid.push(Invalid::new("/parent", "there is no such task"));
    }
    if new.queue.as_ref().is_some_and(|queue| is_own(queue)) {
        invalid.push(Invalid::new("/queue", "queues that begin with `taskbell.` are this server's own"));
    }
    let handler = state.handlers.get(&new.kind).map(|handler| (handler, new.input.to_value()));
    if let Some(Err(errors)) = handler.as_ref().map(|(handler, input)| handler.check(input)) {
        invalid.extend(errors.into_iter().map(|e| Invalid::new(format!("/input{}", e.pointer), e.detail)));
    }
    if !invalid.is_empty() {
        return Err(Problem::invalid(invalid));
    }
    let defaults = handler.as_ref().map(|(handler, _)| handler.defaults()).unwrap_or_default();
    let set = state.settings.of(&new.kind);
    let timeout_s = defaults.timeout.map(|timeout| timeout.as_secs().max(1));
    let suggested_title =
        || handler.as_ref().and_then(|(handler, input)| handler.title(input)).map(|title| one_line(&title));
    Ok(Created {
        title: new.title.or_else(suggested_title).unwrap_or_else(|| new.kind.clone()),
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

/// The text as one line of at most [`TITLE_MAX`] bytes.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if is_inline(c) { c } else { ' ' }).collect();
    let mut end = line.len().min(TITLE_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

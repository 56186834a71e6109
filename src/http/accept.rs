//! The creation of a task: its request is checked, the omitted fields get their defaults, and the task is appended to
//! the log. `POST /v1/tasks`, `POST /v1/tasks/batch`, `POST /v1/schedules` and [`app`](crate::app) use this module.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use actix_web::http::StatusCode;
use serde::Deserialize;

use super::plumbing::body_hash::{body_hash, is_hash_of};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::state::{AppState, IdempotentTask};
use super::task_access::is_visible;
use crate::store::{StreamName, now};
use crate::streams::create::{self, Accepted};
use crate::streams::keyed_lock::KeyGuard;
use crate::task::access::Action;
use crate::task::event::{Created, Idempotency};
use crate::task::json::text::scanned;
use crate::task::limits::{IDEMPOTENCY_KEY_MAX, is_line, is_line_character, is_name, is_reserved};
use crate::task::{Command, Invalid, JsonText, Rejection, Revision, TaskId, Timestamp};
use crate::views::Views;

pub(super) mod docs;

/// The queue of a task whose request names no queue.
const DEFAULT_QUEUE: &str = "default";

/// The body of a request for a new task.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    pub(super) kind: String,
    pub(super) title: Option<String>,
    #[serde(default, deserialize_with = "scanned")]
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
    /// Only in an item of a batch.
    #[serde(default)]
    pub(super) idempotency_key: ItemKey,
}

/// The field `idempotency_key` of an item.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Option<String>")]
pub(super) enum ItemKey {
    #[default]
    Absent,
    /// `None` if the field is null.
    Given(Option<String>),
}

impl From<Option<String>> for ItemKey {
    fn from(key: Option<String>) -> Self {
        Self::Given(key)
    }
}

/// The idempotency key of a request, and the body that came with the key.
#[derive(Debug)]
pub struct KeyedBody {
    /// The key.
    pub key: String,
    /// The scanned text of the body, or of an item of a batch.
    pub body: String,
}

impl NewTask {
    /// Makes the request for a task of this kind with this input. All other fields have their defaults.
    #[must_use]
    pub fn new(kind: &str, input: JsonText) -> Self {
        Self { kind: kind.to_owned(), input, ..Self::default() }
    }

    /// Reads the body of a request for one task. `key` is the idempotency key in the request's header.
    ///
    /// # Errors
    /// 400 `malformed_json`, 422.
    pub fn parse(body: &[u8], key: Option<String>) -> Result<(Self, Option<KeyedBody>), Problem> {
        let text = json::as_text(body)?;
        let new: Self = json::parse_text(text)?;
        if let ItemKey::Given(_) = new.idempotency_key {
            let detail = "this route has no such field; send the key in the header Idempotency-Key";
            return Err(Problem::invalid_field("/idempotency_key", detail));
        }
        Ok((new, key.map(|key| KeyedBody { key, body: text.to_owned() })))
    }

    /// Reads an item of a batch, whose text was scanned.
    ///
    /// # Errors
    /// 422.
    pub fn parse_item(item: &str) -> Result<(Self, Option<KeyedBody>), Problem> {
        let mut new: Self = json::decode(item)?;
        match std::mem::take(&mut new.idempotency_key) {
            ItemKey::Absent | ItemKey::Given(None) => Ok((new, None)),
            ItemKey::Given(Some(key)) if is_line(&key, IDEMPOTENCY_KEY_MAX) => {
                Ok((new, Some(KeyedBody { key, body: item.to_owned() })))
            }
            ItemKey::Given(Some(_)) => {
                Err(Problem::invalid_field("/idempotency_key", "1 to 255 bytes, no control characters"))
            }
        }
    }
}

/// Checks that the role of the caller may create tasks at all, before anything of the request is read. Whether the caller may
/// create a task of this owner is checked by [`complete_request`].
///
/// # Errors
/// 403 `forbidden`.
pub fn check_creates(caller: &Caller) -> Result<(), Problem> {
    caller.check(Action::CreateTask { owner: caller.subject() }).map(|_| ())
}

/// Creates a task, or returns the existing task of its idempotency key or unique key. When this function returns, the
/// task is durable, but the views may not show it yet. `keyed` is the idempotency key with the request's body.
///
/// The idempotency key is looked up first. A new task is recorded together with its idempotency key. If another task
/// holds the unique key, the idempotency key is not recorded, so the same request creates a task after the holder has
/// become final.
///
/// # Errors
/// 413, 422 `invalid_request` or `idempotency_key_reused`, 429 `too_many_tasks`, 503 if the log can't be read or
/// written.
pub async fn accept(
    state: &AppState,
    caller: &Caller,
    new: NewTask,
    keyed: Option<KeyedBody>,
) -> Result<Accepted, Problem> {
    wait_for_parents(state, new.parent.into_iter()).await?;
    let Some(KeyedBody { key, body }) = keyed else {
        return create_task(state, caller, complete_request(state, caller, new)?).await;
    };
    let mut key_guard = state.idempotency_keys.lock((caller.subject().to_owned(), key.clone())).await;
    if let Some((id, hash)) = known_task(state, caller, &key, &key_guard).await? {
        if is_hash_of(&hash, &body) {
            return Ok(Accepted::Repeated(id));
        }
        return Err(Rejection::IdempotencyKeyReused.into());
    }
    // The fields are checked after the key. So a repeated request gets its existing task even if this server has other
    // settings by now and would refuse the fields.
    let mut created = complete_request(state, caller, new)?;
    let body_hash = body_hash(&body);
    created.idempotency = Some(Idempotency { key, body_hash: body_hash.clone() });
    // If the client disconnects during the append, actix drops this handler, and the append may still succeed. Without the
    // lock, a repeated request would then not find the key and would create a second task. So the append runs in a spawned
    // task, which holds the lock of the key until the views show the key.
    let (state, caller) = (state.clone(), caller.clone());
    let accepted = actix_rt::spawn(async move {
        let accepted = create_task(&state, &caller, created).await?;
        if let Accepted::New(id, receipt) = &accepted {
            key_guard.remember((*id, body_hash));
            if state.reader.wait_for_revision(*id, receipt.revision).await {
                key_guard.forget();
            }
        }
        Ok(accepted)
    });
    accepted.await.unwrap_or_else(|_| Err(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)))
}

/// Creates tasks without keys, all of them in one write. When this function returns, the tasks are durable. The results
/// are in the order of `new`.
pub async fn create_without_keys(state: &AppState, caller: &Caller, new: Vec<Created>) -> Vec<Result<TaskId, Problem>> {
    let (mut ids, mut commands, mut permits) =
        (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()), Vec::new());
    for created in new {
        let id = state.registry.new_task_id();
        ids.push(state.open_tasks.acquire(&state.reader, &created.owner, id).map(|permit| {
            permits.extend(permit);
            commands.push(caller.command(id, Command::Create(Arc::new(created))));
            id
        }));
    }
    let mut receipts = state.registry.execute_many(commands).await.into_iter();
    if !permits.is_empty() {
        state.reader.wait_for_position(state.store.head().position).await;
    }
    let result = |id: Result<TaskId, Problem>| {
        let (id, receipt) = (id?, receipts.next());
        let receipt = receipt.ok_or_else(|| Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR))?;
        Ok(receipt.map(|_| id)?)
    };
    ids.into_iter().map(result).collect()
}

/// Finds the task of this idempotency key. Views that lack the newest events may not have it, so the lock of the key
/// and, on a cluster, the claim of the key are read too.
async fn known_task(
    state: &AppState,
    caller: &Caller,
    key: &str,
    key_guard: &KeyGuard<IdempotentTask>,
) -> Result<Option<IdempotentTask>, Problem> {
    let find =
        |views: &Views| views.task_of_idempotency_key(caller.subject(), key).map(|(id, hash)| (id, hash.to_owned()));
    let in_views = find(&state.reader.views());
    match in_views.or_else(|| key_guard.remembered().cloned()) {
        Some(known) => Ok(Some(known)),
        None => Ok(create::find_claimed(&state.registry, caller.subject(), key).await?),
    }
}

async fn create_task(state: &AppState, caller: &Caller, created: Created) -> Result<Accepted, Problem> {
    let id = state.registry.new_task_id();
    let permit = match state.open_tasks.acquire(&state.reader, &created.owner, id) {
        // The answer to the request is the task that holds the unique key, and no task is created.
        Err(_) if holds_unique_key(state, &created) => None,
        permit => permit?,
    };
    let (meta, at) = (caller.meta(), now());
    if permit.is_none() {
        let AppState { registry, reader, unique_keys, .. } = state;
        return Ok(create::create_unless_key_held(registry, reader, unique_keys, created, id, at, meta).await?);
    }
    // If the client disconnects during the append, actix drops this handler, and the append may still succeed. The spawned task
    // then holds the permit until the views show the task.
    let (registry, reader, unique_keys) = (state.registry.clone(), state.reader.clone(), state.unique_keys.clone());
    let create = actix_rt::spawn(async move {
        let accepted = create::create_unless_key_held(&registry, &reader, &unique_keys, created, id, at, meta).await?;
        if let Accepted::New(id, receipt) = &accepted {
            reader.wait_for_revision(*id, receipt.revision).await;
        }
        drop(permit);
        Ok(accepted)
    });
    create.await.unwrap_or_else(|_| Err(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)))
}

/// Whether the views show a task that is not final and has the unique key of this request.
fn holds_unique_key(state: &AppState, created: &Created) -> bool {
    let key = created.unique_key.as_ref();
    key.is_some_and(|key| state.reader.views().unique_key_holder(&created.owner, key).is_some())
}

/// On a cluster, waits until the views show the parents of these new tasks that the log holds. Another server may have created
/// them a moment ago.
///
/// # Errors
/// 503 if the log can't be read.
pub async fn wait_for_parents(state: &AppState, parents: impl Iterator<Item = TaskId>) -> Result<(), Problem> {
    if !state.store.is_shared() {
        return Ok(());
    }
    let is_unknown = |parent: &TaskId| state.reader.views().get(*parent).is_none();
    let parents: HashSet<TaskId> = parents.filter(is_unknown).collect();
    let streams = parents.iter().map(|parent| StreamName::task(*parent)).collect();
    for (parent, events) in parents.iter().zip(state.store.read_many_for_decision(streams).await?) {
        if !events.is_empty() {
            state.reader.wait_for_revision(*parent, Revision(0)).await;
        }
    }
    Ok(())
}

/// Checks the fields against this process (its handlers, settings and views), fills in the defaults, and makes the request that
/// `Created` records. The task's actor checks the other rules with `limits::invalid_fields`.
///
/// # Errors
/// 413, 422 `invalid_request`.
pub fn complete_request(state: &AppState, caller: &Caller, new: NewTask) -> Result<Created, Problem> {
    let limits = state.limits.values;
    let owner = new.owner.clone().unwrap_or_else(|| caller.subject().to_owned());
    caller.check(Action::CreateTask { owner: &owner })?;
    limits.check_input(&new.input)?;
    let mut invalid = Vec::new();
    new.title.iter().for_each(|title| limits.check_title(title, &mut invalid));
    let is_allowed = state.allowed_kinds.as_ref().is_none_or(|kinds| kinds.contains(&new.kind));
    if is_reserved(&new.kind) {
        invalid.push(Invalid::new("/kind", "names that begin with `taskbell.` are reserved"));
    } else if is_name(&new.kind) && !is_allowed {
        invalid.push(Invalid::new("/kind", "this server does not accept tasks of this kind"));
    }
    if new.parent.is_some_and(|parent| !is_visible(&state.reader.views(), caller, parent)) {
        invalid.push(Invalid::new("/parent", "there is no such task"));
    }
    if new.queue.as_ref().is_some_and(|queue| is_reserved(queue)) {
        invalid.push(Invalid::new("/queue", "names that begin with `taskbell.` are reserved"));
    }
    // Only a handler of this process needs the input as a tree.
    let handler = state.handlers.get(&new.kind).map(|handler| (handler, new.input.to_value()));
    if let Some(Err(errors)) = handler.as_ref().map(|(handler, input)| handler.check(input)) {
        invalid.extend(errors.into_iter().map(|e| Invalid::new(format!("/input{}", e.pointer), e.detail)));
    }
    if !invalid.is_empty() {
        return Err(Problem::invalid(invalid));
    }
    let defaults = handler.as_ref().map(|(handler, _)| handler.defaults()).unwrap_or_default();
    let policy = state.policies.of(&new.kind);
    let default_timeout_s = defaults.timeout.map(|timeout| timeout.as_secs().max(1));
    let handler_title = || {
        handler
            .as_ref()
            .and_then(|(handler, input)| handler.title(input))
            .map(|title| one_line(&title, limits.title_bytes))
    };
    Ok(Created {
        title: new.title.or_else(handler_title).unwrap_or_else(|| new.kind.clone()),
        kind: new.kind,
        owner,
        input: new.input,
        queue: new.queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()),
        priority: new.priority.unwrap_or(0),
        run_at: new.run_at,
        max_attempts: new
            .max_attempts
            .or(policy.and_then(|policy| policy.max_attempts))
            .unwrap_or(defaults.max_attempts),
        timeout_s: new.timeout_s.or(policy.and_then(|policy| policy.timeout_s)).or(default_timeout_s),
        labels: new.labels.unwrap_or_default(),
        parent: new.parent,
        unique_key: new.unique_key,
        concurrency_key: new.concurrency_key,
        schedule: None,
        idempotency: None,
    })
}

/// Replaces control characters by spaces and cuts the text to `max` bytes.
fn one_line(text: &str, max: usize) -> String {
    let mut line: String = text.chars().map(|c| if is_line_character(c) { c } else { ' ' }).collect();
    let mut end = line.len().min(max);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

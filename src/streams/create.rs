//! Creates a task, or begins another run of one. The rule here: an owner has at most one task that is not final with the same
//! unique key.
//!
//! The rule concerns several streams, so the actor of one stream can't check it. On a log of one server, the views show which
//! task holds a key. The requests with one key are executed one at a time, and the next one begins when the views show the
//! events of the one before. So each request is decided on views that are new enough. On a log that several servers write to,
//! the keys are [claimed](super::claims).

use std::borrow::Cow;
use std::sync::Arc;

use actix_rt::task::JoinHandle;

use super::claims;
use super::keyed_lock::{KeyGuard, KeyedLock};
pub use super::messages::Accepted;
use super::messages::{Execute, ExecuteError, Receipt};
use super::registry::Registry;
use crate::store::Meta;
use crate::task::event::Created;
use crate::task::{Command, Rejection, Revision, TaskId, Timestamp, limits};
use crate::views::{Row, Views};

/// The locks on unique keys, by owner and key. The result of a request is the task that got the key, and its revision then.
pub type UniqueKeys = KeyedLock<(TaskId, Revision)>;

/// Read access to the views, as far as the write side needs it. `projection`, a higher room, implements it.
pub trait ViewsAccess: Clone + 'static {
    /// Calls `read` with the views, which don't change meanwhile.
    fn with_views<T>(&self, read: impl FnOnce(&Views) -> T) -> T;

    /// Waits until the views hold the task up to this revision. False if they don't within a bounded time.
    fn wait_for_revision(&self, task: TaskId, revision: Revision) -> impl Future<Output = bool>;
}

/// Creates a task with this id, unless its unique key is held by another task. When this returns, the events are durable. If
/// another task holds the key, the answer is [`Accepted::KeyHeld`], even if the request of that task was different. (For an
/// idempotency key the requests' bodies are compared.)
///
/// On a log of one server the caller of this function checks the idempotency key, and the answer is never
/// [`Accepted::Repeated`].
///
/// # Errors
/// See [`ExecuteError`].
pub async fn create_unless_key_held(
    registry: &Registry,
    views: &impl ViewsAccess,
    keys: &UniqueKeys,
    created: Created,
    id: TaskId,
    at: Timestamp,
    meta: Meta,
) -> Result<Accepted, ExecuteError> {
    let key = created.unique_key.clone().map(|key| (created.owner.clone(), key));
    // An invalid request is refused even if its key is held. The rules check the request again.
    let invalid = if key.is_some() { limits::invalid_fields(&created) } else { Vec::new() };
    if !invalid.is_empty() {
        return Err(Rejection::Invalid(invalid).into());
    }
    if registry.store().is_shared() && (key.is_some() || created.idempotency.is_some()) {
        return Box::pin(claim_and_create(registry, keys, key, created, id, at, meta)).await;
    }
    let request = Execute { task: id, command: Command::Create(Arc::new(created)), at, meta };
    let Some(key) = key else {
        return registry.execute(request).await.map(|receipt| Accepted::New(id, Box::new(receipt)));
    };
    let mut guard = keys.lock(key.clone()).await;
    if let Some(holder) = holder(views, &key, &mut guard) {
        return Ok(Accepted::KeyHeld(holder));
    }
    let executed = Box::pin(execute_locked(registry, views, guard, request)).await;
    executed.map(|receipt| Accepted::New(id, Box::new(receipt)))
}

/// Begins another run of a final task. The task takes its unique key again.
///
/// # Errors
/// See [`ExecuteError`]; [`Rejection::UniqueKeyTaken`] if another task holds the key now.
pub async fn retry_unless_key_held(
    registry: &Registry,
    views: &impl ViewsAccess,
    keys: &UniqueKeys,
    request: Execute,
) -> Result<Receipt, ExecuteError> {
    if registry.store().is_shared() {
        let registry = registry.clone();
        return join_detached(actix_rt::spawn(async move { claims::retry_with_claims(&registry, request).await }))
            .await;
    }
    let unique = |row: Cow<Row>| Some((row.owner().to_owned(), row.unique_key()?.to_owned()));
    let Some(key) = views.with_views(|views| views.get(request.task).and_then(unique)) else {
        return registry.execute(request).await;
    };
    let mut guard = keys.lock(key.clone()).await;
    match holder(views, &key, &mut guard) {
        Some(holder) if holder != request.task => Err(Rejection::UniqueKeyTaken(holder).into()),
        Some(_) | None => execute_locked(registry, views, guard, request).await,
    }
}

/// The task for which this idempotency key of the caller was claimed, and the hash of the request's body. Always none on a
/// log of one server, because its views hold all keys.
///
/// # Errors
/// The log can't be read or written.
pub async fn find_claimed(
    registry: &Registry,
    caller: &str,
    key: &str,
) -> Result<Option<(TaskId, String)>, ExecuteError> {
    if registry.store().is_shared() { claims::find_idempotent(registry, caller, key).await } else { Ok(None) }
}

/// Does the work of [`create_unless_key_held`] on a log of several servers, where the keys are claimed. The requests of this
/// server with one unique key are executed one at a time, so that they don't overtake each other.
async fn claim_and_create(
    registry: &Registry,
    keys: &UniqueKeys,
    unique: Option<(String, String)>,
    created: Created,
    id: TaskId,
    at: Timestamp,
    meta: Meta,
) -> Result<Accepted, ExecuteError> {
    let guard = match unique {
        Some(key) => Some(keys.lock(key).await),
        None => None,
    };
    let registry = registry.clone();
    join_detached(actix_rt::spawn(async move {
        let accepted = claims::create_with_claims(&registry, created, id, at, &meta).await;
        drop(guard);
        accepted
    }))
    .await
}

/// Waits for work that runs in a spawned tokio task. If the caller is dropped meanwhile, the work goes on.
async fn join_detached<T>(work: JoinHandle<Result<T, ExecuteError>>) -> Result<T, ExecuteError> {
    work.await.unwrap_or(Err(ExecuteError::Busy("the request was aborted")))
}

/// The task that holds the key. If the views don't show the result of the last request with this key yet, that result
/// counts.
fn holder(
    views: &impl ViewsAccess,
    (owner, key): &(String, String),
    guard: &mut KeyGuard<(TaskId, Revision)>,
) -> Option<TaskId> {
    views.with_views(|views| {
        if let Some((id, revision)) = guard.remembered().copied() {
            if views.get(id).is_none_or(|row| row.revision() < revision) {
                return Some(id);
            }
            guard.forget();
        }
        views.unique_key_holder(owner, key)
    })
}

/// Executes the request, and holds the lock on the key until the views show the task.
///
/// If the caller is dropped meanwhile, the append may still happen. Therefore this work goes on, with the lock, so that the
/// next request with this key finds the task.
async fn execute_locked(
    registry: &Registry,
    views: &impl ViewsAccess,
    mut guard: KeyGuard<(TaskId, Revision)>,
    request: Execute,
) -> Result<Receipt, ExecuteError> {
    let (registry, views) = (registry.clone(), views.clone());
    join_detached(actix_rt::spawn(async move {
        let task = request.task;
        let receipt = registry.execute(request).await?;
        guard.remember((task, receipt.revision));
        if views.wait_for_revision(task, receipt.revision).await {
            guard.forget();
        }
        Ok(receipt)
    }))
    .await
}

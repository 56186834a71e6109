//! A task begins, or runs once more: at most one task of an owner that is not final has its unique key.
//!
//! The rule spans streams, so no stream's owner can hold it alone. On a log of one server, the views show who holds a
//! key. Requests with one key go one at a time, each until the views show what it did, so that none of them is decided
//! on views that lack the one before. On a log that several servers write, the keys are [claimed](super::claims).

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

/// The unique keys of requests under way, by owner; what is remembered is who holds the key since which event.
pub type UniqueKeys = KeyedLock<(TaskId, Revision)>;

/// The views, as the write side may ask them; the room above implements it.
pub trait CommittedViews: Clone + 'static {
    /// Reads the views; they don't move meanwhile.
    fn with_views<T>(&self, read: impl FnOnce(&Views) -> T) -> T;

    /// Waits until the views hold the task up to this revision; false where they don't within a bounded time.
    fn wait_for_revision(&self, task: TaskId, revision: Revision) -> impl Future<Output = bool>;
}

/// Takes on a piece of work under this id, durable when this answers; or answers who holds its unique key. The rest of
/// the request is not compared with the holder's.
///
/// # Errors
/// See [`ExecuteError`]. On a log of one server the idempotency key is not looked at, and [`Accepted::Known`] never comes
/// from here.
pub async fn create(
    registry: &Registry,
    read: &impl CommittedViews,
    keys: &UniqueKeys,
    created: Created,
    id: TaskId,
    at: Timestamp,
    meta: Meta,
) -> Result<Accepted, ExecuteError> {
    let key = created.unique_key.clone().map(|key| (created.owner.clone(), key));
    // The rules check it again. What can't be is refused also where the key is held.
    let invalid = if key.is_some() { limits::invalid_fields(&created) } else { Vec::new() };
    if !invalid.is_empty() {
        return Err(Rejection::Invalid(invalid).into());
    }
    if registry.store().is_shared() && (key.is_some() || created.idempotency.is_some()) {
        return claim_and_create(registry, keys, key, created, id, at, meta).await;
    }
    let ask = Execute { task: id, command: Command::Create(Arc::new(created)), at, meta };
    let Some(key) = key else {
        return registry.execute(ask).await.map(|receipt| Accepted::New(id, Box::new(receipt)));
    };
    let mut turn = keys.turn(key.clone()).await;
    match holder(read, &key, &mut turn) {
        Some(holder) => Ok(Accepted::Held(holder)),
        None => execute(registry, read, turn, ask).await.map(|receipt| Accepted::New(id, Box::new(receipt))),
    }
}

/// One more run of a final task, which takes its unique key again.
///
/// # Errors
/// See [`ExecuteError`]; [`Rejection::UniqueKeyTaken`] where another task holds its key meanwhile.
pub async fn retry(
    registry: &Registry,
    read: &impl CommittedViews,
    keys: &UniqueKeys,
    ask: Execute,
) -> Result<Receipt, ExecuteError> {
    if registry.store().is_shared() {
        let registry = registry.clone();
        return unless_broken_off(actix_rt::spawn(async move { claims::retry(&registry, ask).await })).await;
    }
    let unique = |row: &Row| Some((row.owner().to_owned(), row.unique_key()?.to_owned()));
    let Some(key) = read.with_views(|views| views.get(ask.task).and_then(unique)) else {
        return registry.execute(ask).await;
    };
    let mut turn = keys.turn(key.clone()).await;
    match holder(read, &key, &mut turn) {
        Some(holder) if holder != ask.task => Err(Rejection::UniqueKeyTaken(holder).into()),
        Some(_) | None => execute(registry, read, turn, ask).await,
    }
}

/// The task for which this idempotency key of the caller was claimed, and the hash of the request's body. None on a log of
/// one server, whose views know all keys.
///
/// # Errors
/// Where the log can't be read or written.
pub async fn find_claimed(
    registry: &Registry,
    caller: &str,
    key: &str,
) -> Result<Option<(TaskId, String)>, ExecuteError> {
    if registry.store().is_shared() { claims::find_idempotent(registry, caller, key).await } else { Ok(None) }
}

/// The same as [`create`] where the keys are claimed. Requests of this server with one unique key go one at a time, which
/// saves them tries.
async fn claim_and_create(
    registry: &Registry,
    keys: &UniqueKeys,
    unique: Option<(String, String)>,
    created: Created,
    id: TaskId,
    at: Timestamp,
    meta: Meta,
) -> Result<Accepted, ExecuteError> {
    let turn = match unique {
        Some(key) => Some(keys.turn(key).await),
        None => None,
    };
    let registry = registry.clone();
    unless_broken_off(actix_rt::spawn(async move {
        let accepted = claims::create(&registry, created, id, at, &meta).await;
        drop(turn);
        accepted
    }))
    .await
}

/// The result of work that goes on without its caller.
async fn unless_broken_off<T>(work: JoinHandle<Result<T, ExecuteError>>) -> Result<T, ExecuteError> {
    work.await.unwrap_or(Err(ExecuteError::Busy("the request broke off")))
}

/// Who holds the key: the views say it, unless they are late for what the last request did.
fn holder(
    read: &impl CommittedViews,
    (owner, key): &(String, String),
    turn: &mut KeyGuard<(TaskId, Revision)>,
) -> Option<TaskId> {
    read.with_views(|views| {
        if let Some((id, revision)) = turn.known().copied() {
            if views.get(id).is_none_or(|row| row.revision() < revision) {
                return Some(id);
            }
            turn.forget();
        }
        views.unique_key_holder(owner, key)
    })
}

/// If the caller is gone before this is through, the append may still happen: the work goes on without it, and the turn
/// with it, so that the next request with this key finds the task.
async fn execute(
    registry: &Registry,
    read: &impl CommittedViews,
    mut turn: KeyGuard<(TaskId, Revision)>,
    ask: Execute,
) -> Result<Receipt, ExecuteError> {
    let (registry, read) = (registry.clone(), read.clone());
    unless_broken_off(actix_rt::spawn(async move {
        let task = ask.task;
        let receipt = registry.execute(ask).await?;
        turn.remember((task, receipt.revision));
        if read.wait_for_revision(task, receipt.revision).await {
            turn.forget();
        }
        Ok(receipt)
    }))
    .await
}

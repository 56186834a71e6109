//! Access to the views: the views with their lock, and the watermark. The watermark is the position up to which the views
//! show the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::waiters::{Goal, Waiters};
use crate::streams::create::ViewsAccess;
use crate::task::{Position, Revision, TaskId};
use crate::views::{TaskChange, Views};

/// The maximum time that a request waits until the views show a position or a revision.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// Read access to the views. Clones read the same views.
#[derive(Clone)]
pub struct ViewsReader {
    views: Arc<RwLock<Views>>,
    watermark: Arc<AtomicU64>,
    waiters: Waiters,
    credential_changes: watch::Receiver<u64>,
    failure: Arc<OnceLock<String>>,
}

/// Write access to the views. Only the projector has it.
pub struct ViewsWriter {
    views: Arc<RwLock<Views>>,
    watermark: Arc<AtomicU64>,
    waiters: Waiters,
    credential_changes: watch::Sender<u64>,
    failure: Arc<OnceLock<String>>,
}

/// Splits these views into write access and read access.
#[must_use]
pub fn split_views(views: Views) -> (ViewsWriter, ViewsReader) {
    let (watermark, waiters) = (Arc::new(AtomicU64::new(views.position().0)), Waiters::default());
    let views = Arc::new(RwLock::new(views));
    let failure = Arc::new(OnceLock::new());
    let (changes_sender, credential_changes) = watch::channel(0);
    let writer = ViewsWriter {
        views: views.clone(),
        watermark: watermark.clone(),
        waiters: waiters.clone(),
        credential_changes: changes_sender,
        failure: failure.clone(),
    };
    (writer, ViewsReader { views, watermark, waiters, credential_changes, failure })
}

impl ViewsWriter {
    /// Locks the views for writing. Readers wait until the guard is dropped.
    pub fn write(&self) -> RwLockWriteGuard<'_, Views> {
        self.views.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the watermark to `position`, and wakes the requests that wait for it or for one of these changes. Call this after
    /// the write lock is released and the subscribers have got the events.
    pub fn show(&self, position: Position, changes: &[TaskChange]) {
        self.watermark.store(position.0, Ordering::Release);
        self.waiters.wake(position, changes);
    }

    /// Wakes the requests and sockets that depend on a credential. Call this after the views show the changed credentials.
    pub fn announce_credential_change(&self) {
        self.credential_changes.send_modify(|changes| *changes += 1);
    }

    /// Records that the views will not change any more in this process, and why.
    pub fn fail(&self, why: String) {
        tracing::error!(%why, "the views have stopped");
        let _ = self.failure.set(why);
        // The requests that wait see the failure and end.
        self.waiters.wake_all();
    }
}

impl ViewsReader {
    /// Locks the views for reading. The guard must not be held across an `await` or during a long scan; a
    /// [snapshot](Views::snapshot) is meant for those.
    pub fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watermark: the views show the log up to this position.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.watermark.load(Ordering::Acquire))
    }

    /// Why the views will not change any more; `None` while they do.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Changes each time when the views show a token or a session that was created or has ended.
    #[must_use]
    pub fn credential_changes(&self) -> watch::Receiver<u64> {
        self.credential_changes.clone()
    }

    /// Waits until the views show the log up to `position`. Returns false if they don't after [`WAIT_MAX`], or if they have
    /// failed.
    pub async fn wait_for_position(&self, position: Position) -> bool {
        self.wait_until(Goal::Position(position), || self.position() >= position).await
    }

    /// Waits until the views show the task at this revision or a later one, and the subscribers have got its events. Returns
    /// false if that takes longer than [`WAIT_MAX`], or if the views have failed.
    pub async fn wait_for_revision(&self, task: TaskId, revision: Revision) -> bool {
        // The views change before the subscribers get the events, and the watermark moves after that. A client that has the
        // response to a create may take the task at once, so the dispatcher must have the event before.
        let is_shown = || {
            let watermark = self.position();
            self.views().get(task).is_some_and(|row| row.revision() >= revision && row.position() <= watermark)
        };
        self.wait_until(Goal::Revision(task, revision), is_shown).await
    }

    /// Waits until the goal is reached, which `is_reached` checks.
    async fn wait_until(&self, goal: Goal, is_reached: impl Fn() -> bool) -> bool {
        // When a request is woken for its task, the views may already have a later event of that task, which the watermark doesn't
        // include yet. Then the request waits for that event.
        let wait = async {
            while !is_reached() {
                let mut waiter = self.waiters.register(goal);
                if is_reached() {
                    break;
                }
                if self.failure().is_some() {
                    return false;
                }
                waiter.woken().await;
            }
            true
        };
        timeout(WAIT_MAX, wait).await.unwrap_or(false)
    }
}

impl ViewsAccess for ViewsReader {
    fn with_views<T>(&self, read: impl FnOnce(&Views) -> T) -> T {
        read(&self.views())
    }

    async fn wait_for_revision(&self, task: TaskId, revision: Revision) -> bool {
        Self::wait_for_revision(self, task, revision).await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use serde_json::value::RawValue;

    use super::*;
    use crate::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, codec, new_id, now};

    const CREATED: &str = include_str!("../../events/Created/v1.example.json");

    #[actix_rt::test]
    async fn a_request_waits_until_the_subscribers_have_got_the_event_that_the_views_show() {
        let (store, task) = (EventStore::memory(), TaskId::from_uuid(new_id()));
        let meta = Meta {
            actor: "mira".to_owned(),
            via: Via::Http,
            correlation_id: new_id(),
            causation_id: None,
            request_id: None,
        };
        let data = RawValue::from_string(CREATED.trim().to_owned()).unwrap();
        let event =
            NewEvent { id: new_id(), time: now(), meta, event: codec::decode("Created", 1, data.get()).unwrap() };
        let append = Append { stream: StreamName::task(task), expected: Expected::NoStream, events: vec![event] };
        store.append(append).await.unwrap();
        let (writer, reader) = split_views(Views::default());
        let mut waiting = pin!(reader.wait_for_revision(task, Revision(0)));
        assert_eq!(waiting.as_mut().now_or_never(), None);

        let first = store.read_all(Position(0), 1).await.unwrap().remove(0);
        let change = writer.write().apply(&first).task.unwrap();
        assert!(reader.views().get(task).is_some());
        let mut second = pin!(reader.wait_for_revision(task, Revision(0)));
        assert_eq!(second.as_mut().now_or_never(), None, "the subscribers don't have the event yet");

        writer.show(Position(1), &[change]);
        assert!(waiting.await && second.await);
    }
}

//! Access to the views: the views with their lock, and the watermark. The watermark is the position up to which the views
//! show the log.

use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::streams::create::CommittedViews;
use crate::task::{Position, Revision, TaskId};
use crate::views::Views;

/// How long a request waits at most until the views show a position or a revision.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// Read access to the views. Clones read the same views.
#[derive(Clone)]
pub struct ViewsReader {
    views: Arc<RwLock<Views>>,
    watermark: watch::Receiver<Position>,
    failure: Arc<OnceLock<String>>,
}

/// Write access to the views. Only the projector has it.
pub struct ViewsWriter {
    views: Arc<RwLock<Views>>,
    watermark: watch::Sender<Position>,
    failure: Arc<OnceLock<String>>,
}

/// Splits these views into write access and read access.
#[must_use]
pub fn split_views(views: Views) -> (ViewsWriter, ViewsReader) {
    let (sender, watermark) = watch::channel(views.position());
    let views = Arc::new(RwLock::new(views));
    let failure = Arc::new(OnceLock::new());
    let writer = ViewsWriter { views: views.clone(), watermark: sender, failure: failure.clone() };
    (writer, ViewsReader { views, watermark, failure })
}

impl ViewsWriter {
    /// Locks the views for writing. Readers wait until the guard is dropped.
    pub fn write(&self) -> RwLockWriteGuard<'_, Views> {
        self.views.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the watermark to `position`, and so wakes the requests that wait. To be called after the write lock is released.
    pub fn publish(&self, position: Position) {
        self.watermark.send_replace(position);
    }

    /// Records that the views will not change any more in this process, and why.
    pub fn fail(&self, why: String) {
        tracing::error!(%why, "the views have stopped");
        let _ = self.failure.set(why);
        // This wakes the requests that wait. They see the failure and end.
        self.watermark.send_modify(|_| {});
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
        *self.watermark.borrow()
    }

    /// Why the views will not change any more; `None` while they do.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits until the views show the log up to `position`. Returns false if they don't after [`WAIT_MAX`], or if they have
    /// failed.
    pub async fn wait_for_position(&self, position: Position) -> bool {
        self.wait_until(|_, watermark| watermark >= position).await
    }

    /// Waits until the views show the task at this revision or a later one. Returns false if they don't after [`WAIT_MAX`],
    /// or if they have failed.
    pub async fn wait_for_revision(&self, task: TaskId, revision: Revision) -> bool {
        self.wait_until(|views, _| views.get(task).is_some_and(|row| row.revision() >= revision)).await
    }

    /// Waits until `condition` is true for the views and the watermark.
    async fn wait_until(&self, condition: impl Fn(&Views, Position) -> bool) -> bool {
        let mut receiver = self.watermark.clone();
        let wait = async {
            loop {
                let watermark = *receiver.borrow_and_update();
                if condition(&self.views(), watermark) {
                    return true;
                }
                if self.failure().is_some() || receiver.changed().await.is_err() {
                    return false;
                }
            }
        };
        timeout(WAIT_MAX, wait).await.unwrap_or(false)
    }
}

impl CommittedViews for ViewsReader {
    fn with_views<T>(&self, read: impl FnOnce(&Views) -> T) -> T {
        read(&self.views())
    }

    async fn wait_for_revision(&self, task: TaskId, revision: Revision) -> bool {
        Self::wait_for_revision(self, task, revision).await
    }
}

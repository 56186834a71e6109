//! How the edge reads: the views behind their lock, and the watermark that says how far they have come.

use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::streams::create::CommittedViews;
use crate::task::{Position, Revision, TaskId};
use crate::views::Views;

/// How long a read waits for the views at most (the contract's `min_position`, and a write's own visibility).
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The views, for anybody who reads. The projector alone writes them.
#[derive(Clone)]
pub struct ViewsReader {
    views: Arc<RwLock<Views>>,
    watermark: watch::Receiver<Position>,
    failure: Arc<OnceLock<String>>,
}

/// The projector's end of the same.
pub struct ViewsWriter {
    views: Arc<RwLock<Views>>,
    watermark: watch::Sender<Position>,
    failure: Arc<OnceLock<String>>,
}

/// Both ends of these views.
#[must_use]
pub fn sides(views: Views) -> (ViewsWriter, ViewsReader) {
    let (sender, watermark) = watch::channel(views.position());
    let views = Arc::new(RwLock::new(views));
    let failure = Arc::new(OnceLock::new());
    let write = ViewsWriter { views: views.clone(), watermark: sender, failure: failure.clone() };
    (write, ViewsReader { views, watermark, failure })
}

impl ViewsWriter {
    /// The views, to be written; readers wait for as long as this lives.
    pub fn write(&self) -> RwLockWriteGuard<'_, Views> {
        self.views.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes how far the views have come. To be called after the write lock is released.
    pub fn publish(&self, position: Position) {
        self.watermark.send_replace(position);
    }

    /// Says that the views won't move any more in this process, and why.
    pub fn fail(&self, why: String) {
        tracing::error!(%why, "the views have stopped");
        let _ = self.failure.set(why);
        // Whoever waits looks again, and sees that there is nothing to wait for.
        self.watermark.send_modify(|_| {});
    }
}

impl ViewsReader {
    /// The views. Not to be held across an await, nor for a long scan: take a snapshot for that.
    pub fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the views have come.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.watermark.borrow()
    }

    /// Why the views don't move any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits until the views hold everything up to `position`; false where they don't within [`PATIENCE`].
    pub async fn wait_for_position(&self, position: Position) -> bool {
        self.until(|_, at| at >= position).await
    }

    /// Waits until the views hold the task up to this revision; false where they don't within [`PATIENCE`].
    pub async fn wait_for_revision(&self, task: TaskId, revision: Revision) -> bool {
        self.until(|views, _| views.get(task).is_some_and(|row| row.revision() >= revision)).await
    }

    async fn until(&self, holds: impl Fn(&Views, Position) -> bool) -> bool {
        let mut watermark = self.watermark.clone();
        let wait = async {
            loop {
                let at = *watermark.borrow_and_update();
                if holds(&self.views(), at) {
                    return true;
                }
                if self.failure().is_some() || watermark.changed().await.is_err() {
                    return false;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or(false)
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

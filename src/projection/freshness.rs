//! Whether the views show the whole log.
//!
//! If only this process writes the log, the views are rebuilt from the whole log before the server starts, and later they
//! show every append at once. On a cluster, this server may not have received the last events of the log:
//!
//! - **At the start**, the views are empty or out of date until this server has received all events for the first time. A task
//!   that they show as running may have ended long ago. So the dispatcher, the cascade and the scheduler start only after that.
//! - **Later**, while the cluster can't be reached, the views are stale: they lack the events since the connection was lost.
//!   These actors go on then. Their writes fail, or the log refuses a write whose expected revision is out of date.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::reader::ViewsReader;
use crate::store::{EventStore, now};
use crate::task::Timestamp;

/// How long the log must be unavailable before a warning is written for the first time.
const FIRST_WARNING_AFTER: Duration = Duration::from_secs(3);
/// The time between two further warnings.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Whether the views show the whole log, and since when they may not. Clones share the state.
#[derive(Clone, Debug)]
pub struct Freshness(watch::Sender<FreshnessState>);

#[derive(Clone, Copy, Debug)]
struct FreshnessState {
    has_caught_up: bool,
    stale_since: Option<Timestamp>,
}

impl Freshness {
    /// The freshness at the start of the process. `has_caught_up` says whether the views show the whole log.
    #[must_use]
    pub fn new(has_caught_up: bool) -> Self {
        let stale_since = if has_caught_up { None } else { Some(now()) };
        Self(watch::Sender::new(FreshnessState { has_caught_up, stale_since }))
    }

    /// Whether the views have shown the whole log at least once in this process.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.0.borrow().has_caught_up
    }

    /// Waits until the views have shown the whole log for the first time.
    pub async fn wait_until_caught_up(&self) {
        // This can't fail: `self` is the sender, so the channel stays open.
        let _ = self.0.subscribe().wait_for(|state| state.has_caught_up).await;
    }

    /// Since when the views may lack events of the log; `None` while they show all of them.
    #[must_use]
    pub fn stale_since(&self) -> Option<Timestamp> {
        self.0.borrow().stale_since
    }

    /// Keeps the freshness up to date. Ends if the views have failed, and if only this process writes the log: then the views
    /// show every append.
    pub async fn follow(self, store: EventStore, reader: ViewsReader) {
        loop {
            if store.is_shared() {
                wait_until_healthy(&store).await;
            }
            let head = store.head().position;
            while !reader.wait_for_position(head).await {
                if reader.failure().is_some() {
                    return;
                }
            }
            self.set_caught_up();
            if !store.is_shared() {
                return;
            }
            let health = store.wait_for_health(false).await;
            self.0.send_modify(|state| state.stale_since = Some(now()));
            if let Err(why) = health {
                tracing::warn!(%why, "the views are stale");
            }
        }
    }

    fn set_caught_up(&self) {
        let former = self.0.send_replace(FreshnessState { has_caught_up: true, stale_since: None });
        if former.stale_since.is_some() {
            tracing::info!("the views have caught up with the log");
        }
    }
}

/// Waits until the log is healthy. Until then it repeatedly logs why the log is not healthy; `/readyz` shows this too.
async fn wait_until_healthy(store: &EventStore) {
    let mut pause = FIRST_WARNING_AFTER;
    while timeout(pause, store.wait_for_health(true)).await.is_err() {
        if let Err(why) = store.health() {
            tracing::warn!(%why, "the views may lack events of the log");
        }
        pause = WARNING_INTERVAL;
    }
}

//! Whether the views show the present state of the log.
//!
//! A log of this process alone is folded to its end before anything else starts, and the views follow every append. A log
//! that several servers share has an end that this server may not know:
//!
//! - **At the start** the views are empty, or show an old state, until every event was received for the first time. Nothing
//!   may act on such views: a task that they show as running may have ended long ago.
//! - **Later**, while the cluster can't be reached, the views are complete up to some moment, and stale since then. What acts
//!   on them goes on: its writes fail, or the expected revisions refuse what is out of date.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::reader::ViewsReader;
use crate::store::{EventStore, now};
use crate::task::Timestamp;

/// After how long an outage is logged for the first time, and how often then.
const FIRST_REPORT: Duration = Duration::from_secs(3);
const NEXT_REPORT: Duration = Duration::from_mins(1);

/// How fresh the views are; clones share it.
#[derive(Clone, Debug)]
pub struct Freshness(watch::Sender<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    has_caught_up: bool,
    stale_since: Option<Timestamp>,
}

impl Freshness {
    /// The freshness of views that show the whole log (`has_caught_up`), or that have yet to catch up with it.
    #[must_use]
    pub fn new(has_caught_up: bool) -> Self {
        let stale_since = if has_caught_up { None } else { Some(now()) };
        Self(watch::Sender::new(State { has_caught_up, stale_since }))
    }

    /// Whether the views have shown the whole log at least once in this process.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.0.borrow().has_caught_up
    }

    /// Waits until the views show the whole log for the first time.
    pub async fn wait_until_caught_up(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|state| state.has_caught_up).await;
    }

    /// Since when the views may lack events of the log; none while they show all of them.
    #[must_use]
    pub fn stale_since(&self) -> Option<Timestamp> {
        self.0.borrow().stale_since
    }

    /// Keeps this up to date until the views have stopped; for ever if they don't.
    pub async fn follow(self, store: EventStore, read: ViewsReader) {
        loop {
            wait_for_health(&store).await;
            let head = store.head().position;
            while !read.wait_for_position(head).await {
                if read.failure().is_some() {
                    return;
                }
            }
            self.caught_up();
            let lost = store.wait_for_health(false).await;
            self.0.send_modify(|state| state.stale_since = Some(now()));
            if let Err(why) = lost {
                tracing::warn!(%why, "the views are stale");
            }
        }
    }

    fn caught_up(&self) {
        if self.0.send_replace(State { has_caught_up: true, stale_since: None }).stale_since.is_some() {
            tracing::info!("the views have caught up with the log");
        }
    }
}

/// Waits until the log is healthy. What keeps it from being so is in `/readyz` too.
async fn wait_for_health(store: &EventStore) {
    let mut pause = FIRST_REPORT;
    while timeout(pause, store.wait_for_health(true)).await.is_err() {
        if let Err(why) = store.health() {
            tracing::warn!(%why, "this server does not show the present");
        }
        pause = NEXT_REPORT;
    }
}

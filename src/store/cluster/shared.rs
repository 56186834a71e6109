//! What the parts of a cluster's log share.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::client::Connection;
use super::index::Index;
use super::url::StoreUrl;
use crate::store::recent::{Bounds, RecentEvents};
use crate::store::{Hash, Head, ReadError, StreamName, now};
use crate::task::{Position, Revision, Timestamp};

/// The events that are kept in memory.
const RECENT: Bounds = Bounds { events: 16_384, bytes: 32 << 20, by_stream: false };

pub(super) struct Shared {
    pub(super) url: StoreUrl,
    pub(super) connection: Connection,
    /// The newest delivered events.
    pub(super) recent: RecentEvents,
    pub(super) index: Index,
    /// The id of the log; unknown until the database has answered once.
    pub(super) epoch: OnceLock<Uuid>,
    /// The id that the log gets where the database has none yet.
    pub(super) new_epoch: Uuid,
    /// Tells the follower to subscribe anew.
    pub(super) resubscribe: Notify,
    failure: watch::Sender<Option<ReadError>>,
    following: watch::Sender<Following>,
}

/// The state of the subscription.
enum Following {
    Down {
        since: Timestamp,
        why: String,
    },
    /// Old events are delivered.
    CatchingUp,
    /// It has caught up once. `is_live` is false while the database says that it has fallen behind.
    CaughtUp {
        is_live: bool,
    },
}

impl Shared {
    pub(super) fn new(url: StoreUrl, new_epoch: Uuid) -> Self {
        let empty = Head { position: Position(0), hash: Hash::ZERO, time: None };
        let why = "the first connection is being made".to_owned();
        Self {
            url,
            connection: Connection::new(),
            recent: RecentEvents::new(empty, RECENT),
            index: Index::new(),
            epoch: OnceLock::new(),
            new_epoch,
            resubscribe: Notify::new(),
            failure: watch::Sender::new(None),
            following: watch::Sender::new(Following::Down { since: now(), why }),
        }
    }

    /// Why the log can be neither read nor written any more in this process.
    pub(super) fn failure(&self) -> Option<ReadError> {
        self.failure.borrow().clone()
    }

    pub(super) fn watch_failure(&self) -> watch::Receiver<Option<ReadError>> {
        self.failure.subscribe()
    }

    /// Ends all reads and writes of this process. The first failure stays.
    pub(super) fn fail(&self, failure: ReadError) {
        self.failure.send_if_modified(|present| {
            let is_first = present.is_none();
            if is_first {
                tracing::error!("the log takes no more writes: {failure}");
                *present = Some(failure);
            }
            is_first
        });
    }

    /// Waits until these events have been delivered; false where that took longer than `at_most`.
    pub(super) async fn wait_until_delivered(&self, events: &[(StreamName, Revision)], at_most: Duration) -> bool {
        let mut head = self.recent.watch();
        let all = async {
            for (stream, revision) in events {
                let position = || self.index.position(stream.as_str(), revision.0);
                // The sender lives as long as this.
                let _ = head.wait_for(|head| position().is_some_and(|position| position <= head.0)).await;
            }
        };
        let in_time = tokio::time::timeout(at_most, all).await.is_ok();
        if !in_time && self.is_caught_up() {
            self.resubscribe.notify_one();
        }
        in_time
    }

    /// The subscription has ended. The beginning of the outage stays until there is another subscription.
    pub(super) fn subscription_ended(&self, why: String) {
        self.following.send_modify(|following| {
            let since = if let Following::Down { since, .. } = following { *since } else { now() };
            *following = Following::Down { since, why };
        });
    }

    pub(super) fn subscribed(&self) {
        self.following.send_replace(Following::CatchingUp);
    }

    pub(super) fn caught_up(&self) {
        self.following.send_replace(Following::CaughtUp { is_live: true });
    }

    pub(super) fn fell_behind(&self) {
        self.following.send_modify(|following| {
            if let Following::CaughtUp { is_live } = following {
                *is_live = false;
            }
        });
    }

    /// Whether every event is delivered as soon as it is written.
    pub(super) fn is_caught_up(&self) -> bool {
        matches!(*self.following.borrow(), Following::CaughtUp { is_live: true })
    }

    pub(super) fn is_subscribed(&self) -> bool {
        !matches!(*self.following.borrow(), Following::Down { .. })
    }

    /// Waits until the health is as wanted.
    pub(super) async fn wait_for_health(&self, is_wanted: impl Fn(&Result<(), String>) -> bool) -> Result<(), String> {
        let mut following = self.following.subscribe();
        let mut failure = self.failure.subscribe();
        let mut link = self.connection.watch();
        loop {
            let health = self.health();
            if is_wanted(&health) {
                return health;
            }
            // The senders live as long as this.
            tokio::select! {
                _ = following.changed() => {}
                _ = failure.changed() => {}
                _ = link.changed() => {}
            }
        }
    }

    /// Whether the log can be written, and new events are delivered.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn health(&self) -> Result<(), String> {
        if let Some(failure) = self.failure() {
            return Err(failure.to_string());
        }
        self.connection.health()?;
        match &*self.following.borrow() {
            Following::Down { since, why } => Err(format!("the log can't be followed since {since}: {why}")),
            Following::CatchingUp => {
                Err(format!("catching up with the log, at position {}", self.recent.head().position))
            }
            Following::CaughtUp { .. } => Ok(()),
        }
    }
}

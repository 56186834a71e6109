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
const RECENT: Bounds = Bounds { events: 16_384, bytes: 32 << 20, by_stream: true };

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
            connection: Connection::new(),
            recent: RecentEvents::new(empty, RECENT),
            index: Index::new(url.start),
            epoch: OnceLock::new(),
            new_epoch,
            resubscribe: Notify::new(),
            failure: watch::Sender::new(None),
            following: watch::Sender::new(Following::Down { since: now(), why }),
            url,
        }
    }

    /// Why the log takes no more writes in this process, and no further event gets a position.
    pub(super) fn failure(&self) -> Option<ReadError> {
        self.failure.borrow().clone()
    }

    /// Waits for the failure.
    pub(super) async fn failed(&self) -> ReadError {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // The sender lives as long as this.
            Ok(None) | Err(_) => ReadError::Unavailable("the log is closed".to_owned()),
        }
    }

    /// Ends the writes of this process and the numbering. The first failure stays.
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

    /// Waits until these events have been delivered; false where that took longer than `at_most` or the log has failed.
    pub(super) async fn wait_until_delivered(&self, events: &[(StreamName, Revision)], at_most: Duration) -> bool {
        let mut head = self.recent.watch();
        let all = async {
            for (stream, revision) in events {
                // The sender lives as long as this.
                let _ = head.wait_for(|head| self.is_delivered(stream, *revision, *head)).await;
            }
        };
        let in_time = tokio::select! {
            biased;
            in_time = tokio::time::timeout(at_most, all) => in_time.is_ok(),
            _ = self.failed() => false,
        };
        if !in_time && self.is_caught_up() {
            self.resubscribe.notify_one();
        }
        in_time
    }

    /// Whether the event has a position up to `head`.
    pub(super) fn is_delivered(&self, stream: &StreamName, revision: Revision, head: Position) -> bool {
        self.index.position(stream.as_str(), revision.0).is_some_and(|position| position <= head.0)
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

//! The state that the threads of a cluster's log share.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::client::CurrentClient;
use super::index::Index;
use super::url::StoreUrl;
use crate::store::recent::{Bounds, RecentEvents};
use crate::store::{Hash, Head, ReadError, StreamName, now};
use crate::task::{Position, Revision, Timestamp};

/// How many of the newest events stay in memory.
const RECENT_BOUNDS: Bounds = Bounds { events: 16_384, bytes: 32 << 20, by_stream: true };

/// The state of a cluster's log in this process: the client, the delivered events, the failure, and the state of the
/// subscription.
pub(super) struct ClusterState {
    pub(super) url: StoreUrl,
    pub(super) client: CurrentClient,
    /// The newest delivered events.
    pub(super) recent: RecentEvents,
    pub(super) index: Index,
    /// The id of the log; empty until the database has responded for the first time.
    pub(super) epoch: OnceLock<Uuid>,
    /// The id that the log gets if the database has no id for it yet.
    pub(super) new_epoch: Uuid,
    /// Notifies the follower that it must end its subscription and subscribe again.
    pub(super) resubscribe: Notify,
    failure: watch::Sender<Option<ReadError>>,
    subscription: watch::Sender<SubscriptionState>,
}

/// The state of the subscription to the log.
enum SubscriptionState {
    /// There is no subscription.
    Down { since: Timestamp, why: String },
    /// The subscription delivers events that were written before it began.
    CatchingUp,
    /// The subscription has delivered these events. `is_live` is false after the database has reported that the subscription
    /// has fallen behind.
    CaughtUp { is_live: bool },
}

impl ClusterState {
    pub(super) fn new(url: StoreUrl, new_epoch: Uuid) -> Self {
        let empty = Head { position: Position(0), hash: Hash::ZERO, time: None };
        let why = "not connected yet".to_owned();
        Self {
            client: CurrentClient::new(),
            recent: RecentEvents::new(empty, RECENT_BOUNDS),
            index: Index::new(url.read_after),
            epoch: OnceLock::new(),
            new_epoch,
            resubscribe: Notify::new(),
            failure: watch::Sender::new(None),
            subscription: watch::Sender::new(SubscriptionState::Down { since: now(), why }),
            url,
        }
    }

    /// The failure of the log, if there is one. After a failure the log takes no more writes in this process, and no further
    /// event gets a position.
    pub(super) fn failure(&self) -> Option<ReadError> {
        self.failure.borrow().clone()
    }

    /// Waits until the log has failed, and returns the failure.
    pub(super) async fn wait_for_failure(&self) -> ReadError {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // Not reached, because `self` holds the sender.
            Ok(None) | Err(_) => ReadError::Unavailable("the log is closed".to_owned()),
        }
    }

    /// Marks the log as failed until this process ends. If it has already failed, the first failure stays.
    pub(super) fn fail(&self, failure: ReadError) {
        self.failure.send_if_modified(|current| {
            let is_first = current.is_none();
            if is_first {
                tracing::error!("the log takes no more writes: {failure}");
                *current = Some(failure);
            }
            is_first
        });
    }

    /// Waits until these events were delivered to this server. Returns false if that takes longer than `timeout` or the log
    /// has failed. If it takes too long although the subscription has caught up, the follower subscribes again.
    pub(super) async fn wait_until_delivered(&self, events: &[(StreamName, Revision)], timeout: Duration) -> bool {
        let mut head = self.recent.head_changes();
        let all = async {
            for (stream, revision) in events {
                // There is no error, because `self` holds the sender.
                let _ = head.wait_for(|head| self.is_delivered(stream, *revision, *head)).await;
            }
        };
        let in_time = tokio::select! {
            biased;
            in_time = tokio::time::timeout(timeout, all) => in_time.is_ok(),
            _ = self.wait_for_failure() => false,
        };
        if !in_time && self.is_caught_up() {
            self.resubscribe.notify_one();
        }
        in_time
    }

    /// Whether the event was delivered and its position is not after `head`.
    pub(super) fn is_delivered(&self, stream: &StreamName, revision: Revision, head: Position) -> bool {
        self.index.position(stream.as_str(), revision.0).is_some_and(|position| position <= head.0)
    }

    /// Records that the subscription has ended. The beginning of the outage stays the same until there is a new
    /// subscription.
    pub(super) fn subscription_ended(&self, why: String) {
        self.subscription.send_modify(|state| {
            let since = if let SubscriptionState::Down { since, .. } = state { *since } else { now() };
            *state = SubscriptionState::Down { since, why };
        });
    }

    /// Records that the database has confirmed a new subscription.
    pub(super) fn subscription_confirmed(&self) {
        self.subscription.send_replace(SubscriptionState::CatchingUp);
    }

    /// Records that the subscription has delivered all events that exist.
    pub(super) fn subscription_caught_up(&self) {
        self.subscription.send_replace(SubscriptionState::CaughtUp { is_live: true });
    }

    /// Records that new events are written faster than the subscription delivers them.
    pub(super) fn subscription_fell_behind(&self) {
        self.subscription.send_modify(|state| {
            if let SubscriptionState::CaughtUp { is_live } = state {
                *is_live = false;
            }
        });
    }

    /// Whether this server receives every event as soon as it is written.
    pub(super) fn is_caught_up(&self) -> bool {
        matches!(*self.subscription.borrow(), SubscriptionState::CaughtUp { is_live: true })
    }

    /// Whether there is a subscription to the log.
    pub(super) fn is_subscribed(&self) -> bool {
        !matches!(*self.subscription.borrow(), SubscriptionState::Down { .. })
    }

    /// Waits until `is_wanted` is true for the health, and returns that health.
    pub(super) async fn wait_for_health(&self, is_wanted: impl Fn(&Result<(), String>) -> bool) -> Result<(), String> {
        let mut subscription = self.subscription.subscribe();
        let mut failure = self.failure.subscribe();
        let mut client = self.client.client_changes();
        loop {
            let health = self.health();
            if is_wanted(&health) {
                return health;
            }
            // There is no error, because `self` holds the senders.
            tokio::select! {
                _ = subscription.changed() => {}
                _ = failure.changed() => {}
                _ = client.changed() => {}
            }
        }
    }

    /// Whether the log can be written and this server receives new events.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) fn health(&self) -> Result<(), String> {
        if let Some(failure) = self.failure() {
            return Err(failure.to_string());
        }
        self.client.health()?;
        match &*self.subscription.borrow() {
            SubscriptionState::Down { since, why } => Err(format!("no subscription to the log since {since}: {why}")),
            SubscriptionState::CatchingUp => {
                Err(format!("catching up with the log, at position {}", self.recent.head().position))
            }
            SubscriptionState::CaughtUp { .. } => Ok(()),
        }
    }
}

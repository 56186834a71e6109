//! The frames of `GET /v1/live`, as text.

use serde::Serialize;
use uuid::Uuid;

use crate::task::{Position, TaskId, Timestamp};
use crate::views::{BellCounters, TaskDoc, Views};

use crate::dispatch::queue_and_offers::QueueAndOffers;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Frame<'a> {
    Hello {
        epoch: Uuid,
        position: Position,
        time: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        stale_since: Option<Timestamp>,
    },
    Snapshot {
        #[serde(flatten)]
        counters: &'a BellCounters,
    },
    Counters {
        previous: Position,
        #[serde(flatten)]
        counters: &'a BellCounters,
    },
    Tasks {
        position: Position,
        items: Vec<TaskDoc>,
    },
    TasksChanged {
        position: Position,
    },
    Beat {
        position: Position,
        time: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        stale_since: Option<Timestamp>,
    },
    Subscribed {
        position: Position,
    },
}

impl Frame<'_> {
    /// The frame as JSON. Serializing a frame can't fail: the keys of its maps are texts, and its floats are finite.
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The first frame on a socket. While the cluster can't be reached and the views may lack events, `stale_since` is set.
#[must_use]
pub fn hello(epoch: Uuid, position: Position, time: Timestamp, stale_since: Option<Timestamp>) -> String {
    Frame::Hello { epoch, position, time, stale_since }.text()
}

/// The counters. The client needs no earlier frames to use them.
#[must_use]
pub fn snapshot(counters: &BellCounters) -> String {
    Frame::Snapshot { counters }.text()
}

/// The counters after a change. `previous` is the position of the counters that were sent before. If the client's last counters
/// have another position, it has missed a frame.
#[must_use]
pub fn counters(previous: Position, counters: &BellCounters) -> String {
    Frame::Counters { previous, counters }.text()
}

/// These tasks, in the order of their creation. Ids of tasks that the views don't contain are ignored.
#[must_use]
pub fn tasks<'a>(
    views: &Views,
    ids: impl IntoIterator<Item = &'a TaskId>,
    queue_and_offers: &QueueAndOffers,
) -> String {
    let mut rows: Vec<_> = ids.into_iter().filter_map(|id| views.get(*id)).collect();
    rows.sort_by_key(|row| row.created_position());
    let items = rows
        .into_iter()
        .map(|row| row.doc(queue_and_offers.waiting_for(&row), views.live_progress(row.id())))
        .collect();
    Frame::Tasks { position: views.position(), items }.text()
}

/// More tasks have changed than a frame may contain. The client must request its page of tasks again.
#[must_use]
pub fn tasks_changed(position: Position) -> String {
    Frame::TasksChanged { position }.text()
}

/// Shows that the connection works. `stale_since` is as in [`hello`].
#[must_use]
pub fn beat(position: Position, time: Timestamp, stale_since: Option<Timestamp>) -> String {
    Frame::Beat { position, time, stale_since }.text()
}

/// Confirms a subscription. The client gets every change after this position.
#[must_use]
pub fn subscribed(position: Position) -> String {
    Frame::Subscribed { position }.text()
}

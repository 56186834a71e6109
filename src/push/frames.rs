//! The frames of `GET /v1/live`, as text.

use serde::Serialize;
use uuid::Uuid;

use crate::task::{Position, TaskId, Timestamp};
use crate::views::{Counters, TaskDoc, Views};

use crate::dispatch::capacity::Capacity;

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
        counters: &'a Counters,
    },
    Counters {
        previous: Position,
        #[serde(flatten)]
        counters: &'a Counters,
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
    /// Writing a frame as JSON can't fail: keys of maps are texts, and floats are finite.
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The first frame on a socket. `stale_since` is there while the views may lack events, because the cluster can't be reached.
#[must_use]
pub fn hello(epoch: Uuid, position: Position, time: Timestamp, stale_since: Option<Timestamp>) -> String {
    Frame::Hello { epoch, position, time, stale_since }.text()
}

/// The counts, independent of earlier frames.
#[must_use]
pub fn snapshot(counters: &Counters) -> String {
    Frame::Snapshot { counters }.text()
}

/// The counts that follow those at the position `previous`.
#[must_use]
pub fn counters(previous: Position, counters: &Counters) -> String {
    Frame::Counters { previous, counters }.text()
}

/// These tasks as the views show them, oldest first. Ids that the views don't know are left out.
#[must_use]
pub fn tasks<'a>(views: &Views, ids: impl IntoIterator<Item = &'a TaskId>, capacity: &Capacity) -> String {
    let mut rows: Vec<_> = ids.into_iter().filter_map(|id| views.get(*id)).collect();
    rows.sort_by_key(|row| row.created_position());
    let items = rows.into_iter().map(|row| row.doc(capacity.waiting_for(row), views.live_progress(row.id()))).collect();
    Frame::Tasks { position: views.position(), items }.text()
}

/// More tasks have changed than a frame lists: the client reads its page again.
#[must_use]
pub fn tasks_changed(position: Position) -> String {
    Frame::TasksChanged { position }.text()
}

/// Shows that the connection is alive, and whether the views are stale, as in [`hello`].
#[must_use]
pub fn beat(position: Position, time: Timestamp, stale_since: Option<Timestamp>) -> String {
    Frame::Beat { position, time, stale_since }.text()
}

/// The subscription is in effect for every change after this position.
#[must_use]
pub fn subscribed(position: Position) -> String {
    Frame::Subscribed { position }.text()
}

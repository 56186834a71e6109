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
    },
    Subscribed {
        position: Position,
    },
}

impl Frame<'_> {
    /// Nothing in a frame can fail to be written as JSON: there are no maps with other keys than text, and no floats
    /// but finite ones.
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The first frame on a socket.
#[must_use]
pub fn hello(epoch: Uuid, position: Position, time: Timestamp) -> String {
    Frame::Hello { epoch, position, time }.text()
}

/// The counts, whatever was told before.
#[must_use]
pub fn snapshot(counters: &Counters) -> String {
    Frame::Snapshot { counters }.text()
}

/// The counts after those that `previous` names.
#[must_use]
pub fn counters(previous: Position, counters: &Counters) -> String {
    Frame::Counters { previous, counters }.text()
}

/// These tasks, as they are now, oldest first.
#[must_use]
pub fn tasks<'a>(views: &Views, ids: impl IntoIterator<Item = &'a TaskId>, capacity: &Capacity) -> String {
    let mut rows: Vec<_> = ids.into_iter().filter_map(|id| views.get(*id)).collect();
    rows.sort_by_key(|row| row.created_position());
    let items = rows.into_iter().map(|row| row.doc(capacity.waiting(row), views.live_progress(row.id()))).collect();
    Frame::Tasks { position: views.position(), items }.text()
}

/// Too many changed to list them.
#[must_use]
pub fn tasks_changed(position: Position) -> String {
    Frame::TasksChanged { position }.text()
}

/// A sign of life.
#[must_use]
pub fn beat(position: Position, time: Timestamp) -> String {
    Frame::Beat { position, time }.text()
}

/// The answer to a subscribe.
#[must_use]
pub fn subscribed(position: Position) -> String {
    Frame::Subscribed { position }.text()
}

//! The counters of a bell. They are exact at every position of the log.

use std::collections::HashMap;
use std::sync::Arc;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::bytes::{Reader, Writer};
use super::counters::{Counts, count_transition, decrement};
use crate::task::{Position, Status};

/// How many final tasks are unseen. A task is unseen if its last `Completed` lies after the position up to which everything was
/// seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// Unseen tasks that are `succeeded`.
    pub succeeded: u64,
    /// Unseen tasks that are `failed`.
    pub failed: u64,
    /// Unseen tasks that are `cancelled`.
    pub cancelled: u64,
}

impl Unseen {
    /// How many tasks are unseen.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn total(self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    /// Counts one more task with this status; one that is not final is not counted.
    pub(super) const fn add(&mut self, status: Status) {
        if let Some(count) = self.counter(status) {
            *count += 1;
        }
    }

    /// Counts so many more tasks with this status.
    pub(super) const fn add_count(&mut self, status: Status, more: u64) {
        if let Some(count) = self.counter(status) {
            *count += more;
        }
    }

    /// Counts one task less with this status, which was counted before.
    pub(super) fn subtract(&mut self, status: Status) {
        if let Some(count) = self.counter(status) {
            decrement(count);
        }
    }

    /// These counts and one more task with this status.
    pub(super) const fn with(mut self, status: Status) -> Self {
        self.add(status);
        self
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
        }
    }

    /// The count of the tasks with this status; 0 for a status that is not final.
    pub(super) const fn of(mut self, status: Status) -> u64 {
        match self.counter(status) {
            Some(count) => *count,
            None => 0,
        }
    }

    const fn counter(&mut self, status: Status) -> Option<&mut u64> {
        match status {
            Status::Succeeded => Some(&mut self.succeeded),
            Status::Failed => Some(&mut self.failed),
            Status::Cancelled => Some(&mut self.cancelled),
            Status::Scheduled | Status::Queued | Status::Running | Status::Cancelling | Status::Retrying => None,
        }
    }
}

/// The counters of a bell. It shows the tasks of a [`Scope`](super::Scope): of one owner, of some, or of everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BellCounters {
    /// Position of the last event that the counters include.
    pub position: Position,
    /// How many tasks of the scope have each status.
    pub counts: Counts,
    /// How many tasks of the scope have ended after `seen`.
    pub unseen: Unseen,
    /// Everything was seen up to this position: by the owner if the scope is the tasks of one owner, else by the viewer.
    pub seen: Position,
}

/// Counts that serialize as an object, with the names of the statuses as keys.
#[derive(Clone, Copy, Debug)]
pub struct NamedCounts(pub Counts);

impl Serialize for NamedCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(Some(Status::ALL.len()))?;
        for status in Status::ALL {
            out.serialize_entry(status.name(), &self.0[status as usize])?;
        }
        out.end()
    }
}

impl Serialize for BellCounters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Counters", 4)?;
        out.serialize_field("position", &self.position)?;
        out.serialize_field("counts", &NamedCounts(self.counts))?;
        out.serialize_field("unseen", &self.unseen)?;
        out.serialize_field("seen", &self.seen)?;
        out.end()
    }
}

/// The tasks and the counters of one owner.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) name: Arc<str>,
    pub(super) counts: Counts,
    pub(super) unseen: Unseen,
    pub(super) seen: Position,
    /// Indexes of the owner's [counter keys](super::counters::CounterKey).
    pub(super) counter_key_indexes: Vec<usize>,
}

impl Owner {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            counts: Counts::default(),
            unseen: Unseen::default(),
            seen: Position(0),
            counter_key_indexes: Vec::new(),
        }
    }

    /// Counts a new task, or a change of a task's status.
    pub(super) fn count(&mut self, from: Option<Status>, to: Status) {
        count_transition(&mut self.counts, from, to);
    }

    /// Counts a run that ended at this position with this status, unless the owner has seen that position.
    pub(super) fn add_unseen(&mut self, status: Status, at: Position) {
        if at > self.seen {
            self.unseen.add(status);
        }
    }

    /// Undoes [`Owner::add_unseen`] for a run that ended at this position, because the task was retried.
    pub(super) fn remove_unseen(&mut self, status: Status, at: Position) {
        if at > self.seen {
            self.unseen.subtract(status);
        }
    }

    /// The owner has seen everything up to `position`. `unseen_after` counts the ends after it. Returns false if the owner had
    /// seen that much before.
    pub(super) fn mark_seen(&mut self, position: Position, unseen_after: impl FnOnce(&[usize]) -> Unseen) -> bool {
        if position <= self.seen {
            return false;
        }
        self.seen = position;
        self.unseen = unseen_after(&self.counter_key_indexes);
        true
    }
}

/// All owners. An owner's index never changes.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_name: HashMap<Arc<str>, usize>,
    pub(super) list: Vec<Owner>,
}

impl Owners {
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Owner> {
        self.list.get(*self.by_name.get(name)?)
    }

    /// Writes the names, and what the owners have seen.
    pub(super) fn put(&self, writer: &mut Writer) {
        writer.put(self.list.len() as u64);
        for owner in &self.list {
            writer.put_text(&owner.name);
            writer.put(owner.seen.0);
        }
    }

    /// Reads the owners, without tasks.
    pub(super) fn take(&mut self, reader: &mut Reader) -> Option<()> {
        for index in 0..reader.take_len()? {
            let (added, owner) = self.get_or_add(reader.take_text()?);
            owner.seen = Position(reader.take()?);
            if added != index {
                return None;
            }
        }
        Some(())
    }

    /// The index of the owner with this name, and the owner. Adds the owner if it is new.
    pub(super) fn get_or_add(&mut self, name: &str) -> (usize, &mut Owner) {
        let index = self.by_name.get(name).copied().unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            self.by_name.insert(Arc::clone(&name), self.list.len());
            self.list.push(Owner::new(name));
            self.list.len() - 1
        });
        (index, &mut self.list[index])
    }
}

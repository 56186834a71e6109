//! The bell: an owner's counters, exact at every position.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::blocks::RowBlocks;
use super::counters::{Counts, count_change, decrement};
use super::status_index::StatusIndex;
use crate::task::{Position, Status};

/// How many final tasks have their last `Completed` after the position up to which the owner has seen everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// The work is done.
    pub succeeded: u64,
    /// The work could not be done.
    pub failed: u64,
    /// The task was stopped on request.
    pub cancelled: u64,
}

impl Unseen {
    /// The sum of the three.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn total(self) -> u64 {
        self.succeeded + self.failed + self.cancelled
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

/// The counters of a bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The log position that the counters reflect.
    pub position: Position,
    /// Tasks by status, in the order of [`Status::ALL`].
    pub counts: Counts,
    /// Ends that the owner has not seen yet.
    pub unseen: Unseen,
    /// The owner has seen everything up to this position.
    pub seen: Position,
}

/// Counts as an object with a name for each status.
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

impl Serialize for Counters {
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
    /// Position and slot of each `Completed` after `seen`, oldest first. The entry of a task that was retried stays.
    ends: VecDeque<(Position, u32)>,
    pub(super) tasks: StatusIndex,
    /// Indexes of the owner's [counter keys](super::counters::CounterKey).
    pub(super) keys: Vec<usize>,
}

impl Owner {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            counts: Counts::default(),
            unseen: Unseen::default(),
            seen: Position(0),
            ends: VecDeque::new(),
            tasks: StatusIndex::of_owner(),
            keys: Vec::new(),
        }
    }

    /// Adds a new task; its rank.
    pub(super) fn add(&mut self, slot: u32, status: Status) -> usize {
        count_change(&mut self.counts, None, status);
        self.tasks.push(slot, status)
    }

    pub(super) fn change_status(&mut self, rank: usize, from: Status, to: Status) {
        count_change(&mut self.counts, Some(from), to);
        self.tasks.change_status(rank, Some(from), to);
    }

    /// Counts a run that ended at this position, unless the owner has seen it already.
    pub(super) fn add_unseen(&mut self, slot: u32, status: Status, at: Position) {
        if at > self.seen {
            self.ends.push_back((at, slot));
            if let Some(count) = self.unseen.counter(status) {
                *count += 1;
            }
        }
    }

    /// Takes back the count of a run that had ended at this position: the task runs again.
    pub(super) fn remove_unseen(&mut self, status: Status, at: Position) {
        if at > self.seen
            && let Some(count) = self.unseen.counter(status)
        {
            decrement(count);
        }
    }

    /// The owner has seen everything up to `position`. False where that is not more than before.
    pub(super) fn mark_seen(&mut self, position: Position, rows: &RowBlocks) -> bool {
        if position <= self.seen {
            return false;
        }
        self.seen = position;
        while let Some((at, slot)) = self.ends.pop_front_if(|(at, _)| *at <= position) {
            let Some(row) = rows.get(slot as usize).filter(|row| row.ended() == Some(at)) else { continue };
            if let Some(count) = self.unseen.counter(row.status()) {
                decrement(count);
            }
        }
        true
    }
}

/// All owners.
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

    /// The owner with this name and its index; adds the owner if it is new.
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

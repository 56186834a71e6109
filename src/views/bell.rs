//! The bell: an owner's counters, exact at every position.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::blocks::Blocks;
use super::lanes::Index;
use super::places::{Counts, count};
use crate::task::{Position, Status};

/// Final tasks whose last `Completed` lies after what the owner has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// Done.
    pub succeeded: u64,
    /// Could not be done.
    pub failed: u64,
    /// Stopped because somebody asked.
    pub cancelled: u64,
}

impl Unseen {
    /// All of them.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn total(self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    const fn of(&mut self, status: Status) -> Option<&mut u64> {
        match status {
            Status::Succeeded => Some(&mut self.succeeded),
            Status::Failed => Some(&mut self.failed),
            Status::Cancelled => Some(&mut self.cancelled),
            Status::Scheduled | Status::Queued | Status::Running | Status::Cancelling | Status::Retrying => None,
        }
    }
}

/// What a bell shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The log position that they reflect.
    pub position: Position,
    /// Tasks by status, in the order of [`Status::ALL`].
    pub counts: Counts,
    /// What is news.
    pub unseen: Unseen,
    /// Everything up to here has been seen.
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

/// All that is kept of one owner.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) name: Arc<str>,
    pub(super) counts: Counts,
    pub(super) unseen: Unseen,
    pub(super) seen: Position,
    /// Position and slot of each `Completed` after `seen`, oldest first; a task that was retried leaves its entry behind.
    ends: VecDeque<(Position, u32)>,
    pub(super) tasks: Index,
    /// Indices of the owner's places.
    pub(super) places: Vec<usize>,
}

impl Owner {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            counts: Counts::default(),
            unseen: Unseen::default(),
            seen: Position(0),
            ends: VecDeque::new(),
            tasks: Index::of_owner(),
            places: Vec::new(),
        }
    }

    pub(super) fn moved(&mut self, rank: usize, from: Option<Status>, to: Status) {
        count(&mut self.counts, from, to);
        if from.is_some() {
            self.tasks.moved(rank, from, to);
        }
    }

    /// A task ended there.
    pub(super) fn ended(&mut self, slot: u32, status: Status, at: Position) {
        if at > self.seen {
            self.ends.push_back((at, slot));
            if let Some(count) = self.unseen.of(status) {
                *count += 1;
            }
        }
    }

    /// A task that had ended there runs again.
    pub(super) fn reopened(&mut self, status: Status, at: Position) {
        if at > self.seen
            && let Some(count) = self.unseen.of(status)
        {
            *count -= 1;
        }
    }

    /// The owner has seen everything up to there; whether that is more than before.
    pub(super) fn see(&mut self, position: Position, rows: &Blocks) -> bool {
        if position <= self.seen {
            return false;
        }
        self.seen = position;
        while let Some((at, slot)) = self.ends.pop_front_if(|(at, _)| *at <= position) {
            let Some(row) = rows.get(slot as usize).filter(|row| row.ended() == Some(at)) else { continue };
            if let Some(count) = self.unseen.of(row.status()) {
                *count -= 1;
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

    /// The owner of this name and its index; a new one where it was not known.
    pub(super) fn known(&mut self, name: &str) -> (usize, &mut Owner) {
        let index = self.by_name.get(name).copied().unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            self.by_name.insert(Arc::clone(&name), self.list.len());
            self.list.push(Owner::new(name));
            self.list.len() - 1
        });
        (index, &mut self.list[index])
    }
}

//! The queued tasks, and whose turn it is.
//!
//! Each queue has a lane for each kind, in the order of turns. Tasks that share a `concurrency_key` stand in a line of
//! their own inside a lane, and only the first of each line stands in the lane itself, and only while its key has room:
//! so however many tasks wait behind a limit, whose turn it is costs a few look-ups in sorted maps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::limits::Running;
use super::{Limits, Name};
use crate::task::limits::is_own;
use crate::task::{Position, TaskId};
use crate::views::doc::Waiting;
use crate::views::row::Row;

/// Higher priority first, then the older task.
type Turn = (Reverse<i32>, Position);

/// Where a queued task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    queue: Name,
    kind: Name,
    key: Option<Name>,
    turn: Turn,
}

impl Spot {
    pub(super) fn of(row: &Row) -> Self {
        let key = row.counter_key();
        Self {
            queue: Name::clone(&key.queue),
            kind: Name::clone(&key.kind),
            key: row.concurrency_key().cloned(),
            turn: (Reverse(row.priority()), row.created_position()),
        }
    }
}

/// What somebody who works can take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Of these kinds; none: of any but this server's own.
    pub kinds: Option<Vec<String>>,
    /// From these queues; none: from any.
    pub queues: Option<Vec<String>>,
}

impl Wants {
    /// Whether such a task would do.
    #[must_use]
    pub fn include(&self, kind: &str, queue: &str) -> bool {
        let kind = self.kinds.as_ref().map_or(!is_own(kind), |kinds| kinds.iter().any(|name| name == kind));
        kind && self.queues.as_ref().is_none_or(|queues| queues.iter().any(|name| name == queue))
    }
}

/// The queued tasks of one queue and kind.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// The tasks without a key, and the lines whose key has room, at the turn of their first.
    turns: BTreeMap<Turn, Next>,
    /// By key, those that share it.
    lines: HashMap<Name, BTreeMap<Turn, TaskId>>,
}

#[derive(Clone, Debug)]
enum Next {
    Task(TaskId),
    FirstOf(Name),
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.lines.is_empty()
    }

    /// Puts this key's line into the lane, or takes it out.
    fn show(&mut self, key: &Name, room: bool) {
        let Some((turn, _)) = self.lines.get(key).and_then(BTreeMap::first_key_value) else { return };
        if room {
            self.turns.insert(*turn, Next::FirstOf(Name::clone(key)));
        } else {
            self.turns.remove(turn);
        }
    }

    /// Whose turn it is.
    fn first(&self) -> Option<(Turn, Option<Name>, TaskId)> {
        match self.turns.first_key_value()? {
            (turn, Next::Task(task)) => Some((*turn, None, *task)),
            (turn, Next::FirstOf(key)) => Some((*turn, Some(Name::clone(key)), *self.lines.get(key)?.get(turn)?)),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Queue {
    paused: bool,
    /// When it was served last, in servings.
    served: u64,
    lanes: HashMap<Name, Lane>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Ready {
    limits: Limits,
    queues: HashMap<Name, Queue>,
    /// The queues in which something waits, the one that was served the longest ago first.
    order: BTreeSet<(u64, Name)>,
    servings: u64,
    of_kind: Running,
    of_queue: Running,
    of_key: Running,
    /// By key, the lanes in which it has a line.
    lanes_of: HashMap<Name, HashSet<(Name, Name)>>,
}

impl Ready {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn insert(&mut self, spot: &Spot, task: TaskId) {
        let room = spot.key.as_ref().is_none_or(|key| self.key_has_room(key));
        let servings = self.servings;
        let queue = self.queues.entry(Name::clone(&spot.queue)).or_insert_with(|| Queue {
            // A queue that was empty has no claim on the turns that it didn't need.
            served: servings,
            ..Queue::default()
        });
        if queue.lanes.is_empty() {
            queue.served = queue.served.max(servings);
            self.order.insert((queue.served, Name::clone(&spot.queue)));
        }
        let lane = queue.lanes.entry(Name::clone(&spot.kind)).or_default();
        let Some(key) = &spot.key else {
            lane.turns.insert(spot.turn, Next::Task(task));
            return;
        };
        lane.show(key, false);
        lane.lines.entry(Name::clone(key)).or_default().insert(spot.turn, task);
        lane.show(key, room);
        let place = (Name::clone(&spot.queue), Name::clone(&spot.kind));
        self.lanes_of.entry(Name::clone(key)).or_default().insert(place);
    }

    pub(super) fn remove(&mut self, spot: &Spot) {
        let room = spot.key.as_ref().is_none_or(|key| self.key_has_room(key));
        let Some(queue) = self.queues.get_mut(&spot.queue) else { return };
        let Some(lane) = queue.lanes.get_mut(&spot.kind) else { return };
        lane.turns.remove(&spot.turn);
        if let Some(key) = &spot.key
            && let Some(line) = lane.lines.get_mut(key)
        {
            line.remove(&spot.turn);
            if line.is_empty() {
                lane.lines.remove(key);
                if let Some(places) = self.lanes_of.get_mut(key) {
                    places.remove(&(Name::clone(&spot.queue), Name::clone(&spot.kind)));
                    if places.is_empty() {
                        self.lanes_of.remove(key);
                    }
                }
            } else {
                lane.show(key, room);
            }
        }
        if lane.is_empty() {
            queue.lanes.remove(&spot.kind);
        }
        if queue.lanes.is_empty() {
            self.order.remove(&(queue.served, Name::clone(&spot.queue)));
            if !queue.paused {
                self.queues.remove(&spot.queue);
            }
        }
    }

    pub(super) fn started(&mut self, spot: &Spot) {
        self.of_kind.up(&spot.kind);
        self.of_queue.up(&spot.queue);
        if let Some(key) = &spot.key
            && self.of_key.up(key) == self.limits.of_key()
        {
            self.show(key, false);
        }
    }

    pub(super) fn stopped(&mut self, spot: &Spot) {
        self.of_kind.down(&spot.kind);
        self.of_queue.down(&spot.queue);
        if let Some(key) = &spot.key
            && self.of_key.down(key) + 1 == self.limits.of_key()
        {
            self.show(key, true);
        }
    }

    /// A key got room, or ran out of it.
    fn show(&mut self, key: &Name, room: bool) {
        for (queue, kind) in self.lanes_of.get(key).into_iter().flatten() {
            if let Some(lane) = self.queues.get_mut(queue).and_then(|queue| queue.lanes.get_mut(kind)) {
                lane.show(key, room);
            }
        }
    }

    fn key_has_room(&self, key: &str) -> bool {
        self.of_key.of(key) < self.limits.of_key()
    }

    pub(super) fn pause(&mut self, name: &str, paused: bool) {
        let queue = self.queues.entry(name.into()).or_default();
        queue.paused = paused;
        if !paused && queue.lanes.is_empty() {
            self.queues.remove(name);
        }
    }

    /// Takes out the task whose turn it is; it counts as running from now on.
    pub(super) fn next(&mut self, wants: &Wants) -> Option<(Spot, TaskId)> {
        let (spot, task) = match &wants.queues {
            None => self.order.iter().find_map(|(_, name)| self.first_of(name, wants)),
            Some(names) => {
                let known = names.iter().filter_map(|name| self.queues.get_key_value(name.as_str()));
                let mut known: Vec<_> = known.map(|(name, queue)| (queue.served, name)).collect();
                known.sort_unstable();
                known.into_iter().find_map(|(_, name)| self.first_of(name, wants))
            }
        }?;
        self.servings += 1;
        if let Some(queue) = self.queues.get_mut(&spot.queue) {
            self.order.remove(&(queue.served, Name::clone(&spot.queue)));
            queue.served = self.servings;
            self.order.insert((queue.served, Name::clone(&spot.queue)));
        }
        self.remove(&spot);
        self.started(&spot);
        Some((spot, task))
    }

    /// Whose turn it is in this queue.
    fn first_of(&self, name: &Name, wants: &Wants) -> Option<(Spot, TaskId)> {
        let queue = self.queues.get(name)?;
        if queue.paused || self.of_queue.of(name) >= self.limits.of_queue(name) {
            return None;
        }
        let first = |kind: &Name| {
            let room = self.of_kind.of(kind) < self.limits.of_kind(kind);
            let (turn, _) = queue.lanes.get(kind)?.turns.first_key_value()?;
            room.then(|| (*turn, Name::clone(kind)))
        };
        let (_, kind) = match &wants.kinds {
            None => queue.lanes.keys().filter(|kind| !is_own(kind)).filter_map(first).min(),
            Some(kinds) => {
                let lanes = kinds.iter().filter_map(|kind| queue.lanes.get_key_value(kind.as_str()));
                lanes.filter_map(|(kind, _)| first(kind)).min()
            }
        }?;
        let (turn, key, task) = queue.lanes.get(&kind)?.first()?;
        Some((Spot { queue: Name::clone(name), kind, key, turn }, task))
    }

    /// Why a queued task can't be offered.
    pub(super) fn obstacle(&self, spot: &Spot) -> Option<Waiting> {
        if self.queues.get(&spot.queue).is_some_and(|queue| queue.paused) {
            return Some(Waiting::Paused);
        }
        let full = self.of_queue.of(&spot.queue) >= self.limits.of_queue(&spot.queue)
            || self.of_kind.of(&spot.kind) >= self.limits.of_kind(&spot.kind)
            || spot.key.as_ref().is_some_and(|key| !self.key_has_room(key));
        full.then_some(Waiting::Limit)
    }
}

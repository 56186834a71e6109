//! THE READ SIDE: everything that anyone sees, as pure folds of the log. No clock, no IO, no async.
//!
//! [`Views::apply`] is the only way in; the same events give the same views, live, replayed, or as of any position.
//! What is not in the log (progress as a passing remark) stands in a table of its own and counts for nothing.
//!
//! Reading order: [`row`] and [`cancel`] (a task, and how an event changes it), [`doc`] (its JSON), [`bell`] (counters), [`pending`]
//! (what may run next), [`filter`], [`page`] and [`cursor`] (queries); `blocks`, `lanes` and `places` are how it is kept.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::store::{LogEvent, Recorded, StreamOf};
use crate::task::bell::BellEvent;
use crate::task::event::{Created, Progress};
use crate::task::{Event, Position, Status, TaskId, Timestamp};

pub mod bell;
mod blocks;
pub mod cancel;
pub mod cursor;
pub mod doc;
pub mod filter;
mod lanes;
pub mod page;
mod places;
mod query;
pub mod queues;
pub mod row;
pub mod run_queue;
pub mod schedules;

pub use bell::{Counters, NamedCounts, Unseen};
pub use cancel::Cancel;
pub use cursor::{Cursor, Order};
pub use doc::{TaskDoc, Waiting};
pub use filter::Filter;
pub use page::{Page, PageRequest};
pub use places::Counts;
pub use query::Snapshot;
pub use queues::Queues;
pub use row::Row;
pub use run_queue::{Limits, RunQueue, Timer, Wants};
pub use schedules::Schedules;

use bell::Owners;
use blocks::Blocks;
use lanes::Index;
use places::{Names, Places};

/// The keys of one caller: what each stands for, and the hash of its body.
type Keys = HashMap<Box<str>, (TaskId, Box<str>)>;

/// All views at one position of the log. One writer; readers share it behind a lock.
#[derive(Debug, Default)]
pub struct Views {
    position: Position,
    time: Option<Timestamp>,
    rows: Blocks,
    slots: HashMap<TaskId, u32>,
    all: Index,
    names: Names,
    owners: Owners,
    places: Places,
    idempotent: HashMap<Box<str>, Keys>,
    live: HashMap<TaskId, Progress>,
    queues: Queues,
    schedules: Schedules,
    children: HashMap<TaskId, Vec<TaskId>>,
    /// By owner, the tasks that are not final and have a unique key.
    unique: HashMap<usize, HashMap<Box<str>, TaskId>>,
}

/// What an event changed.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The task, where it was one of a known task.
    pub task: Option<Changed>,
    /// Whose counters or `seen` may have changed.
    pub owner: Option<Arc<str>>,
}

/// A task before and after an event.
#[derive(Clone, Debug)]
pub struct Changed {
    /// None where the event created it.
    pub before: Option<Row>,
    /// As it is now.
    pub after: Row,
}

impl Views {
    /// One more event of the log, in the order of its positions.
    pub fn apply(&mut self, recorded: &Recorded) -> Applied {
        self.position = recorded.position;
        self.time = Some(recorded.time);
        match (&recorded.event, recorded.stream.of()) {
            (LogEvent::Task(event), Some(StreamOf::Task(id))) => self.apply_task(id, event, recorded),
            (LogEvent::Bell(BellEvent::Seen(seen)), Some(StreamOf::Bell(owner))) => {
                let (_, owner) = self.owners.known(owner);
                let grew = owner.see(seen.position, &self.rows);
                Applied { task: None, owner: grew.then(|| Arc::clone(&owner.name)) }
            }
            (LogEvent::Queue(event), Some(StreamOf::Queue(name))) => {
                self.queues.apply(name, event, recorded);
                Applied::default()
            }
            (LogEvent::Schedule(event), Some(StreamOf::Schedule(id))) => {
                self.schedules.apply(id, event, recorded);
                Applied::default()
            }
            (LogEvent::Task(_) | LogEvent::Bell(_) | LogEvent::Queue(_) | LogEvent::Schedule(_), _) => {
                Applied::default()
            }
        }
    }

    fn apply_task(&mut self, id: TaskId, event: &Event, recorded: &Recorded) -> Applied {
        if let Some(slot) = self.slots.get(&id).copied() {
            let Some(row) = self.rows.get_mut(slot as usize) else { return Applied::default() };
            let before = row.clone();
            row.evolve(event, recorded, &mut self.names);
            let after = row.clone();
            let owner = self.settle(slot, &before, &after);
            return Applied { task: Some(Changed { before: Some(before), after }), owner };
        }
        match event {
            Event::Created(created) => self.create(id, created, recorded),
            Event::Queued(_)
            | Event::Started(_)
            | Event::CancelRequested(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::AttemptFailed(_)
            | Event::Released(_)
            | Event::OutputKept(_)
            | Event::Completed(_)
            | Event::Retried(_) => Applied::default(),
        }
    }

    fn create(&mut self, id: TaskId, created: &Created, recorded: &Recorded) -> Applied {
        let Ok(slot) = u32::try_from(self.rows.len()) else { return Applied::default() };
        let (owner_index, owner) = self.owners.known(&created.owner);
        let (place, is_new) = self.places.of((owner_index, &owner.name), created, &mut self.names);
        if is_new {
            owner.places.push(place.index);
        }
        let status = Status::at_birth(created);
        let rank = owner.tasks.push(slot, status);
        owner.moved(rank, None, status);
        let name = Arc::clone(&owner.name);
        self.places.moved(&place, None, status);
        self.all.push(slot, status);
        let row = Row::born(id, created, recorded, place, rank);
        self.rows.push(row.clone());
        self.slots.insert(id, slot);
        if let Some(parent) = created.parent {
            self.children.entry(parent).or_default().push(id);
        }
        self.hold_key(&row);
        if let Some(schedule) = created.schedule {
            self.schedules.fired(schedule, id);
        }
        if let Some(key) = &created.idempotency {
            let keys = self.idempotent.entry(recorded.meta.actor.as_str().into()).or_default();
            keys.entry(key.key.as_str().into()).or_insert_with(|| (id, key.body_hash.as_str().into()));
        }
        Applied { task: Some(Changed { before: None, after: row }), owner: Some(name) }
    }

    /// Brings everything that is kept beside the row in line with it; the owner where counters moved.
    fn settle(&mut self, slot: u32, before: &Row, after: &Row) -> Option<Arc<str>> {
        if !after.status().is_active() || after.attempt() != before.attempt() {
            self.live.remove(&after.id());
        }
        let (from, to) = (before.status(), after.status());
        if from == to {
            return None;
        }
        if from.is_final() != to.is_final() {
            self.hold_key(after);
        }
        self.places.moved(after.place(), Some(from), to);
        self.all.moved(slot as usize, Some(from), to);
        let owner = self.owners.list.get_mut(after.place().owner_index)?;
        owner.moved(after.rank(), Some(from), to);
        if let Some(at) = before.ended() {
            owner.reopened(from, at);
        }
        if let Some(at) = after.ended() {
            owner.ended(slot, to, at);
        }
        Some(Arc::clone(&owner.name))
    }

    /// A task that is not final holds its unique key; one that is has given it back.
    fn hold_key(&mut self, row: &Row) {
        let Some(key) = row.unique_key() else { return };
        let keys = self.unique.entry(row.place().owner_index).or_default();
        if !row.status().is_final() {
            keys.insert(key.into(), row.id());
        } else if keys.get(key) == Some(&row.id()) {
            keys.remove(key);
        }
    }

    /// The task of this owner that holds the unique key: it is not final.
    #[must_use]
    pub fn holder(&self, owner: &str, key: &str) -> Option<TaskId> {
        let owner = self.owners.index(owner)?;
        self.unique.get(&owner)?.get(key).copied()
    }

    /// The tasks that were created as children of this one, oldest first.
    #[must_use]
    pub fn children(&self, parent: TaskId) -> &[TaskId] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// The queues that are paused.
    #[must_use]
    pub const fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The queues that have or had tasks, by name, with their tasks by status.
    #[must_use]
    pub fn queue_counts(&self) -> BTreeMap<Arc<str>, Counts> {
        self.places.by_queue()
    }

    /// The schedules in force.
    #[must_use]
    pub const fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// All tasks, in the order in which they were created.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// A passing remark on a running attempt; the task, for those who watch it. Nothing where that attempt is over.
    pub fn note_progress(&mut self, task: TaskId, attempt: u32, progress: Progress) -> Option<Row> {
        let row = self.get(task).filter(|row| row.status().is_active() && row.attempt() == attempt)?.clone();
        self.live.insert(task, progress);
        Some(row)
    }

    /// What the running attempt of this task said last.
    #[must_use]
    pub fn live_progress(&self, task: TaskId) -> Option<&Progress> {
        self.live.get(&task)
    }

    /// Position of the last event.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Time of the last event.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The task of this id.
    #[must_use]
    pub fn get(&self, task: TaskId) -> Option<&Row> {
        self.rows.get(*self.slots.get(&task)? as usize)
    }

    /// How many tasks there are.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no task.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// What this owner's bell shows.
    #[must_use]
    pub fn counters(&self, owner: &str) -> Counters {
        let position = self.position;
        match self.owners.find(owner) {
            Some(owner) => Counters { position, counts: owner.counts, unseen: owner.unseen, seen: owner.seen },
            None => Counters { position, counts: Counts::default(), unseen: Unseen::default(), seen: Position(0) },
        }
    }

    /// The task that this caller's key stands for, and the hash of the body that it came with.
    #[must_use]
    pub fn find_idempotent(&self, caller: &str, key: &str) -> Option<(TaskId, &str)> {
        self.idempotent.get(caller)?.get(key).map(|(task, body_hash)| (*task, &**body_hash))
    }

    /// A hash of all that the log led to, in hexadecimal: equal views have equal digests, on every server. Live progress
    /// is not in the log, so not in here.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: String| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(format!("{} {:?}", self.position, self.time));
        for row in self.rows.iter() {
            add(serde_json::to_string(&row.doc(Waiting::Worker, None)).unwrap_or_default());
            add(format!("{} {:?}", row.created_position(), row.ended()));
        }
        let mut owners: Vec<&bell::Owner> = self.owners.list.iter().collect();
        owners.sort_unstable_by_key(|owner| &*owner.name);
        for owner in owners {
            add(format!("{} {:?} {:?} {}", owner.name, owner.counts, owner.unseen, owner.seen));
        }
        let mut idempotent: Vec<String> = Vec::new();
        for (caller, keys) in &self.idempotent {
            idempotent.extend(keys.iter().map(|(key, (task, hash))| format!("{caller:?} {key:?} {task} {hash:?}")));
        }
        idempotent.sort_unstable();
        idempotent.into_iter().for_each(&mut add);
        add(format!("{:?} {:?}", self.queues, self.schedules));
        hasher.finalize().to_hex().to_string()
    }
}

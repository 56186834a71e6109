//! THE READ SIDE: what clients see, as pure folds of the log. No clock, no IO, no async.
//!
//! Only [`Views::apply`] changes what comes from the log: the same events give the same views, whether they are applied live,
//! in a replay, or up to an earlier position. Progress reports of running attempts are not in the log; [`Views`] keeps them
//! in a table of their own, which no counter, filter or digest reads.
//!
//! Reading order: [`row`] and [`cancel`] (a task, and how an event changes it), [`doc`] (its JSON), [`bell`] (an owner's
//! counters), [`run_queue`] (what may run next), [`filter`], [`page`], [`cursor`] and `query` (lists). How the data is
//! stored: `blocks` (the rows), `status_index` (which tasks have which status), `counters` (how many tasks have which status).

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
mod counters;
pub mod cursor;
pub mod doc;
pub mod filter;
pub mod page;
mod query;
pub mod queues;
pub mod row;
pub mod run_queue;
pub mod schedules;
mod status_index;

pub use bell::{Counters, NamedCounts, Unseen};
pub use cancel::Cancel;
pub use counters::Counts;
pub use cursor::{Cursor, Order};
pub use doc::{TaskDoc, Waiting};
pub use filter::Filter;
pub use page::{Page, PageRequest, RowBudget};
pub use query::Snapshot;
pub use queues::Queues;
pub use row::Row;
pub use run_queue::{Limits, QueuePosition, RunQueue, Timer, WorkOffer};
pub use schedules::Schedules;

use bell::Owners;
use blocks::RowBlocks;
use counters::{Interner, StatusCounters};
use status_index::StatusIndex;

/// The idempotency keys of one caller: the task of each, and the hash of the request's body.
type IdempotencyKeys = HashMap<Box<str>, (TaskId, Box<str>)>;

/// All views at one position of the log. The projector writes them; readers share them behind a lock.
#[derive(Debug, Default)]
pub struct Views {
    position: Position,
    time: Option<Timestamp>,
    rows: RowBlocks,
    slots: HashMap<TaskId, u32>,
    all: StatusIndex,
    names: Interner,
    owners: Owners,
    counters: StatusCounters,
    /// By caller.
    idempotency_keys: HashMap<Box<str>, IdempotencyKeys>,
    /// The last progress report of each running attempt.
    live: HashMap<TaskId, Progress>,
    queues: Queues,
    schedules: Schedules,
    children: HashMap<TaskId, Vec<TaskId>>,
    /// By index of the owner and by unique key: the task with that key that is not final.
    unique_keys: HashMap<usize, HashMap<Box<str>, TaskId>>,
}

/// What an event changed.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The task that it changed; none for an event of another stream, or of a task whose `Created` is missing.
    pub task: Option<Changed>,
    /// The owner whose counters may have changed.
    pub owner: Option<Arc<str>>,
}

/// A task before and after an event.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The task before the event; none where the event created it.
    pub before: Option<Row>,
    /// The task after the event.
    pub after: Row,
}

impl Views {
    /// Applies one more event. Events must come in the order of their positions.
    pub fn apply(&mut self, recorded: &Recorded) -> Applied {
        self.position = recorded.position;
        self.time = Some(recorded.time);
        match (&recorded.event, recorded.stream.of()) {
            (LogEvent::Task(event), Some(StreamOf::Task(id))) => self.apply_task(id, event, recorded),
            (LogEvent::Bell(BellEvent::Seen(seen)), Some(StreamOf::Bell(owner))) => {
                let (_, owner) = self.owners.get_or_add(owner);
                let grew = owner.mark_seen(seen.position, &self.rows);
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
            let owner = self.follow_change(slot, &before, &after);
            return Applied { task: Some(Changed { before: Some(before), after }), owner };
        }
        let Event::Created(created) = event else { return Applied::default() };
        self.add_task(id, created, recorded)
    }

    fn add_task(&mut self, id: TaskId, created: &Created, recorded: &Recorded) -> Applied {
        let Ok(slot) = u32::try_from(self.rows.len()) else { return Applied::default() };
        let (owner_index, owner) = self.owners.get_or_add(&created.owner);
        let (key, is_new) = self.counters.key_of((owner_index, &owner.name), created, &mut self.names);
        if is_new {
            owner.keys.push(key.index);
        }
        let status = Status::initial(created);
        let rank = owner.add(slot, status);
        let name = Arc::clone(&owner.name);
        self.counters.count(&key, None, status);
        self.all.push(slot, status);
        let row = Row::new(id, created, recorded, key, rank);
        self.rows.push(row.clone());
        self.slots.insert(id, slot);
        if let Some(parent) = created.parent {
            self.children.entry(parent).or_default().push(id);
        }
        self.update_unique_key(&row);
        if let Some(schedule) = created.schedule {
            self.schedules.record_task(schedule, id);
        }
        if let Some(key) = &created.idempotency {
            let keys = self.idempotency_keys.entry(recorded.meta.actor.as_str().into()).or_default();
            keys.entry(key.key.as_str().into()).or_insert_with(|| (id, key.body_hash.as_str().into()));
        }
        Applied { task: Some(Changed { before: None, after: row }), owner: Some(name) }
    }

    /// Updates the indexes and counters after a row has changed; the owner whose counters have changed.
    fn follow_change(&mut self, slot: u32, before: &Row, after: &Row) -> Option<Arc<str>> {
        if !after.status().is_active() || after.attempt() != before.attempt() {
            self.live.remove(&after.id());
        }
        let (from, to) = (before.status(), after.status());
        if from == to {
            return None;
        }
        if from.is_final() != to.is_final() {
            self.update_unique_key(after);
        }
        self.counters.count(after.counter_key(), Some(from), to);
        self.all.change_status(slot as usize, Some(from), to);
        let owner = self.owners.list.get_mut(after.counter_key().owner_index)?;
        owner.change_status(after.rank(), from, to);
        if let Some(at) = before.ended() {
            owner.remove_unseen(from, at);
        }
        if let Some(at) = after.ended() {
            owner.add_unseen(slot, to, at);
        }
        Some(Arc::clone(&owner.name))
    }

    /// A task holds its unique key until it is final.
    fn update_unique_key(&mut self, row: &Row) {
        let Some(key) = row.unique_key() else { return };
        let keys = self.unique_keys.entry(row.counter_key().owner_index).or_default();
        if !row.status().is_final() {
            keys.insert(key.into(), row.id());
        } else if keys.get(key) == Some(&row.id()) {
            keys.remove(key);
        }
    }

    /// The task of this owner that holds the unique key; it is not final.
    #[must_use]
    pub fn holder(&self, owner: &str, key: &str) -> Option<TaskId> {
        let owner = self.owners.index(owner)?;
        self.unique_keys.get(&owner)?.get(key).copied()
    }

    /// Every unique key that a task holds: its owner, the key and the task.
    #[cfg(feature = "eventstore")]
    pub fn unique_keys(&self) -> impl Iterator<Item = (&str, &str, TaskId)> {
        self.unique_keys.iter().flat_map(|(owner, keys)| {
            let owner = self.owners.list.get(*owner);
            keys.iter().filter_map(move |(key, task)| Some((&*owner?.name, &**key, *task)))
        })
    }

    /// Every idempotency key: its caller, the key, the task and the hash of the request's body.
    #[cfg(feature = "eventstore")]
    pub fn idempotency_keys(&self) -> impl Iterator<Item = (&str, &str, TaskId, &str)> {
        self.idempotency_keys.iter().flat_map(|(caller, keys)| {
            keys.iter().map(move |(key, (task, body_hash))| (&**caller, &**key, *task, &**body_hash))
        })
    }

    /// The children of this task, oldest first.
    #[must_use]
    pub fn children(&self, parent: TaskId) -> &[TaskId] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// The paused queues.
    #[must_use]
    pub const fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The number of tasks by status of each queue that has or had tasks.
    #[must_use]
    pub fn queue_counts(&self) -> BTreeMap<Arc<str>, Counts> {
        self.counters.by_queue()
    }

    /// The schedules in force.
    #[must_use]
    pub const fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// All tasks, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// Keeps a progress report of a running attempt; the task, to be shown again. None where that attempt is over: the
    /// report is ignored.
    pub fn note_progress(&mut self, task: TaskId, attempt: u32, progress: Progress) -> Option<Row> {
        let row = self.get(task).filter(|row| row.status().is_active() && row.attempt() == attempt)?.clone();
        self.live.insert(task, progress);
        Some(row)
    }

    /// The last progress report of this task's running attempt.
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

    /// The task with this id.
    #[must_use]
    pub fn get(&self, task: TaskId) -> Option<&Row> {
        self.rows.get(*self.slots.get(&task)? as usize)
    }

    /// The number of tasks.
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

    /// The counters of this owner's bell.
    #[must_use]
    pub fn counters(&self, owner: &str) -> Counters {
        let position = self.position;
        match self.owners.find(owner) {
            Some(owner) => Counters { position, counts: owner.counts, unseen: owner.unseen, seen: owner.seen },
            None => Counters { position, counts: Counts::default(), unseen: Unseen::default(), seen: Position(0) },
        }
    }

    /// The task that this caller created with this idempotency key, and the hash of that request's body.
    #[must_use]
    pub fn find_idempotent(&self, caller: &str, key: &str) -> Option<(TaskId, &str)> {
        self.idempotency_keys.get(caller)?.get(key).map(|(task, body_hash)| (*task, &**body_hash))
    }

    /// A hash of everything that comes from the log, in hexadecimal: equal views have equal digests, on every server. Live
    /// progress is left out.
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
        let mut keys_of_callers: Vec<String> = Vec::new();
        for (caller, keys) in &self.idempotency_keys {
            keys_of_callers
                .extend(keys.iter().map(|(key, (task, hash))| format!("{caller:?} {key:?} {task} {hash:?}")));
        }
        keys_of_callers.sort_unstable();
        keys_of_callers.into_iter().for_each(&mut add);
        add(format!("{:?} {:?}", self.queues, self.schedules));
        hasher.finalize().to_hex().to_string()
    }
}

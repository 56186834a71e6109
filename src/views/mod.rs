//! THE READ SIDE: the tables that queries read. They are pure folds of the log: they read no clock, do no input or output and
//! are not async.
//!
//! Only [`Views::apply`] changes the data that comes from the log. The same events always lead to the same views, whether they
//! are applied when they are recorded or in a later replay. Progress reports of running attempts are not in the log. [`Views`]
//! stores them in a separate table, and no counter, filter or digest depends on them.
//!
//! Reading order: [`row`] and [`cancel`] (a task, and how an event changes it), [`doc`] (the JSON of a task), [`scope`] (whose
//! tasks), [`bell`] (their counters), [`run_queue`] (which task may run next), [`filter`], [`page`], [`cursor`] and `query`
//! (lists of tasks), `tally` (counters). How the data is stored: `blocks` (the rows), `status_index` (which tasks have which
//! status), `counters` (how many tasks have which status), `ends` (when the final tasks ended).

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::store::{Fact, LogEvent, StreamSubject};
use crate::task::bell::BellEvent;
use crate::task::event::{Created, Progress};
use crate::task::session::SessionEvent;
use crate::task::token::TokenEvent;
use crate::task::{Event, Position, Status, TaskId, Timestamp};

pub mod bell;
mod blocks;
pub mod cancel;
mod counters;
pub mod credentials;
pub mod cursor;
#[cfg(feature = "testing")]
mod digest;
pub mod doc;
mod ends;
pub mod filter;
mod key_page;
pub mod page;
mod query;
pub mod queues;
pub mod row;
pub mod run_queue;
pub mod schedules;
pub mod scope;
mod status_index;
mod tally;

pub use bell::{BellCounters, NamedCounts, Unseen};
pub use cancel::CancelView;
pub use counters::Counts;
pub use credentials::Credentials;
pub use cursor::{Cursor, Order};
pub use doc::{TaskDoc, WaitingFor};
pub use filter::Filter;
pub use page::{Page, PageRequest, RowBudget};
pub use query::Snapshot;
pub use queues::PausedQueues;
pub use row::Row;
pub use run_queue::{Limits, QueuePosition, RunQueue, Timer, WorkOffer};
pub use schedules::Schedules;
pub use scope::Scope;

use bell::Owners;
use blocks::RowBlocks;
use counters::{Interner, StatusCounters};
use ends::Ends;
use status_index::StatusIndex;

/// The idempotency keys of one caller. For each key: the task, and the hash of the request's body.
type IdempotencyKeys = HashMap<Box<str>, (TaskId, Box<str>)>;

/// All views at one position of the log. The projector writes them, and readers share them with a lock.
#[derive(Debug, Default)]
pub struct Views {
    /// Position of the last event.
    position: Position,
    /// Time of the last event.
    time: Option<Timestamp>,
    /// All tasks, in the order of their creation. The index of a row is its slot.
    rows: RowBlocks,
    /// The slot of each task.
    slots: HashMap<TaskId, u32>,
    /// The statuses of all tasks.
    all_tasks: StatusIndex,
    /// The names of kinds, queues and workers.
    names: Interner,
    owners: Owners,
    counters: StatusCounters,
    /// The ends of all tasks that are final.
    ends: Ends,
    /// The idempotency keys of each caller.
    idempotency_keys: HashMap<Box<str>, IdempotencyKeys>,
    /// The last progress report of each running attempt.
    live_progress: HashMap<TaskId, Progress>,
    paused_queues: PausedQueues,
    schedules: Schedules,
    credentials: Credentials,
    /// The children of each parent, in the order of their creation.
    children: HashMap<TaskId, Vec<TaskId>>,
    /// For each owner (by its index): the owner's unique keys, each with the task that holds it.
    unique_keys: HashMap<usize, HashMap<Box<str>, TaskId>>,
}

/// What an event has changed in the views.
#[derive(Clone, Debug, Default)]
pub struct EventEffect {
    /// The changed task. `None` if the event belongs to another kind of stream, or to a task whose `Created` is missing.
    pub task: Option<TaskChange>,
    /// The owner of the task or bell, if the event may have changed the owner's counters; else `None`.
    pub owner: Option<Arc<str>>,
    /// Whether the event has ended a credential.
    pub credentials: bool,
}

/// A task before and after an event.
#[derive(Clone, Debug)]
pub struct TaskChange {
    /// The task before the event; `None` if the event created the task.
    pub before: Option<Row>,
    /// The task after the event.
    pub after: Row,
}

impl Views {
    /// Applies the next event. Events must be applied in the order of their positions.
    pub fn apply(&mut self, recorded: &Fact) -> EventEffect {
        self.position = recorded.position;
        self.time = Some(recorded.time);
        match (&recorded.event, recorded.stream.subject()) {
            (LogEvent::Task(event), Some(StreamSubject::Task(id))) => self.apply_task(id, event, recorded),
            (LogEvent::Bell(BellEvent::Seen(seen)), Some(StreamSubject::Bell(owner))) => {
                let (_, owner) = self.owners.get_or_add(owner);
                let has_changed = owner.mark_seen(seen.position, &self.rows);
                EventEffect { owner: has_changed.then(|| Arc::clone(&owner.name)), ..EventEffect::default() }
            }
            (LogEvent::Queue(event), Some(StreamSubject::Queue(name))) => {
                self.paused_queues.apply(name, event, recorded);
                EventEffect::default()
            }
            (LogEvent::Schedule(event), Some(StreamSubject::Schedule(id))) => {
                self.schedules.apply(id, event, recorded);
                EventEffect::default()
            }
            (LogEvent::Token(event), Some(StreamSubject::Token(id))) => {
                self.credentials.apply_token(id, event, recorded);
                EventEffect { credentials: matches!(event, TokenEvent::TokenRevoked(_)), ..EventEffect::default() }
            }
            (LogEvent::Session(event), Some(StreamSubject::Session(id))) => {
                self.credentials.apply_session(id, event, recorded);
                EventEffect { credentials: matches!(event, SessionEvent::SessionEnded(_)), ..EventEffect::default() }
            }
            (
                LogEvent::Task(_)
                | LogEvent::Bell(_)
                | LogEvent::Queue(_)
                | LogEvent::Schedule(_)
                | LogEvent::Token(_)
                | LogEvent::Session(_),
                _,
            ) => EventEffect::default(),
        }
    }

    fn apply_task(&mut self, id: TaskId, event: &Event, recorded: &Fact) -> EventEffect {
        if let Some(slot) = self.slots.get(&id).copied() {
            let Some(row) = self.rows.get_mut(slot as usize) else { return EventEffect::default() };
            let before = row.clone();
            row.evolve(event, recorded, &mut self.names);
            let after = row.clone();
            let owner = self.update_after_change(slot, &before, &after);
            let task = Some(TaskChange { before: Some(before), after });
            return EventEffect { task, owner, credentials: false };
        }
        let Event::Created(created) = event else { return EventEffect::default() };
        self.add_task(id, created, recorded)
    }

    fn add_task(&mut self, id: TaskId, created: &Created, recorded: &Fact) -> EventEffect {
        let Ok(slot) = u32::try_from(self.rows.len()) else { return EventEffect::default() };
        let (owner_index, owner) = self.owners.get_or_add(&created.owner);
        let (counter_key, is_new) = self.counters.key_for((owner_index, &owner.name), created, &mut self.names);
        if is_new {
            owner.counter_key_indexes.push(counter_key.index);
        }
        let status = Status::initial(created);
        let index_in_owner = owner.add(slot, status);
        let owner_name = Arc::clone(&owner.name);
        self.counters.record_change(&counter_key, None, status);
        self.all_tasks.push(slot, status);
        let row = Row::new(id, created, recorded, counter_key, index_in_owner);
        self.rows.push(row.clone());
        self.slots.insert(id, slot);
        if let Some(parent) = created.parent {
            self.children.entry(parent).or_default().push(id);
        }
        self.update_unique_key(&row);
        if let Some(schedule) = created.schedule {
            self.schedules.record_task(schedule, id);
        }
        if let Some(idempotency) = &created.idempotency {
            let keys = self.idempotency_keys.entry(recorded.meta.actor.as_str().into()).or_default();
            let key = idempotency.key.as_str().into();
            keys.entry(key).or_insert_with(|| (id, idempotency.body_hash.as_str().into()));
        }
        let task = Some(TaskChange { before: None, after: row });
        EventEffect { task, owner: Some(owner_name), credentials: false }
    }

    /// Updates the indexes and counters after a row has changed. Returns the owner if the owner's counters have changed.
    fn update_after_change(&mut self, slot: u32, before: &Row, after: &Row) -> Option<Arc<str>> {
        if !after.status().is_active() || after.attempt() != before.attempt() {
            self.live_progress.remove(&after.id());
        }
        let (from, to) = (before.status(), after.status());
        if from == to {
            return None;
        }
        if from.is_final() != to.is_final() {
            self.update_unique_key(after);
        }
        self.counters.record_change(after.counter_key(), Some(from), to);
        self.all_tasks.change_status(slot as usize, Some(from), to);
        if let Some(at) = before.ended_position() {
            self.ends.remove(at);
        }
        if let Some(at) = after.ended_position() {
            self.ends.add(to, at);
        }
        let owner = self.owners.list.get_mut(after.counter_key().owner_index)?;
        owner.change_status(after.index_in_owner(), from, to);
        if let Some(at) = before.ended_position() {
            owner.remove_unseen(from, at);
        }
        if let Some(at) = after.ended_position() {
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

    /// The task of this owner that has this unique key and is not final.
    #[must_use]
    pub fn unique_key_holder(&self, owner: &str, key: &str) -> Option<TaskId> {
        let owner = self.owners.index(owner)?;
        self.unique_keys.get(&owner)?.get(key).copied()
    }

    /// All unique keys of tasks that are not final. Each item is the owner, the key and the task.
    #[cfg(feature = "eventstore")]
    pub fn unique_keys(&self) -> impl Iterator<Item = (&str, &str, TaskId)> {
        self.unique_keys.iter().flat_map(|(owner, keys)| {
            let owner = self.owners.list.get(*owner);
            keys.iter().filter_map(move |(key, task)| Some((&*owner?.name, &**key, *task)))
        })
    }

    /// All idempotency keys. Each item is the caller, the key, the task and the hash of the request's body.
    #[cfg(feature = "eventstore")]
    pub fn idempotency_keys(&self) -> impl Iterator<Item = (&str, &str, TaskId, &str)> {
        self.idempotency_keys.iter().flat_map(|(caller, keys)| {
            keys.iter().map(move |(key, (task, body_hash))| (&**caller, &**key, *task, &**body_hash))
        })
    }

    /// The children of this task, in the order of their creation.
    #[must_use]
    pub fn children(&self, parent: TaskId) -> &[TaskId] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// The paused queues.
    #[must_use]
    pub const fn paused_queues(&self) -> &PausedQueues {
        &self.paused_queues
    }

    /// For each queue that has or had tasks: how many tasks have each status.
    #[must_use]
    pub fn queue_counts(&self) -> BTreeMap<Arc<str>, Counts> {
        self.counters.by_queue()
    }

    /// The schedules that were not removed.
    #[must_use]
    pub const fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// The API tokens and the sessions.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// All tasks, in the order of their creation.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// Stores a progress report of a running attempt, and returns the task. If that attempt doesn't run, this ignores the
    /// report and returns `None`.
    pub fn set_live_progress(&mut self, task: TaskId, attempt: u32, progress: Progress) -> Option<Row> {
        let row = self.get(task).filter(|row| row.status().is_active() && row.attempt() == attempt)?.clone();
        self.live_progress.insert(task, progress);
        Some(row)
    }

    /// The last progress report of this task's running attempt.
    #[must_use]
    pub fn live_progress(&self, task: TaskId) -> Option<&Progress> {
        self.live_progress.get(&task)
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
    pub fn counters(&self, owner: &str) -> BellCounters {
        let position = self.position;
        match self.owners.find(owner) {
            Some(owner) => BellCounters { position, counts: owner.counts, unseen: owner.unseen, seen: owner.seen },
            None => BellCounters { position, counts: Counts::default(), unseen: Unseen::default(), seen: Position(0) },
        }
    }

    /// The task that this caller created with this idempotency key, and the hash of that request's body.
    #[must_use]
    pub fn task_of_idempotency_key(&self, caller: &str, key: &str) -> Option<(TaskId, &str)> {
        self.idempotency_keys.get(caller)?.get(key).map(|(task, body_hash)| (*task, &**body_hash))
    }
}

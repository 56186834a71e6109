//! THE READ SIDE: the tables that queries read. They are pure folds of the log: they read no clock, do no input or output and
//! are not async.
//!
//! Only [`Views::apply`] changes the data that comes from the log. The same events always lead to the same views, whether they
//! are applied when they are recorded or in a later replay. Progress reports of running attempts are not in the log. [`Views`]
//! stores them in a separate table, and no counter, filter or digest depends on them.
//!
//! Reading order: [`row`] and [`cancel`] (a task, and how an event changes it), [`doc`] (the JSON of a task), [`scope`] (whose
//! tasks), [`bell`] (their counters), [`run_queue`] (which task may run next), [`filter`], [`page`], [`cursor`] and `query`
//! (lists of tasks), `tally` (counters). How the data is stored: `blocks`, `block` and `packed` (the rows), `task_slots` (where
//! the row of a task is), `key_tasks` and `counters` (the tasks by owner, kind and queue), `status_index` (which tasks have
//! which status), `ends` (when the final tasks ended), `created_times` and `slot_range` (which tasks were created in a window
//! of time). How a query uses it: `selection` (which tasks it looks at), `scan` (how it reads many of them). [`saved`] writes the views into a file and reads
//! them back.

#![deny(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::store::{Fact, LogEvent, StreamSubject};
use crate::task::bell::BellEvent;
use crate::task::event::Progress;
use crate::task::session::SessionEvent;
use crate::task::token::TokenEvent;
use crate::task::{Position, Status, TaskId, Timestamp};

pub mod bell;
mod block;
mod blocks;
mod bytes;
pub mod cancel;
mod counters;
mod created_times;
pub mod credentials;
pub mod cursor;
pub mod digest;
pub mod doc;
mod ends;
pub mod filter;
mod key_page;
mod key_tasks;
mod packed;
pub mod page;
mod query;
pub mod queues;
pub mod row;
pub mod run_queue;
pub mod saved;
mod scan;
pub mod schedules;
pub mod scope;
mod selection;
mod slot_range;
mod status_index;
mod tally;
mod task_changes;
mod task_slots;

pub use bell::{BellCounters, NamedCounts, Unseen};
#[cfg(feature = "testing")]
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
pub use run_queue::{Limits, QueuePosition, RunQueue, WorkOffer};
pub use schedules::Schedules;
pub use scope::Scope;

use bell::Owners;
use block::Block;
use blocks::RowBlocks;
use counters::Interner;
use ends::Ends;
use key_tasks::StatusCounters;
use status_index::{StatusIndex, StatusSet};
use task_slots::TaskSlots;

/// The idempotency keys of one caller. For each key: the task, and the hash of the request's body.
type IdempotencyKeys = HashMap<Box<str>, (TaskId, Box<str>)>;

/// All views at one position of the log. The projector writes them, and readers share them with a lock.
#[derive(Debug, Default)]
pub struct Views {
    /// Position of the last event.
    position: Position,
    /// Time of the last event.
    time: Option<Timestamp>,
    /// The latest time of an event. The clocks of servers may step back, so it may be later than that of the last event.
    latest: Option<Timestamp>,
    /// All tasks, in the order of their creation. The index of a row is its slot.
    rows: RowBlocks,
    /// The slot of each task.
    slots: TaskSlots,
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
        self.latest = self.latest.max(self.time);
        match (&recorded.event, recorded.stream.subject()) {
            (LogEvent::Task(event), Some(StreamSubject::Task(id))) => self.apply_task(id, event, recorded),
            (LogEvent::Bell(BellEvent::Seen(seen)), Some(StreamSubject::Bell(owner))) => {
                let (_, owner) = self.owners.get_or_add(owner);
                let unseen_after = |keys: &[usize]| self.counters.ends_after(keys, seen.position);
                let has_changed = owner.mark_seen(seen.position, unseen_after);
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
    #[cfg(feature = "testing")]
    pub fn rows(&self) -> impl Iterator<Item = Cow<'_, Row>> {
        self.rows.iter().filter_map(block::RowRef::row)
    }

    /// The tasks whose attempt runs, in the order of their creation.
    pub fn active_rows(&self) -> impl Iterator<Item = Cow<'_, Row>> {
        let active = StatusSet::of(&[Status::Running, Status::Cancelling]);
        let list = self.all_tasks.list();
        let first = list.next_index(0, active);
        let slots = std::iter::successors(first, move |slot| list.next_index(slot + 1, active));
        slots.filter_map(|slot| self.rows.get(slot)?.row())
    }

    /// Stores a progress report of a running attempt, and returns the task. If that attempt doesn't run, this ignores the
    /// report and returns `None`.
    pub fn set_live_progress(&mut self, task: TaskId, attempt: u32, progress: Progress) -> Option<Row> {
        let row = self.get(task).filter(|row| row.status().is_active() && row.attempt() == attempt)?.into_owned();
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

    /// The latest time of an event.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// Time of the last event.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The task with this id.
    #[must_use]
    pub fn get(&self, task: TaskId) -> Option<Cow<'_, Row>> {
        self.rows.get(self.slot(task)?)?.row()
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

    /// Packs all rows that can be packed. Otherwise the views do so when many tasks follow.
    #[cfg(feature = "testing")]
    pub fn pack(&mut self) {
        self.rows.pack();
    }

    /// How many rows are packed.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn packed_rows(&self) -> usize {
        self.rows.packed_rows()
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

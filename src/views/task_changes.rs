//! How an event of a task changes the views: its row, the indexes and the counters.

use std::sync::Arc;

use super::block::RowRef;
use super::counters::CounterKey;
use super::row::Row;
use super::{EventEffect, TaskChange, Views};
use crate::store::Fact;
use crate::task::event::Created;
use crate::task::{Event, Status, TaskId};

impl Views {
    pub(super) fn apply_task(&mut self, id: TaskId, event: &Event, recorded: &Fact) -> EventEffect {
        if let Some(slot) = self.slot(id) {
            let names = &mut self.names;
            let change = self.rows.change(slot, |row| row.evolve(event, recorded, names));
            let Some((before, after)) = change else { return EventEffect::default() };
            let owner = self.update_after_change(slot, &before, &after);
            let task = Some(TaskChange { before: Some(before), after });
            return EventEffect { task, owner, credentials: false };
        }
        let Event::Created(created) = event else { return EventEffect::default() };
        self.add_task(id, created, recorded).unwrap_or_default()
    }

    pub(super) fn slot(&self, task: TaskId) -> Option<usize> {
        self.slots.find(task, |slot| self.rows.get(slot).and_then(RowRef::id) == Some(task))
    }

    /// The key with which the new task is counted.
    fn key_for(&mut self, created: &Created) -> Option<Arc<CounterKey>> {
        if let Some(key) = self.counters.find_key(created) {
            return Some(Arc::clone(key));
        }
        let (owner_index, owner) = self.owners.get_or_add(&created.owner);
        let key =
            self.counters.add_key((owner_index, &owner.name), (&created.kind, &created.queue), &mut self.names)?;
        owner.counter_key_indexes.push(key.index);
        Some(key)
    }

    /// Returns `None` if there is no room for more tasks.
    fn add_task(&mut self, id: TaskId, created: &Created, recorded: &Fact) -> Option<EventEffect> {
        let slot = u32::try_from(self.rows.len()).ok()?;
        let (key, status) = (self.key_for(created)?, Status::initial(created));
        let owner = self.owners.list.get_mut(key.owner_index)?;
        owner.count(None, status);
        let owner_name = Arc::clone(&owner.name);
        let index_in_list = self.counters.add_task(&key, slot, status);
        self.all_tasks.push(slot, status);
        let row = Row::new(id, created, recorded, key, index_in_list);
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
        Some(EventEffect { task, owner: Some(owner_name), credentials: false })
    }

    /// Updates the indexes and counters after a row has changed. Returns the owner if the owner's counters have changed.
    fn update_after_change(&mut self, slot: usize, before: &Row, after: &Row) -> Option<Arc<str>> {
        if !self.live_progress.is_empty() && (!after.status().is_active() || after.attempt() != before.attempt()) {
            self.live_progress.remove(&after.id());
        }
        let (from, to) = (before.status(), after.status());
        if from == to {
            return None;
        }
        if from.is_final() != to.is_final() {
            self.update_unique_key(after);
        }
        let key = after.counter_key();
        self.counters.change_status(key, after.index_in_list(), from, to);
        self.all_tasks.change_status(slot, Some(from), to);
        let owner = self.owners.list.get_mut(key.owner_index)?;
        owner.count(Some(from), to);
        let owner_name = Arc::clone(&owner.name);
        self.update_ends(before, after);
        Some(owner_name)
    }

    fn update_ends(&mut self, before: &Row, after: &Row) {
        let key = after.counter_key();
        let (Some(owner), Some(of_key)) = (self.owners.list.get_mut(key.owner_index), self.counters.ends_mut(key))
        else {
            return;
        };
        if let Some(at) = before.ended_position() {
            self.ends.remove(at);
            of_key.remove(at);
            owner.remove_unseen(before.status(), at);
        }
        if let (Some(at), Some(time)) = (after.ended_position(), after.finished_at()) {
            self.ends.add(after.status(), at, time);
            of_key.add(after.status(), at, time);
            owner.add_unseen(after.status(), at);
        }
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
}

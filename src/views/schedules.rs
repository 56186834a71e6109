//! The schedules that are in force, and when each of them last created a task.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::store::Recorded;
use crate::task::Timestamp;
use crate::task::schedule::{ScheduleCreated, ScheduleEvent};

/// A schedule in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// What was asked for.
    pub created: ScheduleCreated,
    /// When.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Box<str>,
}

/// The schedules in force, oldest first: their ids begin with the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedules(BTreeMap<Uuid, Scheduled>);

impl Schedules {
    /// The schedules in force, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &Scheduled)> {
        self.0.iter().map(|(id, scheduled)| (*id, scheduled))
    }

    /// The schedule of this id, while it is in force.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<&Scheduled> {
        self.0.get(&id)
    }

    pub(super) fn apply(&mut self, id: Uuid, event: &ScheduleEvent, recorded: &Recorded) {
        match event {
            ScheduleEvent::ScheduleCreated(created) => {
                let created_by = recorded.meta.actor.as_str().into();
                let created = Scheduled { created: (**created).clone(), created_at: recorded.time, created_by };
                self.0.insert(id, created);
            }
            ScheduleEvent::ScheduleRemoved(_) => _ = self.0.remove(&id),
        }
    }
}

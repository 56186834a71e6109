//! The schedules in force, and the nominal time of the last task that each of them created.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

use crate::store::Recorded;
use crate::task::calendar::nominal_time;
use crate::task::schedule::{ScheduleCreated, ScheduleEvent};
use crate::task::{TaskId, Timestamp};

/// A schedule in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// The schedule, as it was requested.
    pub created: Arc<ScheduleCreated>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The subject who created it.
    pub created_by: Box<str>,
    /// Id of its `ScheduleCreated`: the causation id of its tasks.
    pub event: Uuid,
    /// Correlation id of the request: that of its tasks, too.
    pub correlation_id: Uuid,
    /// The latest nominal time for which a task was created.
    pub last: Option<Timestamp>,
}

/// The schedules in force, oldest first: their ids begin with the time of creation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedules(BTreeMap<Uuid, Scheduled>);

impl Schedules {
    /// The schedules in force, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &Scheduled)> {
        self.0.iter().map(|(id, scheduled)| (*id, scheduled))
    }

    /// At most `limit` schedules in force whose ids come after `after`, in the order of their ids.
    pub fn page(&self, after: Option<Uuid>, limit: usize) -> impl Iterator<Item = (Uuid, &Scheduled)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range((start, Bound::Unbounded)).take(limit).map(|(id, scheduled)| (*id, scheduled))
    }

    /// The schedule of this id, while it is in force.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<&Scheduled> {
        self.0.get(&id)
    }

    pub(super) fn apply(&mut self, id: Uuid, event: &ScheduleEvent, recorded: &Recorded) {
        match event {
            ScheduleEvent::ScheduleCreated(created) => {
                let scheduled = Scheduled {
                    created: Arc::new((**created).clone()),
                    created_at: recorded.time,
                    created_by: recorded.meta.actor.as_str().into(),
                    event: recorded.id,
                    correlation_id: recorded.meta.correlation_id,
                    last: None,
                };
                self.0.insert(id, scheduled);
            }
            ScheduleEvent::ScheduleRemoved(_) => _ = self.0.remove(&id),
        }
    }

    /// A task of this schedule was created; the nominal time is in the id of the task.
    pub(super) fn record_task(&mut self, id: Uuid, task: TaskId) {
        if let Some(scheduled) = self.0.get_mut(&id) {
            scheduled.last = scheduled.last.max(nominal_time(task));
        }
    }
}

impl Scheduled {
    /// The instant up to which, according to the log, no task is left to create.
    #[must_use]
    pub fn passed(&self) -> Timestamp {
        self.last.map_or(self.created_at, |last| last.max(self.created_at))
    }
}

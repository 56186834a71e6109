//! The schedules that were not removed, and the nominal time of the last task that each of them created.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

use super::bytes::{Reader, Writer};
use crate::store::Fact;
use crate::task::calendar::nominal_time;
use crate::task::schedule::{ScheduleCreated, ScheduleEvent};
use crate::task::{TaskId, Timestamp};

/// A schedule that was not removed.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveSchedule {
    /// The request for the schedule.
    pub created: Arc<ScheduleCreated>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The subject who created it.
    pub created_by: Box<str>,
    /// The id of the event `ScheduleCreated`. The events of the schedule's tasks have it as their causation id.
    pub event_id: Uuid,
    /// The correlation id of the request for the schedule. The events of the schedule's tasks have the same one.
    pub correlation_id: Uuid,
    /// The latest nominal time for which the schedule has created a task.
    pub last_nominal: Option<Timestamp>,
}

/// The schedules that were not removed, in the order of their ids, which is the order of their creation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedules(BTreeMap<Uuid, ActiveSchedule>);

impl Schedules {
    /// The schedules in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &ActiveSchedule)> {
        self.0.iter().map(|(id, schedule)| (*id, schedule))
    }

    /// At most `limit` schedules whose ids come after `after`, in the order of their ids.
    pub fn page(&self, after: Option<Uuid>, limit: usize) -> impl Iterator<Item = (Uuid, &ActiveSchedule)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range((start, Bound::Unbounded)).take(limit).map(|(id, schedule)| (*id, schedule))
    }

    /// The schedule with this id; `None` if it was removed or never existed.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<&ActiveSchedule> {
        self.0.get(&id)
    }

    /// Returns `None` if a schedule can't be written as JSON.
    pub(super) fn put(&self, writer: &mut Writer) -> Option<()> {
        writer.put(self.0.len() as u64);
        for (id, schedule) in &self.0 {
            let ActiveSchedule { created, created_at, created_by, event_id, correlation_id, last_nominal } = schedule;
            writer.put_uuid(*id);
            writer.put_json(&**created)?;
            writer.put_time(*created_at);
            writer.put_text(created_by);
            writer.put_uuid(*event_id);
            writer.put_uuid(*correlation_id);
            writer.put_option(*last_nominal, Writer::put_time);
        }
        Some(())
    }

    pub(super) fn take(&mut self, reader: &mut Reader) -> Option<()> {
        let schedules = reader.take_list(|reader| {
            let id = reader.take_uuid()?;
            let schedule = ActiveSchedule {
                created: Arc::new(reader.take_json()?),
                created_at: reader.take_time()?,
                created_by: reader.take_text()?.into(),
                event_id: reader.take_uuid()?,
                correlation_id: reader.take_uuid()?,
                last_nominal: reader.take_option(Reader::take_time)?,
            };
            Some((id, schedule))
        })?;
        self.0 = schedules.into_iter().collect();
        Some(())
    }

    pub(super) fn apply(&mut self, id: Uuid, event: &ScheduleEvent, recorded: &Fact) {
        match event {
            ScheduleEvent::ScheduleCreated(created) => {
                let schedule = ActiveSchedule {
                    created: Arc::new((**created).clone()),
                    created_at: recorded.time,
                    created_by: recorded.meta.actor.as_str().into(),
                    event_id: recorded.id,
                    correlation_id: recorded.meta.correlation_id,
                    last_nominal: None,
                };
                self.0.insert(id, schedule);
            }
            ScheduleEvent::ScheduleRemoved(_) => _ = self.0.remove(&id),
        }
    }

    /// Records that this schedule has created a task. The id of the task contains its nominal time.
    pub(super) fn record_task(&mut self, id: Uuid, task: TaskId) {
        if let Some(schedule) = self.0.get_mut(&id) {
            schedule.last_nominal = schedule.last_nominal.max(nominal_time(task));
        }
    }
}

impl ActiveSchedule {
    /// The instant up to which the schedule has created its tasks, according to the log: the last nominal time with a task,
    /// or the creation of the schedule.
    #[must_use]
    pub fn handled_until(&self) -> Timestamp {
        self.last_nominal.map_or(self.created_at, |last| last.max(self.created_at))
    }
}

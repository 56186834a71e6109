//! A recurring task: when it is created, and what is created then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Decider;
use super::command::Rejection;
use super::event::Created;
use super::time::Timestamp;

/// The state of a `schedule-<uuid>` stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// What was asked for; none before that.
    pub created: Option<Box<ScheduleCreated>>,
    /// It creates nothing any more.
    pub removed: bool,
}

/// One fact of a schedule's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleEvent {
    /// Somebody asked for a task that comes again and again.
    ScheduleCreated(Box<ScheduleCreated>),
    /// It creates nothing any more; the tasks that it has created stay.
    ScheduleRemoved(ScheduleRemoved),
}

/// What becomes of the runs whose time passed while no server ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The latest of them is made up for, the others are not.
    #[default]
    RunOnce,
    /// They are left out.
    Skip,
    /// Each of them is made up for.
    RunAll,
}

/// See [`ScheduleEvent::ScheduleCreated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCreated {
    /// Five fields: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// IANA name of the time zone in which `cron` is read.
    pub time_zone: String,
    /// What becomes of missed runs.
    pub missed: Missed,
    /// What each task is created from.
    pub task: Template,
}

/// What each task of a schedule is created from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What sort of work; chooses the handler.
    pub kind: String,
    /// What people read.
    pub title: String,
    /// The subject who sees it.
    pub owner: String,
    /// What the handler gets.
    pub input: Value,
    /// Where it waits.
    pub queue: String,
    /// Higher goes first.
    pub priority: i32,
    /// How many attempts one run may take.
    pub max_attempts: u32,
    /// Bound on one attempt, in seconds.
    pub timeout_s: Option<u64>,
    /// Free words to filter by.
    pub labels: BTreeMap<String, String>,
    /// At most one task of the owner with this key is not final.
    pub unique_key: Option<String>,
    /// Tasks with this key share a limit.
    pub concurrency_key: Option<String>,
}

impl Template {
    /// The next task of this schedule.
    #[must_use]
    pub fn task(&self, schedule: Uuid) -> Created {
        let task = self.clone();
        Created {
            kind: task.kind,
            title: task.title,
            owner: task.owner,
            input: task.input,
            queue: task.queue,
            priority: task.priority,
            run_at: None,
            max_attempts: task.max_attempts,
            timeout_s: task.timeout_s,
            labels: task.labels,
            parent: None,
            unique_key: task.unique_key,
            concurrency_key: task.concurrency_key,
            schedule: Some(schedule),
            idempotency: None,
        }
    }
}

/// See [`ScheduleEvent::ScheduleRemoved`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRemoved {
    /// Why, in the words of who asked.
    pub reason: Option<String>,
}

/// An operator's wish.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleCommand {
    /// Have this task come again and again.
    Create(Box<ScheduleCreated>),
    /// Stop that.
    Remove {
        /// Why.
        reason: Option<String>,
    },
}

impl Decider for Schedule {
    type Command = ScheduleCommand;
    type Event = ScheduleEvent;

    /// What a template may hold is checked by who builds it: the rules of the cron expression need a time zone database.
    fn decide(&self, command: &ScheduleCommand, _now: Timestamp) -> Result<Vec<ScheduleEvent>, Rejection> {
        match (command, &self.created) {
            (ScheduleCommand::Create(new), None) => Ok(vec![ScheduleEvent::ScheduleCreated(new.clone())]),
            (ScheduleCommand::Create(_), Some(_)) => Err(Rejection::AlreadyExists),
            (ScheduleCommand::Remove { .. }, None) => Err(Rejection::NotFound),
            (ScheduleCommand::Remove { .. }, Some(_)) if self.removed => Ok(Vec::new()),
            (ScheduleCommand::Remove { reason }, Some(_)) => {
                Ok(vec![ScheduleEvent::ScheduleRemoved(ScheduleRemoved { reason: reason.clone() })])
            }
        }
    }

    fn evolve(&mut self, event: &ScheduleEvent) {
        match event {
            ScheduleEvent::ScheduleCreated(created) => self.created = Some(created.clone()),
            ScheduleEvent::ScheduleRemoved(_) => self.removed = true,
        }
    }
}

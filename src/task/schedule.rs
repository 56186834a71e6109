//! A recurring task: when it is created, and from which template.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Decider;
use super::command::Rejection;
use super::event::Created;
use super::json::JsonText;
use super::time::Timestamp;

/// The state of a `schedule-<uuid>` stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// The schedule, as it was requested; none before that.
    pub created: Option<Box<ScheduleCreated>>,
    /// Whether the schedule was removed.
    pub removed: bool,
}

/// One fact of a schedule's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleEvent {
    /// The schedule was created.
    ScheduleCreated(Box<ScheduleCreated>),
    /// The schedule creates no more tasks; those that it has created stay.
    ScheduleRemoved(ScheduleRemoved),
}

/// What happens to the runs whose time passed while no server ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// Only the latest is made up for.
    #[default]
    RunOnce,
    /// None is made up for.
    Skip,
    /// Each is made up for.
    RunAll,
}

/// See [`ScheduleEvent::ScheduleCreated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCreated {
    /// The cron expression. Five fields: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// IANA name of the time zone in which `cron` is read.
    pub time_zone: String,
    /// What happens to missed runs.
    pub missed: Missed,
    /// The template of each task.
    pub task: Template,
}

/// The template of a schedule's tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The kind of work; it chooses the handler.
    pub kind: String,
    /// The title, for people.
    pub title: String,
    /// The subject who sees the tasks.
    pub owner: String,
    /// The input of the handler.
    pub input: JsonText,
    /// The queue in which the tasks wait.
    pub queue: String,
    /// The priority: the higher one starts first.
    pub priority: i32,
    /// How many attempts one run may have.
    pub max_attempts: u32,
    /// How long one attempt may take, in seconds.
    pub timeout_s: Option<u64>,
    /// Free keys and values to filter by.
    pub labels: BTreeMap<String, String>,
    /// At most one task of the owner with this key is not final.
    pub unique_key: Option<String>,
    /// Tasks with this key share a limit.
    pub concurrency_key: Option<String>,
}

impl Template {
    /// The request for a task of this schedule.
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
    /// The reason, as the operator gave it.
    pub reason: Option<String>,
}

/// The command of an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleCommand {
    /// Create the schedule.
    Create(Box<ScheduleCreated>),
    /// Create no more tasks.
    Remove {
        /// The reason, for people.
        reason: Option<String>,
    },
}

impl Decider for Schedule {
    type Command = ScheduleCommand;
    type Event = ScheduleEvent;

    /// The caller checks the template and the cron expression: the latter needs the time zone database.
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

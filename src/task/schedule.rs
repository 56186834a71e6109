//! The rules of a schedule, which creates tasks from a template at the times of a cron expression.

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
    /// The request for the schedule; `None` before the event `ScheduleCreated`.
    pub created: Option<Box<ScheduleCreated>>,
    /// Whether the schedule was removed.
    pub removed: bool,
}

/// An event in the stream of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleEvent {
    /// The schedule was created.
    ScheduleCreated(Box<ScheduleCreated>),
    /// The schedule was removed and creates no more tasks. The tasks that it has created remain.
    ScheduleRemoved(ScheduleRemoved),
}

/// The policy for missed runs: for which of them a schedule creates tasks. A run is missed if it is late by more than a minute,
/// for whatever reason: no server was running, or the log accepted no writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// For the latest missed run.
    #[default]
    RunOnce,
    /// For no missed run.
    Skip,
    /// For each missed run.
    RunAll,
}

/// See [`ScheduleEvent::ScheduleCreated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCreated {
    /// The cron expression with five fields: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// The IANA name of the time zone to which the times of `cron` belong.
    pub time_zone: String,
    /// For which missed runs the schedule creates tasks.
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
    /// Keys and values that the client chooses. Lists can be filtered by them.
    pub labels: BTreeMap<String, String>,
    /// An owner has at most one task with this key that is not final.
    pub unique_key: Option<String>,
    /// A limit bounds how many tasks with this key run at the same time.
    pub concurrency_key: Option<String>,
}

impl Template {
    /// The request for a task that `schedule` creates from this template.
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

/// A command of an operator on a schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleCommand {
    /// Create the schedule.
    Create(Box<ScheduleCreated>),
    /// Remove the schedule.
    Remove {
        /// The reason, for people.
        reason: Option<String>,
    },
}

impl Decider for Schedule {
    type Command = ScheduleCommand;
    type Event = ScheduleEvent;

    /// This doesn't check the template and the cron expression; the caller does so before it sends the command.
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

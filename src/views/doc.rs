//! The JSON of a task in the HTTP API and the websocket. `doc` in a name stands for such a JSON document.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::cancel::{CancelView, Verdict};
use super::row::{Row, RunOutcome};
use crate::task::Status;
use crate::task::event::Progress;

/// Why a queued task has not started yet. The dispatcher computes it; it is not in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitingFor {
    /// No worker offers to execute the task.
    #[default]
    Worker,
    /// As many tasks run as a limit allows.
    Limit,
    /// The queue is paused.
    PausedQueue,
    /// The task waits for nothing and starts soon.
    Nothing,
}

impl WaitingFor {
    /// The name in the JSON; `None` if the task waits for nothing.
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Worker => Some("worker"),
            Self::Limit => Some("limit"),
            Self::PausedQueue => Some("paused"),
            Self::Nothing => None,
        }
    }
}

/// A task that serializes as the JSON of the HTTP API. A value that is absent serializes as null.
#[derive(Clone, Debug)]
pub struct TaskDoc {
    row: Row,
    waiting_for: WaitingFor,
    live_progress: Option<Progress>,
}

impl Row {
    /// The task as JSON. `waiting_for` is used only while the task is queued. `live_progress` is the last progress report of
    /// the running attempt; it is used only while an attempt runs.
    #[must_use]
    pub fn doc(&self, waiting_for: WaitingFor, live_progress: Option<&Progress>) -> TaskDoc {
        let live_progress = live_progress.filter(|_| self.status().is_active()).cloned();
        TaskDoc { row: self.clone(), waiting_for, live_progress }
    }
}

impl TaskDoc {
    /// The row of the task.
    #[must_use]
    pub const fn row(&self) -> &Row {
        &self.row
    }

    /// The value of `waiting_for` in the JSON: the name of what the task waits for.
    #[must_use]
    pub const fn waiting_for(&self) -> Option<&'static str> {
        match self.row.status() {
            Status::Scheduled => Some("run_at"),
            Status::Queued => self.waiting_for.name(),
            Status::Retrying => Some("retry_at"),
            Status::Running | Status::Cancelling | Status::Succeeded | Status::Failed | Status::Cancelled => None,
        }
    }
}

impl TaskDoc {
    /// The number of members that [`TaskDoc::serialize_members`] writes.
    pub const MEMBERS: usize = 25;

    /// Writes the members of the task's JSON. A document that begins with them can have further members.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize_members<S: SerializeStruct>(&self, out: &mut S) -> Result<(), S::Error> {
        let row = &self.row;
        let duration_ms = row.duration().map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let no_texts = RunOutcome::default();
        let outcome = row.outcome().or_else(|| row.status().is_final().then_some(&no_texts));
        out.serialize_field("id", &row.id())?;
        out.serialize_field("kind", row.kind())?;
        out.serialize_field("title", row.title())?;
        out.serialize_field("owner", row.owner())?;
        out.serialize_field("queue", row.queue())?;
        out.serialize_field("priority", &row.priority())?;
        out.serialize_field("labels", row.labels())?;
        out.serialize_field("parent", &row.parent())?;
        out.serialize_field("status", &row.status())?;
        out.serialize_field("waiting_for", &self.waiting_for())?;
        out.serialize_field("attempt", &row.attempt())?;
        out.serialize_field("max_attempts", &row.max_attempts())?;
        out.serialize_field("worker", &row.worker())?;
        out.serialize_field("created_at", &row.created_at())?;
        out.serialize_field("run_at", &row.run_at())?;
        out.serialize_field("started_at", &row.started_at())?;
        out.serialize_field("finished_at", &row.finished_at())?;
        out.serialize_field("duration_ms", &duration_ms)?;
        out.serialize_field("retry_at", &row.retry_at())?;
        out.serialize_field("timeout_s", &row.timeout_s())?;
        out.serialize_field("progress", &self.live_progress.as_ref().or_else(|| row.progress()))?;
        out.serialize_field("outcome", &outcome)?;
        out.serialize_field("cancel", &row.cancel())?;
        out.serialize_field("revision", &row.revision())?;
        out.serialize_field("position", &row.position())
    }
}

impl Serialize for TaskDoc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Task", Self::MEMBERS)?;
        self.serialize_members(&mut out)?;
        out.end()
    }
}

impl Serialize for RunOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Outcome", 2)?;
        out.serialize_field("message", &self.message)?;
        out.serialize_field("error", &self.error)?;
        out.end()
    }
}

impl Serialize for CancelView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Cancel", 8)?;
        out.serialize_field("requested_at", &self.requested_at)?;
        out.serialize_field("requested_by", &self.requested_by)?;
        out.serialize_field("reason", &self.reason)?;
        out.serialize_field("acknowledged_at", &self.acknowledged_at)?;
        out.serialize_field("stopping_after", &self.stopping_after)?;
        out.serialize_field("expected_end", &self.expected_end)?;
        out.serialize_field("rung", &self.rung)?;
        out.serialize_field("verdict", &self.verdict.map(Verdict::name))?;
        out.end()
    }
}

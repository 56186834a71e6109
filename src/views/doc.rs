//! The task as JSON, as the contract defines it.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::cancel::{Cancel, Verdict};
use super::row::{Row, RunOutcome};
use crate::task::Status;
use crate::task::event::Progress;

/// What a queued task waits for. The log doesn't say it; the dispatcher knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// For a worker that offers its kind.
    #[default]
    Worker,
    /// For a limit on how many tasks run at once.
    Limit,
    /// For its queue to be resumed.
    Paused,
    /// For nothing: it starts soon.
    Soon,
}

impl Waiting {
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Worker => Some("worker"),
            Self::Limit => Some("limit"),
            Self::Paused => Some("paused"),
            Self::Soon => None,
        }
    }
}

/// A task that serializes as the contract's JSON. Absent values are null, never left out.
#[derive(Clone, Debug)]
pub struct TaskDoc {
    row: Row,
    waiting: Waiting,
    live: Option<Progress>,
}

impl Row {
    /// The task as JSON. `waiting` is used only while the task is queued; `live` is the last progress report of its running
    /// attempt.
    #[must_use]
    pub fn doc(&self, waiting: Waiting, live: Option<&Progress>) -> TaskDoc {
        TaskDoc { row: self.clone(), waiting, live: live.filter(|_| self.status().is_active()).cloned() }
    }
}

impl TaskDoc {
    /// The row that the document shows.
    #[must_use]
    pub const fn row(&self) -> &Row {
        &self.row
    }

    /// What the task waits for, as the contract names it.
    #[must_use]
    pub const fn waiting_for(&self) -> Option<&'static str> {
        match self.row.status() {
            Status::Scheduled => Some("run_at"),
            Status::Queued => self.waiting.name(),
            Status::Retrying => Some("retry_at"),
            Status::Running | Status::Cancelling | Status::Succeeded | Status::Failed | Status::Cancelled => None,
        }
    }
}

impl Serialize for TaskDoc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = &self.row;
        let duration_ms = row.duration().map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let empty = RunOutcome::default();
        let outcome = row.outcome().or_else(|| row.status().is_final().then_some(&empty));
        let mut out = serializer.serialize_struct("Task", 25)?;
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
        out.serialize_field("progress", &self.live.as_ref().or_else(|| row.progress()))?;
        out.serialize_field("outcome", &outcome)?;
        out.serialize_field("cancel", &row.cancel())?;
        out.serialize_field("revision", &row.revision())?;
        out.serialize_field("position", &row.position())?;
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

impl Serialize for Cancel {
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

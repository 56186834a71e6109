//! A request to cancel, as a task's page shows it.

use std::time::Duration;

use crate::task::event::{
    CancelAcknowledged, CancelEscalated, CancelLadder, CancelRequested, Completed, Outcome, Rung,
};
use crate::task::{Position, Timestamp};

/// How a run ended after its cancel was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task stopped because of the request.
    Cancelled,
    /// The work was done before the request took effect.
    FinishedFirst,
    /// The work failed before the request took effect.
    FailedFirst,
    /// The system ended the run by force. It is not known whether its code has stopped.
    Forced,
}

impl Verdict {
    /// The name of the verdict in the JSON of the HTTP API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::FinishedFirst => "finished_first",
            Self::FailedFirst => "failed_first",
            Self::Forced => "forced",
        }
    }

    pub(super) const fn of(completed: &Completed) -> Self {
        match completed.outcome {
            Outcome::Succeeded => Self::FinishedFirst,
            Outcome::Failed => Self::FailedFirst,
            Outcome::Cancelled if completed.forced => Self::Forced,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// A request to cancel the present run, and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelView {
    /// Position of the event `CancelRequested` in the log.
    pub requested_position: Position,
    /// The cancel ladder of this request.
    pub policy: CancelLadder,
    /// When the cancel was requested.
    pub requested_at: Timestamp,
    /// The subject who requested it.
    pub requested_by: Box<str>,
    /// The reason that the subject gave.
    pub reason: Option<Box<str>>,
    /// When the worker first acknowledged the request.
    pub acknowledged_at: Option<Timestamp>,
    /// The step after which the worker stops, from the last acknowledgement.
    pub stopping_after: Option<Box<str>>,
    /// When that step is expected to end, from the last acknowledgement.
    pub expected_end: Option<Timestamp>,
    /// The highest rung that was reached.
    pub rung: Rung,
    /// When that rung was reached.
    pub rung_at: Timestamp,
    /// How the run ended; `None` while the run is not over.
    pub verdict: Option<Verdict>,
}

impl CancelView {
    pub(super) fn new(request: &CancelRequested, (position, at): (Position, Timestamp), by: &str) -> Self {
        Self {
            requested_position: position,
            policy: request.policy,
            requested_at: at,
            requested_by: by.into(),
            reason: request.reason.as_deref().map(Into::into),
            acknowledged_at: None,
            stopping_after: None,
            expected_end: None,
            rung: Rung::Ask,
            rung_at: at,
            verdict: None,
        }
    }

    pub(super) fn escalate(&mut self, escalated: &CancelEscalated, at: Timestamp) {
        self.rung = escalated.rung;
        self.rung_at = at;
    }

    /// The next rung, and when a timer goes on to it; `None` if no timer does so.
    #[must_use]
    pub fn next_rung(&self) -> Option<(Timestamp, Rung)> {
        let (after_ms, rung) = match self.rung {
            Rung::Ask => (self.policy.ask_for_ms?, Rung::Interrupt),
            Rung::Interrupt => (self.policy.interrupt_for_ms?, Rung::Revoke),
            Rung::Revoke => return None,
        };
        Some((self.rung_at.plus(Duration::from_millis(after_ms)), rung))
    }

    pub(super) fn acknowledge(&mut self, acknowledged: &CancelAcknowledged, at: Timestamp) {
        self.acknowledged_at = self.acknowledged_at.or(Some(at));
        self.stopping_after = acknowledged.stopping_after.as_deref().map(Into::into);
        self.expected_end = acknowledged.expected_end;
    }
}

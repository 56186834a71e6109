//! A request to cancel, as readers see it.

use std::time::Duration;

use crate::task::event::{
    CancelAcknowledged, CancelEscalated, CancelPolicy, CancelRequested, Completed, Outcome, Rung,
};
use crate::task::{Position, Timestamp};

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task stopped because of it.
    Cancelled,
    /// The work was done before the request took effect.
    FinishedFirst,
    /// The work failed before the request took effect.
    FailedFirst,
    /// The task was ended and nobody saw the code stop.
    Forced,
}

impl Verdict {
    /// Its name in the contract.
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

/// A request to cancel the present run, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Where in the log it was asked.
    pub requested: Position,
    /// The ladder in force.
    pub policy: CancelPolicy,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// Who asked.
    pub requested_by: Box<str>,
    /// Why.
    pub reason: Option<Box<str>>,
    /// When the worker first said that it had heard.
    pub acknowledged_at: Option<Timestamp>,
    /// The step that can't be interrupted, as the worker said last.
    pub stopping_after: Option<Box<str>>,
    /// When that step is expected to be over, as the worker said last.
    pub expected_end: Option<Timestamp>,
    /// The highest rung of the ladder that was reached.
    pub rung: Rung,
    /// When that was.
    pub rung_at: Timestamp,
    /// What became of it, once the run is over.
    pub verdict: Option<Verdict>,
}

impl Cancel {
    pub(super) fn asked(request: &CancelRequested, (requested, at): (Position, Timestamp), by: &str) -> Self {
        Self {
            requested,
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

    pub(super) fn climbed(&mut self, step: &CancelEscalated, at: Timestamp) {
        self.rung = step.rung;
        self.rung_at = at;
    }

    /// The next rung that comes by itself, and when; none where this one is for ever.
    #[must_use]
    pub fn next_rung(&self) -> Option<(Timestamp, Rung)> {
        let (after_ms, rung) = match self.rung {
            Rung::Ask => (self.policy.ask_for_ms?, Rung::Interrupt),
            Rung::Interrupt => (self.policy.interrupt_for_ms?, Rung::Revoke),
            Rung::Revoke => return None,
        };
        Some((self.rung_at.plus(Duration::from_millis(after_ms)), rung))
    }

    pub(super) fn heard(&mut self, said: &CancelAcknowledged, at: Timestamp) {
        self.acknowledged_at = self.acknowledged_at.or(Some(at));
        self.stopping_after = said.stopping_after.as_deref().map(Into::into);
        self.expected_end = said.expected_end;
    }
}

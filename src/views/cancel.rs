//! A request to cancel, as readers see it.

use crate::task::Timestamp;
use crate::task::event::{CancelAcknowledged, CancelRequested, Completed, Outcome, Rung};

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
    /// What became of it, once the run is over.
    pub verdict: Option<Verdict>,
}

impl Cancel {
    pub(super) fn asked(request: &CancelRequested, at: Timestamp, by: &str) -> Self {
        Self {
            requested_at: at,
            requested_by: by.into(),
            reason: request.reason.as_deref().map(Into::into),
            acknowledged_at: None,
            stopping_after: None,
            expected_end: None,
            rung: Rung::Ask,
            verdict: None,
        }
    }

    pub(super) fn heard(&mut self, said: &CancelAcknowledged, at: Timestamp) {
        self.acknowledged_at = self.acknowledged_at.or(Some(at));
        self.stopping_after = said.stopping_after.as_deref().map(Into::into);
        self.expected_end = said.expected_end;
    }
}

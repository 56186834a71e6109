//! One item in the body of `POST /v1/leases/finish`: the worker's report about the end of its attempt. The item is checked
//! here. The task's actor then decides whether the report is accepted.

use serde::Deserialize;

use super::token::LeaseToken;
use crate::http::limits::ValueLimits;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json::Object;
use crate::task::command::AttemptEnd;
use crate::task::event::{OutputKept, Progress, ReleasedReason, TaskError};
use crate::task::json::text::scanned_or_none;
use crate::task::limits::{NAME_MAX, OUTPUT_TAIL_MAX, TEXT_MAX, is_line};
use crate::task::{Command, Invalid, JsonText};

/// The worker's report about the end of its attempt.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishItem {
    lease: String,
    outcome: ReportedOutcome,
    message: Option<String>,
    #[serde(default, deserialize_with = "scanned_or_none")]
    result: Option<JsonText>,
    error: Option<Object<TaskError>>,
    retryable: Option<bool>,
    output: Option<Object<ReportedOutput>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReportedOutcome {
    Succeeded,
    Failed,
    Cancelled,
    Released,
}

/// The last bytes of the attempt's output, and how many bytes before them were dropped.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportedOutput {
    tail: String,
    #[serde(default)]
    dropped_bytes: u64,
}

impl FinishItem {
    /// Checks the report, and makes the command. `progress_of` returns the last progress of the lease's attempt.
    ///
    /// # Errors
    /// 413 `too_large`, 422.
    pub fn into_command(
        self,
        limits: &ValueLimits,
        progress_of: impl FnOnce(&LeaseToken) -> Option<Progress>,
    ) -> Result<(LeaseToken, Command), Problem> {
        let lease = LeaseToken::parse(&self.lease, "/lease")?;
        let invalid = self.violations();
        if !invalid.is_empty() {
            return Err(Problem::invalid(invalid));
        }
        self.result.as_ref().map_or(Ok(()), |result| limits.check_result(result))?;
        let Self { outcome, message, result, error, retryable, output, .. } = self;
        let end = match (outcome, error) {
            (ReportedOutcome::Failed, Some(Object(error))) => {
                AttemptEnd::Failed { error, retryable: retryable.unwrap_or(true) }
            }
            (ReportedOutcome::Succeeded, _) => AttemptEnd::Succeeded { message, result },
            (ReportedOutcome::Cancelled, _) => AttemptEnd::Cancelled { message, result },
            (ReportedOutcome::Released | ReportedOutcome::Failed, _) => {
                AttemptEnd::Released(ReleasedReason::HandedBack)
            }
        };
        let attempt = lease.attempt;
        let output = output.map(|output| output.0).filter(|output| !output.tail.is_empty());
        let output = output.map(|ReportedOutput { tail, dropped_bytes }| OutputKept { attempt, tail, dropped_bytes });
        let (lease_hash, progress) = (Some(lease.lease_hash.clone()), progress_of(&lease));
        Ok((lease, Command::Finish { attempt, lease_hash, end, progress, output }))
    }

    /// Returns the fields that are invalid or don't belong to the outcome.
    fn violations(&self) -> Vec<Invalid> {
        let mut violations = Vec::new();
        let mut require = |is_valid: bool, pointer: &str, detail: &str| {
            if !is_valid {
                violations.push(Invalid::new(pointer, detail));
            }
        };
        let may_have_result = matches!(self.outcome, ReportedOutcome::Succeeded | ReportedOutcome::Cancelled);
        let has_failed = self.outcome == ReportedOutcome::Failed;
        let is_line_or_none = |text: &Option<String>| text.as_ref().is_none_or(|text| is_line(text, TEXT_MAX));
        require(is_line_or_none(&self.message), "/message", "one line of 1 to 1024 bytes");
        require(
            may_have_result || self.message.is_none(),
            "/message",
            "only allowed with `succeeded` and `cancelled`; for a failure use `error.message`",
        );
        require(may_have_result || self.result.is_none(), "/result", "only allowed with `succeeded` and `cancelled`");
        require(has_failed == self.error.is_some(), "/error", "required with `failed`, not allowed otherwise");
        require(has_failed || self.retryable.is_none(), "/retryable", "only allowed with `failed`");
        if let Some(Object(TaskError { code, message })) = &self.error {
            require(is_line(code, NAME_MAX), "/error/code", "one line of 1 to 64 bytes");
            require(is_line(message, TEXT_MAX), "/error/message", "one line of 1 to 1024 bytes");
        }
        let tail = self.output.as_ref().map_or(0, |output| output.0.tail.len());
        require(tail <= OUTPUT_TAIL_MAX, "/output/tail", "at most 65536 bytes; send the end of the output");
        violations
    }
}

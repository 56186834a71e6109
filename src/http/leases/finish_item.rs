//! One item of a finish: how an attempt ended, by its worker's report, checked before the task's actor decides.

use serde::Deserialize;

use super::token::LeaseToken;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json::Object;
use crate::task::command::End;
use crate::task::event::{OutputKept, Progress, ReleasedReason, TaskError};
use crate::task::limits::{NAME_MAX, RESULT_MAX, TAIL_MAX, TEXT_MAX, is_line, is_within};
use crate::task::{Command, Invalid, JsonText};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishItem {
    lease: String,
    outcome: Outcome,
    message: Option<String>,
    result: Option<JsonText>,
    error: Option<Object<TaskError>>,
    retryable: Option<bool>,
    output: Option<Object<Output>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    Released,
}

/// The end of the attempt's output.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    tail: String,
    #[serde(default)]
    dropped_bytes: u64,
}

impl FinishItem {
    /// The lease, and a function that makes the command from the attempt's last progress.
    ///
    /// # Errors
    /// 413 `too_large`, 422.
    pub fn check(self) -> Result<(LeaseToken, impl FnOnce(Option<Progress>) -> Command), Problem> {
        let lease = LeaseToken::parse(&self.lease, "/lease")?;
        let invalid = self.rules();
        if !invalid.is_empty() {
            return Err(Problem::invalid(invalid));
        }
        if self.result.as_ref().is_some_and(|result| !is_within(result, RESULT_MAX)) {
            let errors = vec![Invalid::new("/result", format!("at most {RESULT_MAX} bytes as compact JSON"))];
            return Err(Problem { errors, ..Problem::too_large(format!("/result: more than {RESULT_MAX} bytes")) });
        }
        let Self { outcome, message, result, error, retryable, output, .. } = self;
        let end = match (outcome, error) {
            (Outcome::Failed, Some(Object(error))) => End::Failed { error, retryable: retryable.unwrap_or(true) },
            (Outcome::Succeeded, _) => End::Succeeded { message, result },
            (Outcome::Cancelled, _) => End::Cancelled { message, result },
            (Outcome::Released | Outcome::Failed, _) => End::Released(ReleasedReason::HandedBack),
        };
        let attempt = lease.attempt;
        let output = output.map(|output| output.0).filter(|output| !output.tail.is_empty());
        let output = output.map(|Output { tail, dropped_bytes }| OutputKept { attempt, tail, dropped_bytes });
        let hash = Some(lease.hash.clone());
        Ok((lease, move |progress| Command::Finish { attempt, lease: hash, end, progress, output }))
    }

    fn rules(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut rule = |holds: bool, pointer: &str, detail: &str| {
            if !holds {
                found.push(Invalid::new(pointer, detail));
            }
        };
        let ended = matches!(self.outcome, Outcome::Succeeded | Outcome::Cancelled);
        let failed = self.outcome == Outcome::Failed;
        let line = |text: &Option<String>| text.as_ref().is_none_or(|text| is_line(text, TEXT_MAX));
        rule(line(&self.message), "/message", "one line of 1 to 1024 bytes");
        rule(
            ended || self.message.is_none(),
            "/message",
            "goes with succeeded and cancelled; a failure has its error's",
        );
        rule(ended || self.result.is_none(), "/result", "goes with succeeded and cancelled");
        rule(failed == self.error.is_some(), "/error", "goes with failed, and failed needs it");
        rule(failed || self.retryable.is_none(), "/retryable", "goes with failed");
        if let Some(Object(TaskError { code, message })) = &self.error {
            rule(is_line(code, NAME_MAX), "/error/code", "one line of 1 to 64 bytes");
            rule(is_line(message, TEXT_MAX), "/error/message", "one line of 1 to 1024 bytes");
        }
        let tail = self.output.as_ref().map_or(0, |output| output.0.tail.len());
        rule(tail <= TAIL_MAX, "/output/tail", "at most 65536 bytes: the last of them");
        found
    }
}

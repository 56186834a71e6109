//! The reports of a worker about an attempt, within the limits of recorded events.

use super::attempt::Attempt;
use super::outcome::{Done, Failure};
use super::text::single_line;
use crate::task::command::AttemptEnd;
use crate::task::event::{Progress, TaskError};
use crate::task::limits::{DEPTH_MAX, NAME_MAX, RESULT_MAX, TEXT_MAX, has_valid_size_and_depth};
use crate::task::{Command, JsonText, Rejection};

/// Sends the reports about an attempt, by messages inside the process or over HTTP.
pub(in crate::work) trait Reporter: Send + Sync + 'static {
    /// Sends progress. The progress may be dropped, because the last one is sent again at the attempt's end: in the report of
    /// the end, or, by the remote worker, in a heartbeat before it.
    fn send_progress(&self, attempt: &Attempt, progress: Progress);

    /// Sends `command` repeatedly until it is recorded or finally refused, or until `should_give_up` returns true after
    /// a failed try. Returns true if the command was recorded or finally refused. After false, the log may still show the
    /// attempt as running.
    fn send_command(
        &self,
        attempt: &Attempt,
        command: Command,
        should_give_up: impl Fn() -> bool + Send,
    ) -> impl Future<Output = bool> + Send;

    /// Called when none of the attempt's code runs any more. `is_report_done` is true if the end needs no further report: it
    /// was recorded, it was finally refused, or the attempt is lost. If it is false, the log may still show the attempt as
    /// running, and it will get no end from this worker.
    fn attempt_stopped(&self, attempt: &Attempt, is_report_done: bool);
}

/// Makes the end that is recorded from the handler's result.
pub(in crate::work) fn end_from_result(returned: Result<Done, Failure>) -> AttemptEnd {
    match returned {
        Ok(Done { message, result }) => match result.as_ref().and_then(too_large) {
            Some(error) => AttemptEnd::Failed { error, retryable: false },
            None => AttemptEnd::Succeeded { message: message.and_then(|text| single_line(&text, TEXT_MAX)), result },
        },
        Err(Failure::Failed { code, message, retryable }) => {
            AttemptEnd::Failed { error: task_error(&code, &message), retryable }
        }
        // The handler has stopped as requested. So a result that is too large is dropped and doesn't make this a failure.
        Err(Failure::Cancelled { message, result }) => AttemptEnd::Cancelled {
            message: message.and_then(|text| single_line(&text, TEXT_MAX)),
            result: result.filter(|result| too_large(result).is_none()),
        },
    }
}

/// Makes an error whose code has at most 64 bytes and whose message has at most 1,024 bytes.
pub(in crate::work) fn task_error(code: &str, message: &str) -> TaskError {
    let code = single_line(code, NAME_MAX).unwrap_or_else(|| "failed".to_owned());
    let message = single_line(message, TEXT_MAX).unwrap_or_else(|| code.clone());
    TaskError { code, message }
}

/// Returns the error for a result that is too large.
fn too_large(result: &JsonText) -> Option<TaskError> {
    let message = format!("the result has more than {RESULT_MAX} bytes as compact JSON or {DEPTH_MAX} levels");
    (!has_valid_size_and_depth(result, RESULT_MAX)).then(|| task_error("result_too_large", &message))
}

/// If a finish with the outcome `cancelled` was rejected because nobody requested a cancel, returns a finish with the
/// outcome `failed`, because the handler has not done its work. Returns `None` for any other command or rejection.
pub(in crate::work) fn replace_unrequested_cancel(command: Command, rejection: &Rejection) -> Option<Command> {
    match (command, rejection) {
        (
            Command::Finish { attempt, lease_hash, end: AttemptEnd::Cancelled { .. }, progress, output },
            Rejection::NotCancelling,
        ) => {
            let error = task_error(
                "stopped_unasked",
                "the handler reported that it was cancelled, but no cancel was requested",
            );
            Some(Command::Finish {
                attempt,
                lease_hash,
                end: AttemptEnd::Failed { error, retryable: true },
                progress,
                output,
            })
        }
        _ => None,
    }
}
